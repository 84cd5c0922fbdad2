package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"brig/nodeagent/brig/client"
	"brig/nodeagent/brig/progress"
	"brig/nodeagent/brig/terminal"
	"brig/nodeagent/brig/view"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"github.com/spf13/cobra"
)

func (a *app) imageLsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the node's images",
		Args:  positional(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			res, err := a.client().Images.List(cmd.Context(), connect.NewRequest(&brigv1.ImagesListRequest{}))
			if err != nil {
				return err
			}
			list := view.OfImages(res.Msg.GetImages())
			if a.json {
				return a.printJSON(list)
			}
			return view.Table(a.Out, view.ImageRows(list, time.Now()))
		},
	}
}

func (a *app) imagePullCommand() *cobra.Command {
	var login loginFlags
	cmd := &cobra.Command{
		Use:   "pull [flags] IMAGE",
		Short: "Fetch an image from its registry and print its name",
		Args:  positional(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			auth, err := login.auth(a.In)
			if err != nil {
				return err
			}
			image, err := a.pull(cmd.Context(), a.client(), &brigv1.PullRequest{Image: args[0], Auth: auth})
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(view.OfImage(image))
			}
			_, err = fmt.Fprintln(a.Out, image.GetName())
			return err
		},
	}
	login.register(cmd.Flags())
	return cmd
}

func (a *app) imageImportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE|-",
		Short: "Read images from an OCI or docker archive and print their names",
		Args:  positional(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, size := a.In, uint64(0)
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return err
				}
				defer f.Close()
				if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
					size = uint64(info.Size())
				}
				in = f
			}
			list, err := a.importImages(cmd.Context(), a.client(), in, size, args[0])
			if err != nil {
				return err
			}
			if a.json {
				return a.printJSON(view.OfImages(list))
			}
			for _, image := range list {
				fmt.Fprintln(a.Out, image.GetName())
			}
			return nil
		},
	}
}

// importImages sends an archive; brigd never opens a path of ours.
func (a *app) importImages(
	ctx context.Context, c *client.Client, in io.Reader, size uint64, label string,
) ([]*brigv1.Image, error) {
	meter := progress.Start(a.Err, terminal.Is(a.Err), "importing "+label)
	res, err := client.Import(ctx, c, in, func(sent uint64) { meter.Update(sent, size) })
	meter.End("")
	return res, err
}

func (a *app) imageRmCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "rm IMAGE...",
		Short: "Delete images; sandboxes made from them go on",
		Args:  positional(1, 1<<20),
		RunE: func(cmd *cobra.Command, args []string) error {
			c := a.client()
			return a.each(args, func(image string) (any, error) {
				_, err := c.Images.Remove(cmd.Context(), connect.NewRequest(&brigv1.ImagesRemoveRequest{Image: image}))
				return removed{image}, err
			})
		},
	}
}
