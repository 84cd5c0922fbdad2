package doctor

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestVerdictOfTheWhole(t *testing.T) {
	for _, tc := range []struct {
		results []Verdict
		want    Verdict
	}{
		{nil, NotJudged},
		{[]Verdict{NotHere}, NotJudged},
		{[]Verdict{OK, ""}, NotJudged},
		{[]Verdict{OK, NotHere}, OK},
		{[]Verdict{OK, NotJudged}, NotJudged},
		{[]Verdict{NotJudged, Escaped, OK}, Escaped},
	} {
		var r Report
		for _, v := range tc.results {
			r.Results = append(r.Results, Result{Verdict: v})
		}
		if got := r.Verdict(); got != tc.want {
			t.Errorf("%q: %s, want %s", tc.results, got, tc.want)
		}
	}
}

func TestReportAsJSON(t *testing.T) {
	r := Report{Node: "host", Took: 1500 * time.Millisecond, Results: []Result{
		{"UDP", OK, "datagrams", 1, 2}, {"TCP", Escaped, "seen at a listener", 1, 1}, {"IPv6", NotHere, "it has none", 0, 0},
	}}
	got, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := `{
 "node": "host",
 "verdict": "escaped",
 "took_ms": 1500,
 "totals": {
  "ok": 1,
  "escaped": 1,
  "not_judged": 0,
  "not_applicable": 1
 },
 "cases": [
  {
   "case": "UDP",
   "verdict": "ok",
   "detail": "datagrams",
   "tries": 1,
   "controls": 2
  },
  {
   "case": "TCP",
   "verdict": "escaped",
   "detail": "seen at a listener",
   "tries": 1,
   "controls": 1
  },
  {
   "case": "IPv6",
   "verdict": "not applicable",
   "detail": "it has none",
   "tries": 0,
   "controls": 0
  }
 ]
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	if s := r.Summary(); s != "3 cases in 1.5 s: 1 ok, 1 escaped, 0 not judged, 1 not applicable" {
		t.Error(s)
	}
}

// TestJudgement of a case: what is seen decides, silence alone proves nothing.
func TestJudgement(t *testing.T) {
	seen := func(j *judge, place string) int {
		n, m := j.marker()
		if place != "" {
			j.data(place, m)
		}
		return n
	}
	for _, tc := range []struct {
		name string
		make func(*judge) kase
		want string
	}{
		{"quiet, and the control was seen", func(j *judge) kase {
			return kase{what: "this", tries: []*attempt{{n: seen(j, ""), places: []string{atHost}}}, controls: []*attempt{{n: seen(j, atHost), places: []string{atHost}}}}
		}, "ok: this"},
		{"quiet, and so was the control", func(j *judge) kase {
			return kase{tries: []*attempt{{n: seen(j, ""), places: []string{atHost}}}, controls: []*attempt{{n: seen(j, atUplink), places: []string{atHost}}}}
		}, "not judged: control 1, which is allowed, was not seen at [the node's link in the host]"},
		{"seen, though the control was not", func(j *judge) kase {
			return kase{tries: []*attempt{{what: "a frame", n: seen(j, atUplink), places: []string{atHost, atUplink}}}, controls: []*attempt{{n: seen(j, ""), places: []string{atHost}}}}
		}, "escaped: a frame: seen at an uplink of the host"},
		{"seen where it may be", func(j *judge) kase {
			return kase{what: "this", tries: []*attempt{{n: seen(j, atHost), places: []string{atListener}}}, controls: []*attempt{{n: seen(j, atHost), places: []string{atHost}}}}
		}, "ok: this"},
		{"answered", func(j *judge) kase {
			return kase{tries: []*attempt{{what: "a call", n: seen(j, ""), probed: true, answer: true, said: "connected"}}}
		}, "escaped: a call: connected"},
		{"nothing is known of a try", func(j *judge) kase {
			return kase{tries: []*attempt{{what: "a call", n: seen(j, ""), probed: true, answer: true, err: errors.New("nothing is known of it")}},
				controls: []*attempt{{n: seen(j, atHost), places: []string{atHost}}}}
		}, "not judged: a call: nothing is known of it"},
		{"a control that should be answered", func(j *judge) kase {
			return kase{tries: []*attempt{{n: seen(j, "")}}, controls: []*attempt{{n: seen(j, ""), probed: true, said: "sent"}}}
		}, "not judged: control 1 was not seen; from inside: sent"},
		{"no try", func(j *judge) kase { return kase{controls: []*attempt{{n: seen(j, atHost), places: []string{atHost}}}} }, "not judged: nothing was tried"},
		{"no control", func(j *judge) kase { return kase{tries: []*attempt{{n: seen(j, ""), places: []string{atHost}}}} }, "not judged: nothing shows that it could have been seen"},
		{"not here", func(*judge) kase { return kase{unfit: "no IPv6"} }, "not applicable: no IPv6"},
		{"not here, and yet", func(*judge) kase { return kase{unfit: "no IPv6", also: []string{"one", "two"}} }, "escaped: one, and 1 more"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := newJudge()
			c := tc.make(j)
			c.p = &plan{world: &world{judge: j}}
			r := c.judge()
			if got := string(r.Verdict) + ": " + r.Detail; got != tc.want {
				t.Errorf("got    %s\nwanted %s", got, tc.want)
			}
		})
	}
}

func TestListeningPorts(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   3: 0100007F:0050 0100007F:8000 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
`
	got, err := parseListening(strings.NewReader(table))
	if diff := cmp.Diff([]uint16{22, 8080}, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if _, err := parseListening(strings.NewReader("0: nonsense x 0A")); err == nil {
		t.Error("nonsense is a table")
	}
}
