// Nvidia-cdi-hook does to a container's root what a CDI specification asks of NVIDIA's
// program of that name, with its arguments and its standard input, and runs nothing for it:
//
//	nvidia-cdi-hook create-symlinks --link TARGET::LINK…
//	nvidia-cdi-hook update-ldcache --folder FOLDER…
//	nvidia-cdi-hook enable-cuda-compat --host-driver-version VERSION
//
// A runtime calls it as a createContainer hook, with the state of the container (JSON) on
// the standard input. A hook that it does not know is a warning, since specifications and
// programs are of different versions; a root that is not safe, or is made to be slow, is an
// error. See brig/hooks/operation.
//
// It is root in a mount namespace of the host's files, so it takes nothing from the
// environment, which a careless runtime may have filled from an image.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"syscall"
	"time"

	"brig/hooks/operation"
)

// patience is how long a hook may take. A file system of somebody else's may never answer.
const patience = time.Minute

func main() {
	time.AfterFunc(patience, func() {
		fmt.Fprintln(os.Stderr, "nvidia-cdi-hook: not done after", patience)
		os.Exit(1)
	})
	// What is made has the modes that it says, and no name is taken for a path from here.
	syscall.Umask(0o022)
	err := os.Chdir("/")
	if err == nil {
		err = run(os.Args, os.Stdin, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "nvidia-cdi-hook:", err)
		os.Exit(1)
	}
}

func run(args []string, state io.Reader, log io.Writer) error {
	o, err := operation.Parse(args)
	if errors.Is(err, operation.ErrUnknown) {
		_, err := fmt.Fprintln(log, "nvidia-cdi-hook: warning: left out:", err)
		return err
	}
	if err != nil || o == nil {
		return err
	}
	rootfs, err := rootOf(state)
	if err != nil {
		return fmt.Errorf("find the container's root: %w", err)
	}
	root, err := operation.OpenRoot(path.Clean(rootfs), nil)
	if err != nil {
		return err
	}
	return errors.Join(o.Apply(root), root.Close())
}
