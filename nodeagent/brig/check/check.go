// Package check tries a node for real: it runs one sandbox and looks at it from
// inside and outside, so that an installer or an operator sees that isolation,
// names, tunnels and the network policy work on this machine. It must run on
// the node itself, since it listens on the node's addresses to prove that they
// cannot be reached. What it made it removes, also after a failure.
package check

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"brig/nodeagent/brig/client"

	brigv1 "brig/nodeagent/api/brig/v1"
	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// busybox is the one program that the image must hold; the steps use its
// applets sh, uname, dmesg, nslookup, nc and httpd.
const busybox = "/bin/busybox"

// port is where the sandbox serves HTTP.
const port = 8080

// Step is one thing tried.
type Step struct {
	Name   string `json:"step"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

// run is one check under way.
type run struct {
	c       *client.Client
	archive string
	token   string // what only this sandbox's web page says

	image   string
	fresh   bool // the image was not there before
	sandbox *brigv1.Sandbox
}

// Run tries the node behind c with the image in archive, an OCI archive that
// holds /bin/busybox, and tells report every step. Its error says only that
// some step failed.
func Run(ctx context.Context, c *client.Client, archive string, report func(Step)) error {
	r := &run{c: c, archive: archive, token: rand.Text()}
	failed := 0
	try := func(name string, step func(context.Context) (string, error)) bool {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		detail, err := step(ctx)
		if err != nil {
			detail = client.Describe(err)
			failed++
		}
		report(Step{Name: name, OK: err == nil, Detail: detail})
		return err == nil
	}
	defer func() {
		try("removed", func(context.Context) (string, error) { return r.remove(context.WithoutCancel(ctx)) })
	}()
	if try("image", r.load) && try("created", r.create) {
		try("kernel", r.kernel)
		try("exec", r.exec)
		try("name", r.resolve)
		try("tunnel", r.tunnel)
		try("blocked", r.blocked)
	}
	if failed > 0 {
		return fmt.Errorf("%d steps failed; brigd's log tells more", failed)
	}
	return nil
}

func (r *run) load(ctx context.Context) (string, error) {
	before, err := r.c.Images.List(ctx, connect.NewRequest(&brigv1.ImagesListRequest{}))
	if err != nil {
		return "", err
	}
	f, err := os.Open(r.archive)
	if err != nil {
		return "", err
	}
	defer f.Close()
	images, err := client.Import(ctx, r.c, f, func(uint64) {})
	if err != nil {
		return "", err
	}
	if len(images) == 0 {
		return "", fmt.Errorf("%s holds no image", r.archive)
	}
	r.image, r.fresh = images[0].GetName(), true
	for _, i := range before.Msg.GetImages() {
		r.fresh = r.fresh && i.GetName() != r.image
	}
	return fmt.Sprintf("%s, %s", r.image, images[0].GetDigest()), nil
}

func (r *run) create(ctx context.Context) (string, error) {
	script := fmt.Sprintf("%[1]s mkdir -p /tmp/www && echo %[2]s >/tmp/www/index.html && exec %[1]s httpd -f -p %[3]d -h /tmp/www",
		busybox, r.token, port)
	begun := time.Now()
	res, err := r.c.Sandboxes.Create(ctx, connect.NewRequest(&brigv1.CreateRequest{
		Image:   r.image,
		Argv:    []string{busybox, "sh", "-c", script},
		Ports:   []*brigv1.Port{{SandboxPort: port, Kind: brigv1.TunnelKind_TUNNEL_KIND_TLS}},
		Tags:    map[string]string{"brig": "check"},
		Timeout: durationpb.New(5 * time.Minute),
	}))
	if err != nil {
		return "", err
	}
	r.sandbox = res.Msg.GetSandbox()
	return fmt.Sprintf("%s from %s in %d ms, address %s",
		r.sandbox.GetId(), r.image, time.Since(begun).Milliseconds(), r.sandbox.GetAddress()), nil
}

// remove takes away what load and create made.
func (r *run) remove(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var errs []error
	if r.sandbox != nil {
		_, err := r.c.Sandboxes.Remove(ctx, connect.NewRequest(&brigv1.RemoveRequest{Sandbox: r.sandbox.GetId(), Force: true}))
		errs = append(errs, err)
	}
	if r.fresh {
		_, err := r.c.Images.Remove(ctx, connect.NewRequest(&brigv1.ImagesRemoveRequest{Image: r.image}))
		errs = append(errs, err)
	}
	return "the sandbox and what was imported for it", errors.Join(errs...)
}
