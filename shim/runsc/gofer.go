package runsc

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// ReapGofer waits for the gofer of a container that has ended, which then ends too.
// Once the runsc command that started it has ended, it is a child of the shim. Where
// runsc's state does not tell, the gofer's remains are the kernel's to keep until the
// shim ends.
func ReapGofer(root, sandbox, container string) {
	pid, err := goferPID(root, sandbox, container)
	if err != nil {
		return
	}
	if gofer, err := os.FindProcess(pid); err == nil {
		go func() { _, _ = gofer.Wait() }() // fails at once for what is no child
	}
}

// goferPID is what runsc's state says.
func goferPID(root, sandbox, container string) (int, error) {
	data, err := os.ReadFile(filepath.Join(root, fmt.Sprintf("%s_sandbox:%s.state", container, sandbox)))
	if err != nil {
		return 0, err
	}
	var state struct {
		GoferPID int `json:"goferPid"`
	}
	if err := json.Unmarshal(data, &state); err != nil {
		return 0, err
	}
	if state.GoferPID <= 0 {
		return 0, fmt.Errorf("runsc's state of %s tells of no gofer", container)
	}
	return state.GoferPID, nil
}
