package record

import (
	"time"

	"brig/internal/sandbox"
)

// killed is the status of a program that SIGKILL ended.
const killed = 128 + 9

// StatusExit reads the status of a program that nobody but itself or a signal from
// outside brigd ended. A shim reports one number, so a program that exits with 137
// by itself is taken for killed, as a shell would.
func StatusExit(status int, at time.Time) Exit {
	if status > 128 && status <= 128+64 {
		return Exit{Code: status, Reason: sandbox.ReasonSignal, At: at}
	}
	return Exit{Code: status, Reason: sandbox.ReasonExited, At: at}
}

// Resolve reads the status of a sandbox's program: ending is why brigd was about to
// end it, if it was; oom tells that the kernel did. A program that was faster than
// brigd's SIGKILL keeps its own status.
func Resolve(status int, at time.Time, ending sandbox.Reason, oom bool) Exit {
	byForce := status == killed || status == 128+15
	switch {
	case oom && status == killed:
		return Exit{Code: killed, Reason: sandbox.ReasonOOM, At: at}
	case ending == sandbox.ReasonTerminated:
		return Exit{Code: killed, Reason: ending, At: at}
	case ending != "" && byForce:
		return Exit{Code: codes[ending], Reason: ending, At: at}
	}
	return StatusExit(status, at)
}

// codes are those of the ends that brigd brings about or notices itself.
var codes = map[sandbox.Reason]int{
	sandbox.ReasonTimeout:      124,
	sandbox.ReasonIdleTimeout:  124,
	sandbox.ReasonExecTimeout:  124,
	sandbox.ReasonTerminated:   killed,
	sandbox.ReasonOOM:          killed,
	sandbox.ReasonRuntimeCrash: killed,
	sandbox.ReasonStartFailed:  255,
	sandbox.ReasonLost:         255,
}

// ReasonExit is the exit of a sandbox or program that ended for a reason alone, with
// no status to read.
func ReasonExit(reason sandbox.Reason, at time.Time) Exit {
	return Exit{Code: codes[reason], Reason: reason, At: at}
}
