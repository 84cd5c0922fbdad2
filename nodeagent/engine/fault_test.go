package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
)

func TestProgramFault(t *testing.T) {
	for _, tc := range []struct {
		name string
		in   error
		want string
		is   func(error) bool
	}{
		{
			"a program that is not there",
			errdefs.ErrUnknown.WithMessage("start sandbox: runsc start sb-x: starting container: starting root container: starting sandbox: creating process: failed to load /nosuch: no such file or directory (exit status 128)"),
			`cannot run "prog" in this sandbox: failed to load /nosuch: no such file or directory`,
			errdefs.IsFailedPrecondition,
		},
		{
			"an exec that is not there",
			errdefs.ErrUnknown.WithMessage(`start exec x-1: containerManager.ExecuteAsync: error finding executable "nosuch" in PATH [/bin]: no such file or directory`),
			`cannot run "prog" in this sandbox: error finding executable "nosuch" in PATH [/bin]: no such file or directory`,
			errdefs.IsFailedPrecondition,
		},
		{
			"the gate",
			fmt.Errorf("start: %w", errdefs.ErrFailedPrecondition.WithMessage("a foreign link: no such file or directory")),
			"start: a foreign link: no such file or directory",
			errdefs.IsFailedPrecondition,
		},
		{
			"something else",
			errors.New("start: no such file or directory"),
			"start: no such file or directory",
			func(err error) bool { return !errdefs.IsFailedPrecondition(err) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := programFault([]string{"prog"}, tc.in)
			if got.Error() != tc.want || !tc.is(got) {
				t.Errorf("%v (%T)\nwant %s", got, got, tc.want)
			}
		})
	}
}
