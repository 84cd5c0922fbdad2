package e2e

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"brig/tests/node"
)

// pooled is a node on which n sandboxes wait.
func pooled(t *testing.T, n int) *fixture {
	t.Helper()
	return launch(t, node.Options{Overrides: fmt.Sprintf("[pool]\nsize = %d\nmax = %d\n", n, n)})
}

// waiting returns once want sandboxes wait, and nothing is being made or removed.
func waiting(t *testing.T, n *fixture, want int) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		var got []string
		for _, state := range []string{"waiting", "making", "leaving"} {
			got = append(got, figure(t, n, fmt.Sprintf(`brig_pool_slots{state=%q}`, state)))
		}
		if s := strings.Join(got, " "); s != fmt.Sprintf("%d 0 0", want) {
			return fmt.Errorf("waiting, making and leaving are %s; want %d that wait", s, want)
		}
		return nil
	})
}

func figure(t *testing.T, n *fixture, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)$`).FindStringSubmatch(scrape(t, n))
	if found == nil {
		t.Fatalf("there is no figure %s", name)
	}
	return found[1]
}

// claims wants what is done to raise the count of creates of an outcome.
func claims(t *testing.T, n *fixture, outcome, reason string, do func()) {
	t.Helper()
	name := fmt.Sprintf(`brig_pool_claims_total{outcome=%q,reason=%q}`, outcome, reason)
	before, _ := strconv.Atoi(figure(t, n, name))
	do()
	if after, _ := strconv.Atoi(figure(t, n, name)); after <= before {
		t.Errorf("%s went from %d to %d; want more", name, before, after)
	}
}

// TestPool looks at sandboxes that had waited, at what a cold one has: the whole of tests/e2e
// can be run with them (BRIG_TEST_POOL).
func TestPool(t *testing.T) {
	t.Parallel()
	n := pooled(t, 1)
	slot := func(t *testing.T, do func()) {
		t.Helper()
		waiting(t, n, 1)
		claims(t, n, "slot", "", do)
	}
	t.Run("closed", func(t *testing.T) {
		waiting(t, n, 1)
		c, err := n.Config()
		if err != nil {
			t.Fatal(err)
		}
		for _, direction := range []string{"egress", "ingress", "ask"} {
			cmd := exec.CommandContext(t.Context(), "ip", "netns", "exec", c.TransitName(), "nft", "list", "map", "inet", "brig", direction)
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "map "+direction) || strings.Contains(string(out), "elements") {
				t.Errorf("with one that waits alone, something passes: %v: %s", err, out)
			}
		}
	})
	t.Run("a program", func(t *testing.T) {
		slot(t, func() {
			r := n.Try(t, "run", "--name", "called", "--env", "A=b", "--workdir", "/tmp", n.busybox, "--", "sh", "-c",
				"echo $$ $A $(pwd) $(hostname) $(cat /etc/hostname); tail -n 1 /etc/hosts; exit 3")
			if r.Code != 3 || !regexp.MustCompile(`^1 b /tmp called called\n10\.\S+\tcalled\n$`).MatchString(r.Stdout) {
				t.Error(r)
			}
		})
	})
	t.Run("limits", func(t *testing.T) {
		slot(t, func() {
			id := n.Create(t, "--cpu", "0.5", "--pids", "16", "--disk", "16", n.busybox)
			if quota := cgroupFile(t, n.Node, id, "cpu", "cpu.cfs_quota_us", "cpu.max"); !strings.HasPrefix(quota, "50000") {
				t.Errorf("the quota is %s", quota)
			}
			for script, want := range map[string]string{
				`i=0; while [ $i -lt 20 ]; do sleep 60 & i=$((i+1)); done`: "fork",
				`dd if=/dev/zero of=/f bs=1M count=32`:                     "space",
			} {
				if r := n.Try(t, "exec", id, "--", "sh", "-c", script); r.Code == 0 || !strings.Contains(r.Stderr, want) {
					t.Errorf("want %q: %s", want, r)
				}
			}
		})
	})
	t.Run("out of memory", func(t *testing.T) {
		for range 3 { // until what waits is what is asked for
			n.Try(t, "run", "--memory", "64", n.busybox, "--", "true")
		}
		slot(t, func() {
			id := n.Create(t, "--memory", "64", n.busybox, "--", "sh", "-c", "head -c 200m /dev/zero | tail")
			wantEnd(t, n.Node, id, 137, "oom")
		})
		for range 9 {
			n.Try(t, "run", n.busybox, "--", "true")
		}
	})
	t.Run("its kernel dies", func(t *testing.T) {
		slot(t, func() {
			id := n.Create(t, n.busybox)
			kill(t, processOf(t, "gvisor_sentry", id))
			wantEnd(t, n.Node, id, 137, "runtime_crash")
		})
	})
	t.Run("state", func(t *testing.T) { testPoolState(t, n, slot) })
	t.Run("cold", func(t *testing.T) {
		waiting(t, n, 1)
		claims(t, n, "cold", "network", func() { n.Brig(t, "run", "--block-network", n.busybox, "--", "true") })
		claims(t, n, "cold", "empty", func() { n.Brig(t, "run", "--memory", "77", n.busybox, "--", "true") })
	})
	t.Run("tampered with", func(t *testing.T) { testPoolTampered(t, n) })
}

// testPoolState pauses, copies and keeps a sandbox that had waited.
func testPoolState(t *testing.T, n *fixture, slot func(*testing.T, func())) {
	slot(t, func() {
		id := n.Create(t, "--name", "first", n.busybox, "--", "sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /n; sleep 0.1; done")
		n.Brig(t, "exec", id, "--", "sh", "-c", "echo kept > /kept")
		n.Brig(t, "pause", id)
		n.Brig(t, "resume", id)
		image := strings.TrimSpace(n.Brig(t, "snapshot", id, "of-a-slot"))
		t.Cleanup(func() { n.Try(t, "image", "rm", image) })
		if out := n.Brig(t, "run", "of-a-slot", "--", "cat", "/kept"); out != "kept\n" {
			t.Errorf("a snapshot has %q", out)
		}
		n.Brig(t, "checkpoint", id, "of-a-slot")
		t.Cleanup(func() { n.Try(t, "checkpoints", "rm", "of-a-slot") })
		again := n.Create(t, "--name", "second", "--from-checkpoint", "of-a-slot")
		out := n.Brig(t, "exec", again, "--", "sh", "-c", "hostname; cat /kept; a=$(cat /n); sleep 1; test $(cat /n) -gt $a && echo goes on")
		if out != "second\nkept\ngoes on\n" {
			t.Errorf("what was restored says %q", out)
		}
	})
}

// nobodys are the sandboxes that have a network namespace and no record: they wait.
func nobodys(t *testing.T, n *fixture) (ids []string) {
	t.Helper()
	for _, line := range strings.Split(n.Brig(t, "node", "verify", "--census"), "\n") {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "netns "); ok {
			if of, _, _ := strings.Cut(rest, " "); n.Try(t, "inspect", of).Code != 0 {
				ids = append(ids, of)
			}
		}
	}
	return ids
}

// testPoolTampered puts a link into the namespace of what waits: whoever takes it must not
// be led past its policy.
func testPoolTampered(t *testing.T, n *fixture) {
	waiting(t, n, 1)
	waits := nobodys(t, n)
	if len(waits) == 0 {
		t.Fatal("nothing that waits has a network namespace")
	}
	id := waits[0]
	cmd := exec.CommandContext(t.Context(), "ip", "-n", id, "link", "add", "sneaky", "type", "veth", "peer", "name", "sneaky2")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	claims(t, n, "cold", "spent", func() {
		made := n.Create(t, "--cidr-allow", "198.51.100.0/24", n.busybox)
		if made == id {
			t.Error("what was tampered with was used")
		}
		if out := n.Brig(t, "exec", made, "--", "cat", "/proc/net/dev"); strings.Contains(out, "sneaky") {
			t.Errorf("it has the links %q", out)
		}
	})
	waiting(t, n, 1)
	n.Brig(t, "node", "verify")
}
