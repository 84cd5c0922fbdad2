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
	data, err := os.ReadFile(filepath.Join(root, fmt.Sprintf("%s_sandbox:%s.state", container, sandbox)))
	var state struct {
		GoferPID int `json:"goferPid"`
	}
	if err != nil || json.Unmarshal(data, &state) != nil || state.GoferPID <= 0 {
		return
	}
	if gofer, err := os.FindProcess(state.GoferPID); err == nil {
		go func() { _, _ = gofer.Wait() }() // fails at once for what is no child
	}
}
