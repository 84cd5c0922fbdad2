package sandbox

import "fmt"

// State of a sandbox. The zero value is no state at all.
type State string

// The states; the table moves holds the legal moves.
const (
	Creating State = "creating" // recorded, its parts are being made
	Running  State = "running"  // its program runs, its policy is in force
	Exited   State = "exited"   // ended; the record tells how
)

var moves = map[State][]State{
	"":       {Creating},
	Creating: {Running, Exited},
	Running:  {Exited},
}

// Move returns to, or an error that names both states if the move is illegal.
func (s State) Move(to State) (State, error) {
	for _, legal := range moves[s] {
		if legal == to {
			return to, nil
		}
	}
	return s, fmt.Errorf("illegal move of a sandbox from %q to %q", s, to)
}

// Reason tells why a program or a sandbox ended.
type Reason string

// The reasons, as product documentation and the API name them.
const (
	ReasonExited       Reason = "exited"        // by itself; code is its own
	ReasonSignal       Reason = "signal"        // code is 128 + the signal
	ReasonOOM          Reason = "oom"           // the memory limit; 137
	ReasonExecTimeout  Reason = "exec_timeout"  // 124
	ReasonTimeout      Reason = "timeout"       // 124
	ReasonIdleTimeout  Reason = "idle_timeout"  // 124
	ReasonTerminated   Reason = "terminated"    // 137
	ReasonStartFailed  Reason = "start_failed"  // it never ran
	ReasonRuntimeCrash Reason = "runtime_crash" // the sandbox's kernel died
	ReasonLost         Reason = "lost"          // its status is unknown
)
