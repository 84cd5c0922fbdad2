package task

import (
	"math"
	"testing"
)

func TestShares(t *testing.T) {
	type account = map[string]uint64
	var s shares
	for i, c := range []struct {
		whole   uint64
		account account
		a, b    uint64
	}{
		{100, account{"a": 10}, 100, 0},
		{100, account{"a": 10}, 100, 0},
		{160, account{"a": 10}, 100, 0}, // nobody worked: it waits for the next who does
		{200, account{"a": 13, "b": 1}, 175, 25},
		{300, nil, 175, 25}, // the sentry does not answer
		{300, account{"a": 13, "b": 2}, 175, 125},
		{400, account{"a": 3, "b": 3}, 175, 225}, // it takes back what it said
		{500, account{"a": math.MaxUint64, "b": 4}, 274, 225},
		{100, account{"a": math.MaxUint64, "b": 5}, 274, 225}, // the host's count does not shrink, either
	} {
		if a, b := s.of("a", c.whole, c.account), s.of("b", c.whole, c.account); a != c.a || b != c.b {
			t.Errorf("step %d: %d and %d, want %d and %d", i, a, b, c.a, c.b)
		}
	}
	var liar shares
	most := account{"a": math.MaxUint64, "b": math.MaxUint64}
	if a, b := liar.of("a", 1000, most), liar.of("b", 1000, most); a+b > 1000 {
		t.Errorf("%d and %d are more than the host has counted", a, b)
	}
}
