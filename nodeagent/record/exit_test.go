package record

import (
	"fmt"
	"testing"
	"time"

	"brig/internal/sandbox"
)

func TestResolve(t *testing.T) {
	for _, tc := range []struct {
		status int
		ending sandbox.Reason
		oom    bool
		want   string
	}{
		{0, "", false, "0 exited"},
		{7, "", false, "7 exited"},
		{128, "", false, "128 exited"},
		{143, "", false, "143 signal"},
		{137, "", false, "137 signal"},
		{137, "", true, "137 oom"},
		{1, "", true, "1 exited"}, // a child was killed, the program was not
		{255, "", false, "255 exited"},
		{137, sandbox.ReasonTimeout, false, "124 timeout"},
		{0, sandbox.ReasonTimeout, false, "0 exited"}, // it was faster
		{137, sandbox.ReasonExecTimeout, false, "124 exec_timeout"},
		{137, sandbox.ReasonTerminated, false, "137 terminated"},
		{0, sandbox.ReasonTerminated, false, "137 terminated"}, // it obeyed SIGTERM
	} {
		e := Resolve(tc.status, time.Time{}, tc.ending, tc.oom)
		if got := fmt.Sprint(e.Code, " ", e.Reason); got != tc.want {
			t.Errorf("status %d, ending %q, oom %v: %s; want %s", tc.status, tc.ending, tc.oom, got, tc.want)
		}
	}
}
