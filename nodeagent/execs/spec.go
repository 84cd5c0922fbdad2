package execs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/containerd/errdefs"

	"brig/nodeagent/record"
)

// Spec is a program to run. Start checks it.
type Spec struct {
	// ID is the client's own, which makes the start idempotent; empty: one is made up.
	ID string `json:"-"`
	// Keep the exec when the calls that hold it have ended.
	Keep    bool              `json:"keep,omitempty"`
	Argv    []string          `json:"argv"`
	Env     map[string]string `json:"env,omitempty"`
	Workdir string            `json:"workdir,omitempty"`
	// Timeout ends the program; 0: none.
	Timeout time.Duration `json:"timeout,omitempty"`
	TTY     bool          `json:"tty,omitempty"`
	Size    record.Size   `json:"-"` // of the terminal; zero: not known
	// Stdin will be written; without it the program's is empty.
	Stdin bool `json:"stdin,omitempty"`
	// Input digests the whole stdin, if it is known at the start.
	Input string `json:"input,omitempty"`
	// Block the program when output is not read, instead of dropping the oldest.
	Block bool `json:"block,omitempty"`
	// Late: whoever starts it reads nothing for a while, in which most have ended, so a
	// journal comes with its first byte. With Block alone.
	Late bool `json:"-"`
}

// The first character keeps apart what is a folder's name and what is not.
var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)

// checkID accepts a client's name for an exec.
func checkID(id string) error {
	if !idPattern.MatchString(id) {
		return invalid("invalid exec_id %.80q: use at most 64 of [A-Za-z0-9_.-], a letter or a digit first", id)
	}
	return nil
}

func (s Spec) check() error {
	if s.ID != "" {
		if err := checkID(s.ID); err != nil {
			return err
		}
	}
	if err := record.CheckArgv(s.Argv, true); err != nil {
		return err
	}
	if err := record.CheckEnv(s.Env); err != nil {
		return err
	}
	if err := record.CheckWorkdir(s.Workdir); err != nil {
		return err
	}
	if s.Timeout < 0 {
		return invalid("invalid timeout %v: want a positive duration", s.Timeout)
	}
	if s.Size != (record.Size{}) && !s.TTY {
		return invalid("size is that of a terminal: ask for a tty, or leave it out")
	}
	return nil
}

// digest tells two programs apart that carry the same id. What it digests may be secret,
// so it is all that is kept of it.
func (s Spec) digest() (string, error) {
	data, err := json.Marshal(s) // maps in the order of their keys
	if err != nil {
		return "", fmt.Errorf("digest of a program: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Digest of a whole stdin, for Spec.Input.
func Digest(stdin []byte) string {
	sum := sha256.Sum256(stdin)
	return hex.EncodeToString(sum[:])
}

func invalid(format string, args ...any) error {
	return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(format, args...))
}
