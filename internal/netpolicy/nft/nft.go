// Package nft is a node's rule set in the kernel. It alone speaks nft.
//
// Render → Apply → Verify: what is to be loaded is text first, the same text for the
// same input (golden files show it); it is loaded in one transaction, so that no
// packet meets half of it; and what matters is read back from the kernel and
// compared before anybody relies on it.
//
// The rules stand in the transit namespace, tables inet brig and arp brig, and fail
// closed: base chains drop, and a packet of a sandbox passes only because a map
// leads from its link to the chain of its policy. Policies are named by their hash
// and shared; who refers to one is derived from the maps, never counted. A second
// table, in the host's namespace, does source NAT and shields the node's own
// services. Foreign tables are never touched.
//
// Nothing here locks: whoever changes the rules holds the node's network lock.
package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"brig/internal/netns"
)

// Namespace is where a rule set stands: the path of a network namespace, or "" for
// the caller's own.
type Namespace string

// Apply loads text in one transaction: all of it or nothing.
func (n Namespace) Apply(ctx context.Context, text string) error {
	_, err := n.run(ctx, text, "-f", "-")
	return err
}

// run executes nft in the namespace.
func (n Namespace) run(ctx context.Context, input string, args ...string) ([]byte, error) {
	path, err := binary()
	if err != nil {
		return nil, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	stdin, err := whole(input)
	if err != nil {
		return nil, err
	}
	defer stdin.Close()
	cmd.Stdin = stdin
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if n == "" {
		err = cmd.Run()
	} else {
		err = netns.Do(string(n), cmd.Run) // the child is cloned from this thread
	}
	if err != nil {
		return nil, &Error{Args: args, Message: firstLine(stderr.String()), err: err}
	}
	return stdout.Bytes(), nil
}

// whole is input as a file in memory. Down a pipe nft would take what a killed parent
// had written so far for all of it.
func whole(input string) (*os.File, error) {
	fd, err := unix.MemfdCreate("rules", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("keep rules in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "rules")
	if _, err := f.WriteString(input); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// binary finds nft also where PATH lacks the system's own folders, as in a shim.
func binary() (string, error) {
	for _, name := range []string{"nft", "/usr/sbin/nft", "/sbin/nft"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("nft is not installed; install the package nftables")
}

// Error is a failure of nft itself.
type Error struct {
	Args    []string
	Message string // its first line
	err     error
}

// Error names the command and nft's own words.
func (e *Error) Error() string {
	return fmt.Sprintf("nft %s: %v: %s", strings.Join(e.Args, " "), e.err, e.Message)
}

// Unwrap gives the exit status.
func (e *Error) Unwrap() error { return e.err }

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
