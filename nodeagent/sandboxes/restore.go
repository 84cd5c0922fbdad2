package sandboxes

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"

	"brig/internal/failpoint"
	"brig/nodeagent/checkpoints"
	"brig/nodeagent/engine"
	"brig/nodeagent/record"
)

// origin is what a new sandbox goes on from; the zero value starts a program.
type origin struct {
	checkpoint *checkpoints.Manifest // nil: there is none, or what was made of it is on record
	digest     string                // of the image
	path       string                // of the checkpoint's image; empty: it is loaded already
	// release lets the checkpoint be removed again.
	release func()
}

// into adds it to what the engine makes.
func (o origin) into(s engine.Sandbox) engine.Sandbox {
	s.ImageDigest, s.Restore = o.digest, o.path
	return s
}

// restoring settles, before anything is made, whether a sandbox can go on from the
// checkpoint that r, which was checked, names, and fills in what it takes over from it: so that what is kept
// of the new sandbox, and what a repeated request is compared with, is complete.
func (m *Manager) restoring(ctx context.Context, uid uint32, r record.Request) (record.Request, origin, error) {
	none := origin{release: func() {}}
	if r.Checkpoint == "" {
		return r, none, nil
	}
	earlier, err := m.store.Requested(record.Record{Owner: uid, Request: r})
	if err != nil {
		return r, none, err
	}
	if earlier != nil && earlier.Request.Checkpoint == r.Checkpoint {
		return adoptedFrom(r, &earlier.Request), none, nil
	}
	c, err := m.checkpoints.Find(uid, r.Checkpoint)
	if err != nil {
		return r, none, err
	}
	if err := checkRestoredGPUs(r, c); err != nil {
		return r, none, err
	}
	if err := m.checkRestore(ctx, c); err != nil {
		return r, none, err
	}
	r = adopted(r, c)
	if err := r.CheckRestored(); err != nil {
		return r, none, err
	}
	none.checkpoint, none.digest = &c, c.ImageDigest
	return r, none, nil
}

// open reads the checkpoint through, if there is one, and keeps it from being removed.
func (m *Manager) open(ctx context.Context, o *origin) error {
	if o.checkpoint == nil || o.path != "" {
		return nil
	}
	path, release, err := m.checkpoints.Hold(ctx, *o.checkpoint)
	if err != nil {
		return err
	}
	failpoint.Hit("restore.held")
	o.path, o.release = path, release
	return nil
}

// checkRestoredLimits refuses limits that the kernel which was kept enforces, as it was
// told then. It comes before the node's defaults are filled in.
func checkRestoredLimits(r record.Request) error {
	if r.Checkpoint == "" {
		return nil
	}
	for name, said := range map[string]uint64{"resources.pids": r.Resources.PIDs, "resources.disk_mib": r.Resources.DiskMiB} {
		if said > 0 {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("%s cannot be given with from_checkpoint: it is the checkpoint's", name))
		}
	}
	return nil
}

// checkRestoredGPUs: what runs in the checkpoint has opened the devices that it had, and no
// others can be given to it.
func checkRestoredGPUs(r record.Request, c checkpoints.Manifest) error {
	if r.GPU == nil {
		return nil
	}
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("checkpoint %s was made of a sandbox without GPUs, and its programs could not use one: leave gpu out, or create from the image", c.Name))
}

func (m *Manager) checkRestore(ctx context.Context, c checkpoints.Manifest) error {
	host, err := checkpoints.ThisHost(ctx, m.cfg.Runsc.Path)
	if err != nil {
		return err
	}
	if err := c.Restorable(host); err != nil {
		return err
	}
	switch _, digest, err := m.runtime.Resolve(ctx, c.Image); {
	case errdefs.IsNotFound(err):
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("checkpoint %s reads the files of image %s (%s), which is not on this node any more: pull or import it", c.Name, c.Image, c.ImageDigest))
	case err != nil:
		return err
	case digest != c.ImageDigest:
		return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("checkpoint %s reads the files of image %s as it was (%s), which is another one by now (%s): take it anew", c.Name, c.Image, c.ImageDigest, digest))
	}
	return nil
}

// adopted is r with what is the checkpoint's.
func adopted(r record.Request, c checkpoints.Manifest) record.Request {
	r.Image, r.Argv, r.Env, r.Workdir, r.Mounts = c.Image, c.Program.Argv, c.Program.Env, c.Program.Workdir, c.Program.Mounts
	r.Stdin, r.TTY = c.Program.Stdin, c.Program.TTY
	r.Resources.PIDs, r.Resources.DiskMiB = c.Program.PIDs, c.Program.DiskMiB
	return r
}

// adoptedFrom is adopted by what an earlier sandbox of the same request took over: its
// checkpoint may have been removed since.
func adoptedFrom(r record.Request, earlier *record.Request) record.Request {
	r.Image, r.Argv, r.Env, r.Workdir, r.Mounts = earlier.Image, earlier.Argv, earlier.Env, earlier.Workdir, earlier.Mounts
	r.Stdin, r.TTY = earlier.Stdin, earlier.TTY
	r.Resources.PIDs, r.Resources.DiskMiB = earlier.Resources.PIDs, earlier.Resources.DiskMiB
	return r
}
