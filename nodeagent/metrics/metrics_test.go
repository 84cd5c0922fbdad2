package metrics

import (
	"errors"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"brig/nodeagent/denials"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	answer := httptest.NewRecorder()
	m.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	if answer.Code != 200 {
		t.Fatalf("status %d: %s", answer.Code, answer.Body)
	}
	return answer.Body.String()
}

func TestScrape(t *testing.T) {
	m := New(func() int { return 3 })
	own := prometheus.NewGauge(prometheus.GaugeOpts{Name: "brig_of_another_part", Help: "x"})
	m.Registry.MustRegister(own)
	counts, failed := map[string]uint64{"never": 7}, error(nil)
	m.Kernel(func() (map[string]uint64, error) { return counts, failed })
	m.Denied(denials.Policy)
	m.Denied(denials.Policy)
	m.Overrun()
	m.PolicyChange(Changed)
	m.IsolationEnabled()
	m.IsolationChecked(time.Unix(1000, 0), 2*time.Second, 60, 1)
	m.IsolationFailed()
	m.Sandboxes(func() States { return States{Creating: 1, Running: 2, Paused: 4} }, func() Tunnels { return Tunnels{Open: 1, In: 2, Out: 3} },
		func() GPUs { return GPUs{Free: 5, Allotted: 2, Unusable: 1} })
	for range 3 {
		m.ExecStarted()
	}
	m.ExecEnded(2 * time.Second)
	m.ExecEnded(-time.Second) // the clock was set back
	m.ExecFailed()
	m.ExecOutput(5)
	m.Called("/x", "ok")
	text := "\n" + scrape(t, m)
	for _, line := range []string{
		`brig_denials_total{reason="policy"} 2`, `brig_denials_total{reason="never"} 0`, `brig_denials_total{reason="other"} 0`,
		`brig_denials_overruns_total 1`, `brig_policy_changes_total{result="ok"} 1`, `brig_policy_changes_total{result="refused"} 0`,
		`brig_isolation_check_runs_total{result="escaped"} 1`, `brig_isolation_check_runs_total{result="failed"} 1`,
		`brig_isolation_check_escapes 1`, `brig_isolation_check_attempts 60`, `brig_isolation_check_enabled 1`,
		`brig_isolation_check_duration_seconds 2`, `brig_isolation_check_last_run_timestamp_seconds 1000`,
		`brig_denied_packets_total{reason="never"} 7`, `brig_sandboxes_running 3`, `brig_of_another_part 0`,
		`brig_sandboxes{state="creating"} 1`, `brig_sandboxes{state="running"} 2`, `brig_sandboxes{state="paused"} 4`,
		`brig_gpus{state="free"} 5`, `brig_gpus{state="allotted"} 2`, `brig_gpus{state="unusable"} 1`,
		`brig_tunnel_connections 1`, `brig_tunnel_bytes_total{direction="in"} 2`, `brig_tunnel_bytes_total{direction="out"} 3`,
		`brig_execs_running 1`, `brig_execs_total{result="ended"} 2`, `brig_execs_total{result="failed"} 1`,
		`brig_exec_seconds_sum 2`, `brig_exec_seconds_count 1`, `brig_output_bytes_total{of="exec"} 5`,
		`brig_sandbox_ends_total{reason="runtime_crash"} 0`,
		`brig_api_calls_total{code="ok",procedure="/x"} 1`, `brig_api_calls_total{code="internal",procedure="/x"} 0`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("lacks the line %s", line)
		}
	}
	failed = errors.New("no rules")
	if text := scrape(t, m); strings.Contains(text, "brig_denied_packets_total{") || !strings.Contains(text, "\nbrig_sandboxes_running 3\n") {
		t.Errorf("with rules that cannot be read:\n%s", text)
	}
}
