package progress_test

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"brig/nodeagent/brig/progress"
	"github.com/google/go-cmp/cmp"
)

// transfer is 14 s of a transfer of 1.2 MB that reports every 50 ms.
func transfer(terminal bool) string {
	var out bytes.Buffer
	m := progress.Start(&out, terminal, "pulling x")
	const steps = 280
	for i := range uint64(steps) {
		time.Sleep(50 * time.Millisecond) // the bubble's time
		total := uint64(1_200_000)
		if i < 10 {
			total = 0 // not known yet
		}
		m.Update(1_200_000*i/steps, total)
	}
	m.End("pulled x")
	return out.String()
}

func TestPlainLinesNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		want := "pulling x\n" +
			"pulling x: 424.3 kB of 1.2 MB\n" +
			"pulling x: 852.9 kB of 1.2 MB\n" +
			"pulled x\n"
		if diff := cmp.Diff(want, transfer(false)); diff != "" {
			t.Errorf("lines differ (-want +got):\n%s", diff)
		}
	})
}

func TestBarIsRedrawnInPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := transfer(true)
		for _, want := range []string{
			"\rpulling x",
			"\r\x1b[Kpulling x 4.3 kB",
			"\r\x1b[Kpulling x [==============                ] 595.7 kB of 1.2 MB",
			"\r\x1b[Kpulled x\n",
		} {
			if !bytes.Contains([]byte(got), []byte(want)) {
				t.Errorf("lacks %q", want)
			}
		}
		if redraws := bytes.Count([]byte(got), []byte("\r\x1b[K")); redraws != 141 {
			t.Errorf("%d redraws in 14 s, expected 141: ten a second and the end", redraws)
		}
		if lines := bytes.Count([]byte(got), []byte("\n")); lines != 1 {
			t.Errorf("%d lines, expected the last alone", lines)
		}
	})
}
