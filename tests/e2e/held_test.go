package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"brig/tests/internet"
)

// restless writes a line every 2 ms, and what it saw of the time.
const restless = `
import time
n = 0
while True:
    n += 1
    print(n, time.monotonic() - time.time(), flush=True)
    time.sleep(0.002)`

// TestHeld looks at sandboxes that had waited with a checkpoint loaded, of both kinds: of a
// sandbox that had a kernel of its own, and of one that had waited itself.
func TestHeld(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, "[pool]\nsize = 2\nmax = 2\n")
	for name, flags := range map[string][]string{"of its own": {"--memory", "300"}, "of the pool": nil} {
		outcome, reason := "cold", "empty"
		if flags == nil {
			outcome, reason = "slot", ""
		}
		t.Run(name, func(t *testing.T) {
			var id string
			waiting1(t, w.fixture)
			claims(t, w.fixture, outcome, reason, func() {
				id = w.Create(t, append(flags, w.python, "--", "python3", "-c", restless)...)
			})
			eventually(t, time.Minute, func() error { return says(w, t, id) })
			w.Brig(t, "checkpoint", id, "warm")
			w.Brig(t, "rm", "-f", id)
			t.Run("taken", func(t *testing.T) { testHeldTaken(t, w) })
			t.Run("silent", func(t *testing.T) { testHeldSilent(t, w) })
			t.Run("lost", func(t *testing.T) { testHeldLost(t, w) })
			t.Run("brigd is killed", func(t *testing.T) {
				w.loaded(t)
				before := nobodys(t, w.fixture)
				w.restart(t)
				eventually(t, time.Minute, func() error {
					if got := figure(t, w.fixture, `brig_pool_slots{state="waiting"}`); got == "0" {
						return fmt.Errorf("none is taken over")
					}
					return nil
				})
				id := w.Create(t, "--from-checkpoint", "warm")
				if !slices.Contains(before, id) {
					t.Errorf("%v waited, and after a restart of brigd it is %s", before, id)
				}
				w.Brig(t, "rm", "-f", id)
			})
			held := w.loaded(t)
			w.Brig(t, "checkpoints", "rm", "warm")
			w.forgets(t, held)
		})
	}
}

func waiting1(t *testing.T, n *fixture) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		if got := figure(t, n, `brig_pool_slots{state="waiting"}`); got == "0" {
			return fmt.Errorf("none waits")
		}
		return nil
	})
}

// says wants a line of a sandbox's program.
func says(w *world, t *testing.T, id string) error {
	if out := w.Try(t, "logs", id); !strings.Contains(out.Stdout, "\n") {
		return fmt.Errorf("it has said %s", out)
	}
	return nil
}

// takesHeld restores until one takes what is held.
func (w *world) takesHeld(t *testing.T, flags ...string) (id string) {
	t.Helper()
	w.loaded(t)
	claims(t, w.fixture, "slot", "", func() { id = w.Create(t, append(flags, "--from-checkpoint", "warm")...) })
	return id
}

// loaded returns the one that waits with the checkpoint loaded, once one does: it has a
// folder for its output.
func (w *world) loaded(t *testing.T) (id string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		for _, of := range nobodys(t, w.fixture) {
			if _, err := os.Stat(w.output(t, of)); err == nil && figure(t, w.fixture, `brig_pool_slots{state="making"}`) == "0" {
				id = of
				return nil
			}
		}
		// What is asked for is what waits.
		w.Brig(t, "rm", "-f", w.Create(t, "--from-checkpoint", "warm"))
		time.Sleep(time.Second)
		return fmt.Errorf("no checkpoint waits")
	})
	return id
}

func (w *world) output(t *testing.T, id string) string {
	t.Helper()
	c, err := w.Config()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(c.JournalDir(id), "stdout")
}

// testHeldTaken compares what was held with what a cold restore makes.
func testHeldTaken(t *testing.T, w *world) {
	public, host := internet.Public+":80", internet.HostAddress
	first := w.takesHeld(t, "--cidr-allow", "203.0.113.0/24", "--tag", "a=b", "--port", "7/tcp")
	second := w.takesHeld(t, "--no-egress")
	if first == second {
		t.Fatalf("both got %s", first)
	}
	var cold string
	claims(t, w.fixture, "cold", "checkpoint", func() { cold = w.Create(t, "--name", "cold", "--from-checkpoint", "warm") })
	var clocks []string
	for _, id := range []string{first, second, cold} {
		eventually(t, time.Minute, func() error { return says(w, t, id) })
		line, _, _ := strings.Cut(w.Brig(t, "logs", id), "\n")
		n, clock, _ := strings.Cut(line, " ")
		if len(n) < 1 || n == "1" || len(clock) < 8 {
			t.Errorf("%s begins with %q: it does not go on", id, line)
		}
		clocks = append(clocks, clock)
	}
	for _, clock := range clocks[1:] {
		var a, b float64
		if _, err := fmt.Sscan(clocks[0]+" "+clock, &a, &b); err != nil || a-b > 0.5 || b-a > 0.5 {
			t.Errorf("between its clocks lie %v", clocks)
		}
	}
	w.wantReach(t, first, map[string]string{public: host}, append(w.forbidden, internet.PublicToo+":80")...)
	w.wantReach(t, second, nil, append(w.forbidden, public)...)
	for _, id := range []string{first, second} {
		want := id + "\n" + id + "\n" + address(t, w.Node, id) + "\t" + id + "\n"
		if got := w.Brig(t, "exec", id, "--", "sh", "-c", "hostname; cat /etc/hostname; tail -n 1 /etc/hosts"); got != want {
			t.Errorf("it is %q, want %q", got, want)
		}
	}
	w.agrees(t)
	for _, id := range []string{first, second, cold} {
		w.Brig(t, "rm", "-f", id)
	}
}

// testHeldSilent: nothing of what is held runs, and nothing of it passes.
func testHeldSilent(t *testing.T, w *world) {
	id := w.loaded(t)
	time.Sleep(2 * time.Second)
	if text, err := os.ReadFile(w.output(t, id)); err != nil || len(text) > 0 {
		t.Errorf("it has run: %q, %v", text, err)
	}
	w.agrees(t)
}

// testHeldLost ends what is held in ways that nobody has asked for: it is replaced, and
// nothing of it is left.
func testHeldLost(t *testing.T, w *world) {
	for name, lose := range map[string]func(t *testing.T, id string){
		"its kernel": func(t *testing.T, id string) { kill(t, processOf(t, "gvisor_sentry", id)) },
		"its shim":   func(t *testing.T, id string) { kill(t, processOf(t, "containerd-shim-brig-v1", id)) },
		"its gofer":  func(t *testing.T, id string) { kill(t, stoppedGofer(t, id)) },
		"it is let by another": func(t *testing.T, id string) {
			if err := unix.Kill(stoppedGofer(t, id), unix.SIGCONT); err != nil {
				t.Fatal(err)
			}
		},
		"a link too many": func(t *testing.T, id string) {
			cmd := exec.CommandContext(t.Context(), "ip", "-n", id, "link", "add", "sneaky", "type", "veth", "peer", "name", "sneaky2")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			id := w.loaded(t)
			lose(t, id)
			w.forgets(t, id)
		})
	}
}

// forgets waits until nothing of a sandbox is left.
func (w *world) forgets(t *testing.T, id string) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		r := w.Try(t, "node", "verify", "--census")
		if r.Code != 0 || strings.Contains(r.Stdout, id) {
			return fmt.Errorf("of %s is left: %s", id, r)
		}
		return nil
	})
	w.agrees(t)
}

// agrees waits until the node is what its records say: it makes what is to wait meanwhile.
func (w *world) agrees(t *testing.T) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		if r := w.Try(t, "node", "verify"); r.Code != 0 {
			return errors.New(r.String())
		}
		return nil
	})
}

// stoppedGofer is what holds a sandbox.
func stoppedGofer(t *testing.T, id string) int {
	t.Helper()
	found, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range found {
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
		if strings.HasPrefix(string(cmdline), "runsc-gofer") && strings.Contains(string(cmdline), id) && strings.Contains(string(stat), ") T ") {
			var pid int
			if _, err := fmt.Sscan(filepath.Base(dir), &pid); err == nil {
				return pid
			}
		}
	}
	t.Fatalf("no gofer of %s stands still", id)
	return 0
}
