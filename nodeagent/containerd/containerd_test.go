package containerd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"brig/internal/config"
)

func TestRender(t *testing.T) {
	cfg := config.Defaults()
	got, err := Render(&cfg)
	if err != nil {
		t.Fatal(err)
	}
	// The list of plugins is long and says nothing new.
	text := strings.Split(string(got), "\n")
	text = append(text[:1:1], text[2:]...)
	want := `# Written by brigd at each start.
root = '/var/lib/brig/containerd'
state = '/run/brig/containerd'
version = 4

[plugins]
[plugins.'io.containerd.server.v1.grpc']
address = '/run/brig/containerd.sock'

[plugins.'io.containerd.server.v1.ttrpc']
address = '/run/brig/containerd.sock.ttrpc'

[plugins.'io.containerd.shim.v1.manager']
socket_dir = '/run/brig/s'
`
	if diff := cmp.Diff(want, strings.Join(text, "\n")); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestFind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pid")
	if _, alive := find(path); alive {
		t.Error("a process without a pid file")
	}
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	start, err := startOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	p := process{pid: cmd.Process.Pid, start: start}
	if err := p.save(path); err != nil {
		t.Fatal(err)
	}
	if got, alive := find(path); !alive || got != p {
		t.Errorf("%+v, alive %v; want %+v", got, alive, p)
	}
	other := process{pid: p.pid, start: "1"}
	if err := other.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, alive := find(path); !alive {
		t.Error("a process that began at another time was signalled")
	}
	if err := p.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, alive := find(path); alive {
		t.Error("a dead process is alive")
	}
	if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, alive := find(path); alive {
		t.Error("garbage names a process")
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("PATH", "/usr/bin")
	t.Setenv(config.EnvPath, "/elsewhere")
	t.Setenv("NOTIFY_SOCKET", "/run/notify")
	t.Setenv("WATCHDOG_USEC", "1")
	cfg := config.Defaults()
	cfg.Containerd.Binary = "/opt/brig/deps/containerd"
	got := strings.Join(New(&cfg, "/etc/brig/config.toml", nil).environment(), "\n")
	for _, want := range []string{":/opt/brig/deps:/usr/bin\n", "BRIG_CONFIG=/etc/brig/config.toml\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
	for _, foreign := range []string{"/elsewhere", "NOTIFY_SOCKET", "WATCHDOG_USEC"} {
		if strings.Contains(got, foreign) {
			t.Errorf("%q is in\n%s", foreign, got)
		}
	}
}

// TestBoundLog: a log that containerd still writes to is emptied, and one older is kept.
func TestBoundLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "containerd.log")
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	long := strings.Repeat("x", maxLog+1)
	for _, text := range []string{long, "after"} {
		if err := boundLog(path); err != nil {
			t.Fatal(err)
		}
		if _, err := log.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	older, err := os.ReadFile(path + ".1")
	if err != nil || string(older) != long {
		t.Errorf("the older log has %d bytes, %v", len(older), err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != "after" {
		t.Errorf("the log has %d bytes, %v; want those of after", len(now), err)
	}
}
