package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestProfile: what lies within another in time is its part, once; what another operation
// did is not there.
func TestProfile(t *testing.T) {
	zero := time.Unix(1000, 0)
	at := func(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }
	p := newProfile("make", []step{{"make", at(0), at(100)}, {"other", at(100), at(120)}, {"make", at(200), at(300)}},
		[]span{
			{"call", at(10), at(90)}, {"a", at(20), at(60)}, {"beside a", at(50), at(70)}, {"elsewhere", at(105), at(110)},
			{"call", at(210), at(290)}, {"a", at(220), at(240)}, {"b", at(225), at(235)},
		},
		[]program{{"runsc", at(30), at(50)}, {"shim", at(20), time.Time{}}})
	var b bytes.Buffer
	p.write(&b)
	const want = `
make: mean of 2, 100.00 ms
     at    took    own  times   part, in ms
   0.00  100.00  20.00      1   the client
  10.00   80.00  45.00      1     call
  20.00   30.00  25.00      1       a
  25.00    5.00   5.00    0.5         b
  50.00   10.00  10.00    0.5       beside a
                                
     at     ran         times   program
  20.00      on           0.5   shim
  30.00   20.00           0.5   runsc

top 10 costs, by a part's own time
 1.  45.00 ms  45.0 %  the client › call
 2.  25.00 ms  25.0 %  the client › call › a
 3.  20.00 ms  20.0 %  the client
 4.  10.00 ms  10.0 %  the client › call › beside a
 5.   5.00 ms   5.0 %  call › a › b
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
