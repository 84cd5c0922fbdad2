package main

import (
	"slices"
	"strings"
	"testing"
)

// TestTheExceptionsOnlyShrink, and each says why.
func TestTheExceptionsOnlyShrink(t *testing.T) {
	if len(exceptions) > ceiling {
		t.Errorf("%d exceptions, want at most %d", len(exceptions), ceiling)
	}
	if len(exceptions) < ceiling {
		t.Errorf("%d exceptions: lower the ceiling of %d to that", len(exceptions), ceiling)
	}
	for i, e := range exceptions {
		if !slices.Contains(reachShim, e.test) && !slices.Contains(needCRIU, e.test) {
			t.Errorf("%s is excepted but does not reach a shim", e.test)
		}
		if e.why == "" || slices.ContainsFunc(exceptions[:i], func(o exception) bool { return o.test == e.test }) {
			t.Errorf("%s needs one entry with a reason", e.test)
		}
	}
}

func TestVerdict(t *testing.T) {
	results := []result{
		{name: "A", outcome: passed, reached: true},
		{name: "B", outcome: failed, reached: true},
		{name: "C", outcome: hung, reached: true},
		{name: "D", outcome: skipped},
		{name: "E", outcome: passed},
		{name: "F", outcome: hung, reached: true},
		{name: "G", outcome: passed, reached: true},
	}
	var out strings.Builder
	err := verdict(results, []exception{{"F", "because"}, {"G", "because"}}, &out)
	const want = `1 passed, 3 failed, 1 hung; 2 excepted of at most 4
  B failed
  C hung
  D failed
  E passed without the shim
  G passed: take it from the exceptions and lower their ceiling
`
	if out.String() != want || err == nil {
		t.Errorf("got %v\n%swant an error and\n%s", err, &out, want)
	}
	out.Reset()
	if err := verdict(results[:1], nil, &out); err != nil {
		t.Errorf("one that passed: %v\n%s", err, &out)
	}
}

func TestJudge(t *testing.T) {
	for _, c := range []struct {
		name, log string
		succeeded bool
		killed    bool
		want      outcome
		reasons   string
	}{
		{"pass", "=== RUN   TestA\n--- PASS: TestA (0.10s)\nPASS\n", true, false, passed, ""},
		{"fail", "=== RUN   TestA\n    a_test.go:7: no\n--- FAIL: TestA (0.10s)\nFAIL\n", false, false, failed, "a_test.go:7: no"},
		{"a sub-test fails", "    --- PASS: TestA/a (0.10s)\n    --- FAIL: TestA/b (0.10s)\n--- FAIL: TestA (0.10s)\n", false, false, failed, ""},
		{"skip", "=== RUN   TestA\n    a_test.go:7: no criu\n--- SKIP: TestA (0.00s)\nPASS\n", true, false, skipped, "a_test.go:7: no criu"},
		{"no such test", "testing: warning: no tests to run\nPASS\n", true, false, failed, ""},
		{"passes and then the daemon does not end well", "--- PASS: TestA (0.10s)\nPASS\n", false, false, failed, ""},
		{"its own limit", "=== RUN   TestA\npanic: test timed out after 1m0s\n", false, false, hung, ""},
		{"killed", "=== RUN   TestA\n", false, true, hung, ""},
		{"no cell", "cell: mount /run: no\n", false, false, failed, "cell: mount /run: no"},
	} {
		got, reasons := judge(c.log, c.succeeded, c.killed)
		if got != c.want || strings.Join(reasons, "\n") != c.reasons {
			t.Errorf("%s: %s %q, want %s %q", c.name, got, reasons, c.want, c.reasons)
		}
	}
}
