package defects

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// Defect 1.
func TestProgramsWithoutATerminalEnd(t *testing.T) {
	judge(t, func(ctx context.Context, n *node) error {
		p := sh("echo out; echo err >&2; exit 3")
		p.bare = true
		code, output, err := n.run(ctx, "a", p)
		if err == nil && (code != 3 || !strings.Contains(output, "out\n") || !strings.Contains(output, "err\n")) {
			err = fmt.Errorf("status %d, output %q", code, output)
		}
		return err
	})
}

// TestStartsWithoutCapSysResource is defect 2: the shim may not lower its OOM score.
func TestStartsWithoutCapSysResource(t *testing.T) {
	judgeOn(t, options{humble: true}, func(ctx context.Context, n *node) error {
		_, err := n.begin(ctx, "a", idle)
		return err
	})
}

// Defect 15.
func TestShortProgramsKeepTheirStatus(t *testing.T) {
	judge(t, func(ctx context.Context, n *node) error {
		for i := range 12 {
			code, output, err := n.run(ctx, fmt.Sprint("a", i), sh(fmt.Sprintf("echo %d; exit %d", i, i)))
			if err != nil {
				return err
			}
			if code != uint32(i) || output != fmt.Sprintln(i) {
				return fmt.Errorf("program %d: status %d, output %q", i, code, output)
			}
		}
		return nil
	})
}
