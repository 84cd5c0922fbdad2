package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// testExecFigures: programs beside a sandbox's own are counted while they run, also by a
// brigd that did not start them, and by how they ended; a paused sandbox is one.
func testExecFigures(t *testing.T, n *fixture) {
	id := n.Create(t, n.busybox, "--", "sleep", "1000")
	figure := func(name string) float64 {
		t.Helper()
		m := regexp.MustCompile(`\n` + regexp.QuoteMeta(name) + ` (\S+)\n`).FindStringSubmatch(scrape(t, n))
		if m == nil {
			t.Fatalf("the scrape lacks %s", name)
		}
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	// counted waits, since an end is on record a moment before it is counted.
	counted := func(name string, want float64) {
		t.Helper()
		eventually(t, 10*time.Second, func() error {
			if got := figure(name); got != want {
				return fmt.Errorf("%s is %v, want %v", name, got, want)
			}
			return nil
		})
	}
	stats := func() (execs int) {
		t.Helper()
		var list []struct{ Execs int }
		if err := json.Unmarshal([]byte(n.Brig(t, "stats", "--json", id)), &list); err != nil || len(list) != 1 {
			t.Fatalf("stats: %v", err)
		}
		return list[0].Execs
	}
	const ended, failed, took = `brig_execs_total{result="ended"}`, `brig_execs_total{result="failed"}`, `brig_exec_seconds_count`
	before := map[string]float64{}
	for _, name := range []string{ended, failed, took, `brig_exec_seconds_sum`, `brig_output_bytes_total{of="exec"}`} {
		before[name] = figure(name)
	}
	n.Brig(t, "exec", id, "--", "echo", "12345")
	counted(ended, before[ended]+1)
	counted(took, before[took]+1)
	counted(`brig_output_bytes_total{of="exec"}`, before[`brig_output_bytes_total{of="exec"}`]+6)
	if sum := figure(`brig_exec_seconds_sum`); sum <= before[`brig_exec_seconds_sum`] || sum > before[`brig_exec_seconds_sum`]+60 {
		t.Errorf("an exec took %v in all, after %v", sum, before[`brig_exec_seconds_sum`])
	}
	if r := n.Try(t, "exec", id, "--", "no-such-program"); r.Code == 0 {
		t.Error(r)
	}
	counted(failed, before[failed]+1)
	counted(`brig_execs_running`, 0)

	call(t, n, "Exec/Start", fmt.Sprintf(`{"exec":{"sandbox":%q,"argv":["sleep","1000"]},"exec_id":"long"}`, id))
	counted(`brig_execs_running`, 1)
	if got := stats(); got != 1 {
		t.Errorf("stats show %d execs, want 1", got)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	counted(`brig_execs_running`, 1)
	if got := stats(); got != 1 {
		t.Errorf("after a kill of brigd stats show %d execs, want 1", got)
	}
	call(t, n, "Exec/Signal", fmt.Sprintf(`{"sandbox":%q,"exec_id":"long","signal":9}`, id))
	counted(`brig_execs_running`, 0)
	counted(ended, 1)
	if got := stats(); got != 0 {
		t.Errorf("after its end stats show %d execs, want 0", got)
	}

	n.Brig(t, "pause", id)
	counted(`brig_sandboxes{state="paused"}`, 1)
	counted(`brig_sandboxes{state="running"}`, figure(`brig_sandboxes_running`)-1)
	n.Brig(t, "resume", id)
	counted(`brig_sandboxes{state="paused"}`, 0)
}
