//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// mu makes one process's reading and writing of the files one step.
var mu sync.Mutex

// Hit dies if name is armed.
func Hit(name string) {
	dir := os.Getenv(EnvDir)
	if dir == "" {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	note(filepath.Join(dir, "hits"), name)
	armed := filepath.Join(dir, "armed")
	data, err := os.ReadFile(armed)
	if err != nil {
		return
	}
	first, rest, _ := strings.Cut(string(data), "\n")
	if first != name {
		return
	}
	if err := os.WriteFile(armed, []byte(rest), 0o600); err != nil {
		panic(fmt.Sprintf("disarm failpoint %s: %v", name, err)) // it would die for ever
	}
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {} // whatever comes next does not happen
}

// Skips tells whether the file "skips" names the check, a line each.
func Skips(name string) bool {
	data, err := os.ReadFile(filepath.Join(os.Getenv(EnvDir), "skips"))
	return os.Getenv(EnvDir) != "" && err == nil && slices.Contains(strings.Split(string(data), "\n"), name)
}

func note(path, name string) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		panic(fmt.Sprintf("note failpoint %s: %v", name, err))
	}
	defer f.Close()
	if _, err := f.WriteString(name + "\n"); err != nil {
		panic(fmt.Sprintf("note failpoint %s: %v", name, err))
	}
}
