package runsc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"brig/internal/config"

	"github.com/google/go-cmp/cmp"
)

func TestCommandLines(t *testing.T) {
	cfg := config.Defaults()
	r := For(&cfg, "default", "web")
	systemd := r
	systemd.Network, systemd.Overlay, systemd.SystemdCgroup, systemd.DebugLog = NetworkNone, "root:self", true, "/var/log/brig"
	gpu := r
	gpu.DriverCapabilities = []string{"compute", "utility"}
	const common = "/usr/local/libexec/brig/runsc --root=/run/brig/r/default/web --shared-root=/run/brig/r"
	for _, c := range []struct {
		r    Runsc
		op   string
		args []string
		want string
	}{
		{r, "start", nil, common + " --log=/b/runsc-start.log --log-format=json --platform=systrap --network=sandbox --overlay2=none --oci-seccomp start web"},
		{r, "delete", []string{"--force"}, common + " --log=/b/runsc-delete.log --log-format=json --platform=systrap --network=sandbox --overlay2=none --oci-seccomp delete --force web"},
		{r, "create", CreateOptions{Bundle: "/b", PIDFile: "/b/pid"}.args(), common +
			" --log=/b/runsc-create.log --log-format=json --platform=systrap --network=sandbox --overlay2=none --oci-seccomp create --bundle=/b --pid-file=/b/pid web"},
		{systemd, "create", CreateOptions{Bundle: "/b", PIDFile: "/b/pid"}.args(), common +
			" --log=/b/runsc-create.log --log-format=json --platform=systrap --network=none --overlay2=root:self --oci-seccomp --systemd-cgroup" +
			" --debug --debug-log=/var/log/brig/ create --bundle=/b --pid-file=/b/pid web"},
		{gpu, "start", nil, common + " --log=/b/runsc-start.log --log-format=json --platform=systrap --network=sandbox --overlay2=none --oci-seccomp" +
			" --nvproxy --nvproxy-allowed-driver-capabilities=compute,utility start web"},
	} {
		got := strings.Join(c.r.command(t.Context(), "/b", c.op, "web", c.args...).Args, " ")
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.op, diff)
		}
	}
}

// script stands in for runsc.
func script(t *testing.T, body string) (Runsc, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "runsc")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body), 0o700); err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "a"), 0o700); err != nil {
		t.Fatal(err)
	}
	return Runsc{Binary: path, Root: filepath.Join(root, "a"), SharedRoot: root, Network: NetworkNone, Overlay: "none"}, dir
}

const findLog = `for a; do case $a in --log=*) log=${a#--log=};; esac; done
`

func TestFailureTellsWhatRunscSaid(t *testing.T) {
	r, dir := script(t, findLog+`echo '{"msg":"earlier"}' >>$log
printf '%s\n' '{"level":"error","msg":"starting container: no such file\n"}' >>$log
exit 128`)
	err := r.Start(t.Context(), "a", dir, nil)
	var f *Failure
	if !errors.As(err, &f) {
		t.Fatalf("got %v", err)
	}
	if want := "runsc start a: starting container: no such file (exit status 128)"; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if long := fmt.Sprintf("%+v", f); !strings.Contains(long, "earlier") {
		t.Errorf("the log is not in %s", long)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.log")); err != nil || len(left) > 0 {
		t.Errorf("logs left: %v, %v", left, err)
	}
}

func TestFailureOfOtherKinds(t *testing.T) {
	r, dir := script(t, "echo noise >&2; echo 'flag provided but not defined' >&2; exit 2")
	if err := r.Delete(t.Context(), "a", dir); err == nil || err.Error() != "runsc delete a: flag provided but not defined (exit status 2)" {
		t.Errorf("stderr: %v", err)
	}
	r.Binary = filepath.Join(dir, "none")
	if err := r.Start(t.Context(), "a", dir, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing binary: %v", err)
	}
	r.Network = ""
	if err := r.Start(t.Context(), "a", dir, nil); err == nil || !strings.Contains(err.Error(), "no network mode") {
		t.Errorf("no network mode: %v", err)
	}
}

func TestDeleteRemovesTheRoot(t *testing.T) {
	r, dir := script(t, "echo called >> calls")
	for range 2 { // the second finds nothing to do
		if err := r.Delete(t.Context(), "a", dir); err != nil {
			t.Fatal(err)
		}
	}
	if calls, err := os.ReadFile(filepath.Join(dir, "calls")); err != nil || string(calls) != "called\n" {
		t.Errorf("runsc was called: %q, %v", calls, err)
	}
	if err := r.Delete(t.Context(), "a", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(r.Root); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the root is still there: %v", err)
	}
}

func TestLongLogsAreCut(t *testing.T) {
	var last tail
	for i := range 3000 {
		fmt.Fprintf(&last, "line %d\n", i)
	}
	if len(last) > tailBytes || lastLine(string(last)) != "line 2999" {
		t.Errorf("%d bytes, ending in %q", len(last), lastLine(string(last)))
	}
}

// TestTheCauseIsTold: three processes write to one log, and the first knows why.
func TestTheCauseIsTold(t *testing.T) {
	for _, c := range []struct{ logged, want string }{
		{`{"msg":"a warning","level":"warning"}{"msg":"open /nope: no such file","level":"error","time":"t"}` +
			`{"msg":"waiting for sandbox to start: EOF","level":"error"}`, "open /nope: no such file"},
		{`cut off"}{"msg":"why\n","level":"error"}`, "why"},
		{"panic: oh\ngoroutine 1", "goroutine 1"},
		{"", ""},
	} {
		if got := cause(c.logged); got != c.want {
			t.Errorf("%s: got %q, want %q", c.logged, got, c.want)
		}
	}
}

// TestASandboxKeepsItsRunsc: an upgrade turns the configured link elsewhere.
func TestASandboxKeepsItsRunsc(t *testing.T) {
	dir := t.TempDir()
	old, link := filepath.Join(dir, "runsc-1"), filepath.Join(dir, "runsc")
	if err := errors.Join(os.WriteFile(old, nil, 0o755), os.Symlink(old, link)); err != nil {
		t.Fatal(err)
	}
	cfg := config.Defaults()
	cfg.Runsc.Path = link
	if got := For(&cfg, "ns", "id").Binary; got != old {
		t.Errorf("runsc of the sandbox is %s, want %s", got, old)
	}
}
