package deploy_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"

	"brig/internal/netpolicy/nft"
	"brig/nodeagent/metrics"
)

// labels of a figure, and the values that each can have.
type labels map[string]map[string]bool

// figures are brigd's, with every label's values: those that are there from the start, and
// of calls every code that one can end with.
func figures(t *testing.T) map[string]labels {
	t.Helper()
	m := metrics.New(func() int { return 0 })
	m.Kernel(func() (map[string]uint64, error) {
		counts := map[string]uint64{}
		for _, reason := range nft.Reasons {
			counts[reason] = 0
		}
		return counts, nil
	})
	m.Sandboxes(func() (s metrics.States) { return s }, func() (t metrics.Tunnels) { return t }, func() (g metrics.GPUs) { return g })
	m.Called("/brig.v1.Sandboxes/List", "ok")
	for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
		m.Called("/brig.v1.Sandboxes/List", code.String())
	}
	families, err := m.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]labels{}
	for _, f := range families {
		known := labels{}
		for _, one := range f.GetMetric() {
			for _, l := range one.GetLabel() {
				if known[l.GetName()] == nil {
					known[l.GetName()] = map[string]bool{}
				}
				known[l.GetName()][l.GetValue()] = true
			}
		}
		all[f.GetName()] = known
	}
	return all
}

// expressions of the alerts, and of the dashboard's panels.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	rule := regexp.MustCompile(`(?m)^        expr: (>-\n(?:          .*\n)+|.*\n)`)
	for _, m := range rule.FindAllStringSubmatch(string(read(t, "prometheus/brig.rules.yml")), -1) {
		all = append(all, m[1])
	}
	var board struct {
		Panels []struct {
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(read(t, "grafana/brig.json"), &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

var (
	selector = regexp.MustCompile(`\b((?:brig|process)_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`([a-z_]+)(=~|!~|!=|=)"([^"]*)"`)
	grouping = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// wrong says what an expression asks for that no brigd has.
func wrong(all map[string]labels, expr string) (faults []string) {
	seen := map[string]bool{"instance": true, "le": true} // of Prometheus, and of histograms
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		known, ok := all[strings.TrimSuffix(s[1], "_bucket")]
		if !ok {
			faults = append(faults, "no figure "+s[1])
			continue
		}
		for name := range known {
			seen[name] = true
		}
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			if m[1] == "instance" {
				continue
			}
			for value := range strings.SplitSeq(m[3], "|") {
				if !known[m[1]][value] {
					faults = append(faults, s[1]+" has no "+m[1]+" "+value)
				}
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for name := range strings.SplitSeq(g[1], ",") {
			if name = strings.TrimSpace(name); !seen[name] {
				faults = append(faults, "no label "+name)
			}
		}
	}
	return faults
}

// An alert over a figure, or a label's value, that nobody has never rings, and a panel
// stays empty.
func TestFiguresOfAlertsAndPanels(t *testing.T) {
	all, exprs := figures(t), expressions(t)
	for _, expr := range exprs {
		for _, fault := range wrong(all, expr) {
			t.Errorf("%s\n  %s", strings.TrimSpace(expr), fault)
		}
	}
	if len(exprs) < 30 {
		t.Errorf("found only %d expressions", len(exprs))
	}
	want := []string{"no figure brig_nothing", "brig_creates_total has no result broken", "no label who"}
	got := wrong(all, `sum by (who) (brig_nothing) > rate(brig_creates_total{instance=~"x",result=~"ok|broken"}[1m])`)
	if !slices.Equal(got, want) {
		t.Errorf("the check sees %q, want %q", got, want)
	}
}

func TestAlertsAreWhole(t *testing.T) {
	rules := string(read(t, "prometheus/brig.rules.yml"))
	alerts := regexp.MustCompile(`(?m)^      - alert: `).FindAllString(rules, -1)
	for _, field := range []string{"expr", "labels", "annotations", "summary", "description"} {
		if n := len(regexp.MustCompile(`(?m)^ +`+field+`: ?`).FindAllString(rules, -1)); n != len(alerts) || n == 0 {
			t.Errorf("%d alerts, %d with %s", len(alerts), n, field)
		}
	}
}
