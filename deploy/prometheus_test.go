package deploy_test

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"brig/internal/netpolicy/nft"
	"brig/nodeagent/metrics"
)

// An alert over a figure that nobody has never rings.
func TestAlertsAreOverFiguresThatThereAre(t *testing.T) {
	answer := httptest.NewRecorder()
	m := metrics.New(func() int { return 0 })
	m.Kernel(func() (map[string]uint64, error) { return map[string]uint64{nft.ReasonIdentity: 0}, nil })
	m.Ended("exited")
	m.Called("/brig.v1.Sandboxes/List", "ok")
	m.Handler().ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	figures := "\n" + answer.Body.String()
	rules := string(read(t, "prometheus/brig.rules.yml"))
	found := 0
	for _, figure := range regexp.MustCompile(`brig_[a-z_]+`).FindAllString(rules, -1) {
		found++
		if !strings.Contains(figures, "\n"+figure+" ") && !strings.Contains(figures, "\n"+figure+"{") {
			t.Errorf("brigd has no figure %s", figure)
		}
	}
	if found == 0 {
		t.Error("found no figure")
	}
	alerts := regexp.MustCompile(`(?m)^      - alert: `).FindAllString(rules, -1)
	for _, field := range []string{"expr", "labels", "annotations", "summary", "description"} {
		if n := len(regexp.MustCompile(`(?m)^ +`+field+`: ?`).FindAllString(rules, -1)); n != len(alerts) {
			t.Errorf("%d alerts, %d with %s", len(alerts), n, field)
		}
	}
}
