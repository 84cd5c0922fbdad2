package task

// Event is something that has happened to a task.
type Event interface{ event() }

// The events, in the order in which they happen.
type (
	// EventCreated tells that a sandbox waits to be started.
	EventCreated struct {
		Request CreateRequest
		PID     int
	}
	// EventStarted tells that the program runs.
	EventStarted struct {
		ID  string
		PID int
	}
	// EventExecAdded tells that an exec may be started.
	EventExecAdded struct{ ID, ExecID string }
	// EventExecStarted tells that an exec runs.
	EventExecStarted struct {
		ID, ExecID string
		PID        int
	}
	// EventPaused tells that the sandbox is frozen.
	EventPaused struct{ ID string }
	// EventResumed tells that it runs again.
	EventResumed struct{ ID string }
	// EventCheckpointed tells that an image of the sandbox is complete.
	EventCheckpointed struct{ ID, Path string }
	// EventOOM tells that the kernel killed the sandbox, or something in it, at its memory
	// limit. It comes before the sandbox's EventExited.
	EventOOM struct{ ID string }
	// EventExited tells how the program (empty ExecID) or an exec ended.
	EventExited struct {
		ID, ExecID string
		PID        int
		Exit       Exit
	}
	// EventDeleted tells that nothing of the task is left.
	EventDeleted struct {
		ID   string
		PID  int
		Exit Exit
	}
)

func (EventCreated) event()      {}
func (EventStarted) event()      {}
func (EventExecAdded) event()    {}
func (EventExecStarted) event()  {}
func (EventPaused) event()       {}
func (EventResumed) event()      {}
func (EventCheckpointed) event() {}
func (EventOOM) event()          {}
func (EventExited) event()       {}
func (EventDeleted) event()      {}
