package engine

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"
)

// gVisor says in words alone that a program cannot be run, and says it at the end of
// a long chain. Another wording costs the reader brevity and the class, nothing more.
var (
	chain     = regexp.MustCompile(`^.*(?:creating process: |ExecuteAsync: |Execute: )`)
	suffix    = regexp.MustCompile(` \(exit status \d+\)$`)
	noProgram = regexp.MustCompile(`failed to load |error finding executable |no such file or directory|permission denied|exec format error|not a directory|is a directory`)
)

// programFault makes of a failed start what the sandbox's owner can understand, if
// it is the program's fault; other errors stay what they are.
func programFault(argv []string, err error) error {
	text := err.Error()
	if !errdefs.IsUnknown(err) || !chain.MatchString(text) || !noProgram.MatchString(text) {
		return err
	}
	name := Guest("brig-idle")
	if len(argv) > 0 {
		name = argv[0]
	}
	text = suffix.ReplaceAllString(chain.ReplaceAllString(text, ""), "")
	return errdefs.ErrFailedPrecondition.WithMessage(fmt.Sprintf("cannot run %q in this sandbox: %s", name, strings.TrimSpace(text)))
}
