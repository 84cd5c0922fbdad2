package runsc

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// Checkpoint writes the sandbox into the empty folder image and lets it go on as it
// was: a paused one stays paused, and so does a sandbox whose checkpoint fails.
// (Without leave-running runsc would end it in both cases, with status 0.) Pages are
// not compressed, so that a restore maps them as they are; zero ones are left out.
func (r *Runsc) Checkpoint(ctx context.Context, id, bundle, image string) error {
	return r.run(ctx, r.command(ctx, bundle, "checkpoint", id, checkpointArgs(image)...), "checkpoint", id, bundle)
}

func checkpointArgs(image string) []string {
	return []string{"--image-path=" + image, "--leave-running", "--compression=none", "--exclude-committed-zero-pages"}
}

// Restore starts a created container from the image of its sandbox instead of its program.
// When it returns for the last container, all of the image has been read. One that joins
// gets its streams now, unless it has a terminal.
func (r *Runsc) Restore(ctx context.Context, id, bundle, image string, stdio *[3]*os.File) error {
	cmd := r.command(ctx, bundle, "restore", id, restoreArgs(image)...)
	if stdio != nil {
		setStdio(cmd, *stdio)
	}
	return r.run(ctx, cmd, "restore", id, bundle)
}

func restoreArgs(image string) []string {
	return []string{"--image-path=" + image, "--detach"}
}

// Version asks the binary what build it is.
func (r *Runsc) Version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, r.Binary, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask runsc for its version: %w", err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	version, ok := strings.CutPrefix(line, "runsc version ")
	if !ok || version == "" {
		return "", fmt.Errorf("ask runsc for its version: it says %q", line)
	}
	return version, nil
}
