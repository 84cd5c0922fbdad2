package clock

import "testing"

func TestClock(t *testing.T) {
	a, err := Now()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Now()
	if err != nil || a <= 0 || b < a {
		t.Errorf("%v, then %v, %v", a, b, err)
	}
	if boot, err := Boot(); err != nil || len(boot) != 36 {
		t.Errorf("boot %q, %v; want a UUID", boot, err)
	}
}
