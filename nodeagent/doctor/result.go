package doctor

import (
	"encoding/json"
	"fmt"
	"time"
)

// Verdict on a case.
type Verdict string

// Verdicts. The zero one is none, and counts as not judged.
const (
	OK        Verdict = "ok"             // its control was seen, and nothing else
	Escaped   Verdict = "escaped"        // something was seen where it must not be
	NotJudged Verdict = "not judged"     // the control was not seen, so nothing is known
	NotHere   Verdict = "not applicable" // this node cannot have it
)

// Result of one case.
type Result struct {
	Case    string  `json:"case"`
	Verdict Verdict `json:"verdict"`
	// Detail says what was tried, or what was seen where.
	Detail string `json:"detail"`
	// Tries and Controls are how many things were sent.
	Tries    int `json:"tries"`
	Controls int `json:"controls"`
}

// Report of a run.
type Report struct {
	Node    string
	Took    time.Duration
	Results []Result
}

// Count of the results with a verdict.
func (r Report) Count(v Verdict) int {
	n := 0
	for _, result := range r.Results {
		if result.Verdict == v {
			n++
		}
	}
	return n
}

// Verdict of the whole: one escape is one, and without one a case that was not judged
// leaves all in doubt. A report without results is not judged.
func (r Report) Verdict() Verdict {
	switch known := r.Count(OK) + r.Count(NotHere); {
	case r.Count(Escaped) > 0:
		return Escaped
	case r.Count(OK) == 0 || known < len(r.Results):
		return NotJudged
	}
	return OK
}

// Summary is one line.
func (r Report) Summary() string {
	return fmt.Sprintf("%d cases in %.1f s: %d ok, %d escaped, %d not judged, %d not applicable",
		len(r.Results), r.Took.Seconds(), r.Count(OK), r.Count(Escaped), r.Count(NotJudged), r.Count(NotHere))
}

// MarshalJSON is the form of --json.
func (r Report) MarshalJSON() ([]byte, error) {
	type totals struct {
		OK        int `json:"ok"`
		Escaped   int `json:"escaped"`
		NotJudged int `json:"not_judged"`
		NotHere   int `json:"not_applicable"`
	}
	results := r.Results
	if results == nil {
		results = []Result{}
	}
	return json.Marshal(struct {
		Node    string   `json:"node"`
		Verdict Verdict  `json:"verdict"`
		TookMS  int64    `json:"took_ms"`
		Totals  totals   `json:"totals"`
		Cases   []Result `json:"cases"`
	}{r.Node, r.Verdict(), r.Took.Milliseconds(), totals{
		r.Count(OK), r.Count(Escaped), r.Count(NotJudged), r.Count(NotHere),
	}, results})
}
