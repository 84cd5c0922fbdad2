package gpus

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"brig/internal/config"
)

// TestMain is also the program that is asked: the folder of its driver's root says what
// it does.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "-driver-root" {
		// os.Exit would wait a second for the race detector.
		syscall.Exit(generate(os.Args[2], os.Args[4]))
	}
	os.Exit(m.Run())
}

func generate(root, hook string) int {
	if env := os.Environ(); len(env) > 0 {
		fmt.Fprintf(os.Stderr, "the environment is %q\n", env)
		return 1
	}
	if filepath.Base(hook) != "nvidia-cdi-hook" {
		fmt.Fprintf(os.Stderr, "the hook is %s\n", hook)
		return 1
	}
	if data, err := os.ReadFile(filepath.Join(root, "fail")); err == nil {
		fmt.Fprintf(os.Stderr, "much\n%s", data)
		return 1
	}
	if _, err := os.Stat(filepath.Join(root, "hang")); err == nil {
		_ = syscall.Pause()
	}
	if _, err := os.Stat(filepath.Join(root, "flood")); err == nil {
		fmt.Print(strings.Repeat("x", maxDocument+1))
		return 0
	}
	data, err := os.ReadFile(filepath.Join(root, "document"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, _ = os.Stdout.Write(data)
	return 0
}

func uuid(n int) string { return fmt.Sprintf("GPU-%08x-0000-4000-8000-000000000000", n) }

// healthy are so many, with their specification.
func healthy(count int) Inventory {
	i := Inventory{Driver: "999.88.77", GPUs: []GPU{}}
	type device struct {
		Name  string `json:"name"`
		Edits any    `json:"containerEdits"`
	}
	var devices []device
	for n := range count {
		i.GPUs = append(i.GPUs, GPU{Index: n, UUID: uuid(n), Name: "GPU of a test", MemoryBytes: 1 << 30, PCI: "0000:01:00.0", Minor: n})
		edits := map[string]any{"deviceNodes": []any{map[string]any{"path": fmt.Sprintf("/dev/nvidia%d", n)}}}
		devices = append(devices, device{fmt.Sprint(n), edits}, device{uuid(n), edits})
	}
	var err error
	if i.CDI, err = json.Marshal(map[string]any{"cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": devices}); err != nil {
		panic(err) // it is all text
	}
	return i
}

// driver is a root below which what is asked is told what to answer.
type driver struct {
	root string
	cfg  *config.Config
}

func newDriver(t *testing.T) driver {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := config.Defaults()
	d := driver{root: t.TempDir(), cfg: &cfg}
	// Beside a name of its own the program of the hooks is installed.
	installed := filepath.Join(d.root, "brig-nvcdi")
	if err := os.Symlink(exe, installed); err != nil {
		t.Fatal(err)
	}
	d.say(t, "nvidia-cdi-hook", "")
	cfg.RunDir = filepath.Join(d.root, "run")
	cfg.GPU.Generator, cfg.GPU.DriverRoot = installed, d.root
	cfg.GPU.SpecDirs = []string{filepath.Join(d.root, "etc-cdi"), filepath.Join(d.root, "run-cdi")}
	cfg.GPU.Publish = filepath.Join(d.root, "run-cdi", "brig-nvidia.json")
	return d
}

// say puts a file below the root.
func (d driver) say(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(d.root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (d driver) has(t *testing.T, i Inventory) {
	t.Helper()
	data, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	d.say(t, "document", string(data))
}

func (d driver) node() *Node { return New(d.cfg, slog.New(slog.DiscardHandler)) }
