package command

import (
	"context"
	"fmt"
	"strings"

	"brig/nodeagent/brig/client"
	"brig/nodeagent/brig/progress"
	"brig/nodeagent/brig/terminal"
	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/distribution/reference"
	"github.com/spf13/cobra"
)

func (a *app) createCommand() *cobra.Command {
	var flags createFlags
	cmd := &cobra.Command{
		Use:   "create [flags] IMAGE [-- ARGV...]",
		Short: "Make a sandbox and print its id",
		Long: "Make a sandbox from an image and print its id as the last line.\n\n" +
			"With ARGV that program runs in it, and its end is the sandbox's end; without, the sandbox idles\n" +
			"until its timeout, for execs. The image is pulled if it is not there. The image's own entrypoint\n" +
			"is not run. Unless told otherwise a sandbox may connect to public addresses and to no private ones.",
		Example: "  brig create --port 12345 IMAGE -- python3 -m http.server 12345\n" +
			"  brig create --memory 128 --cpu 0.5 --no-egress IMAGE",
		RunE: func(cmd *cobra.Command, args []string) error {
			req, err := flags.request(cmd, args)
			if err != nil {
				return err
			}
			sb, err := a.create(cmd.Context(), a.client(), req)
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(view.OfSandbox(sb))
			}
			_, err = fmt.Fprintln(a.Out, sb.GetId())
			return err
		},
	}
	flags.register(cmd, "drop")
	return cmd
}

// create pulls the image if the node lacks it, showing progress on stderr, and
// makes the sandbox.
func (a *app) create(ctx context.Context, c *client.Client, req *brigv1.CreateRequest) (*brigv1.Sandbox, error) {
	have := req.GetFromCheckpoint() != ""
	if !have {
		var err error
		if have, err = hasImage(ctx, c, req.GetImage()); err != nil {
			return nil, err
		}
	}
	if !have {
		if _, err := a.pull(ctx, c, &brigv1.PullRequest{Image: req.GetImage()}); err != nil {
			return nil, err
		}
	}
	res, err := c.Sandboxes.Create(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	return res.Msg.GetSandbox(), nil
}

// hasImage tells whether the node has image, by the name given or by its full
// form (docker.io/library/busybox:latest for busybox), or as a snapshot of the caller's.
func hasImage(ctx context.Context, c *client.Client, image string) (bool, error) {
	res, err := c.Images.List(ctx, connect.NewRequest(&brigv1.ImagesListRequest{}))
	if err != nil {
		return false, err
	}
	full := image
	if ref, err := reference.ParseDockerRef(image); err == nil {
		full = ref.String()
	}
	for _, i := range res.Msg.GetImages() {
		_, snapshot, _ := strings.Cut(strings.TrimPrefix(i.GetName(), "snapshot.brig/"), "/")
		if i.GetName() == image || i.GetName() == full || snapshot == image || snapshot == image+":latest" {
			return true, nil
		}
	}
	return false, nil
}

// pull fetches image and shows how far it is.
func (a *app) pull(ctx context.Context, c *client.Client, req *brigv1.PullRequest) (*brigv1.Image, error) {
	image := req.GetImage()
	stream, err := c.Images.Pull(ctx, connect.NewRequest(req))
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	meter := progress.Start(a.Err, terminal.Is(a.Err), "pulling "+image)
	var got *brigv1.Image
	for stream.Receive() {
		meter.Update(stream.Msg().GetDoneBytes(), stream.Msg().GetTotalBytes())
		if i := stream.Msg().GetImage(); i != nil {
			got = i
		}
	}
	if err := stream.Err(); err != nil {
		meter.End("")
		return nil, err
	}
	if got == nil {
		meter.End("")
		return nil, fmt.Errorf("pull of %s ended without an image; try again", image)
	}
	meter.End(fmt.Sprintf("pulled %s %s %s", got.GetName(), got.GetDigest(), view.Bytes(got.GetSize())))
	return got, nil
}
