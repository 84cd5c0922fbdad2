package record

import "testing"

func TestShapeOf(t *testing.T) {
	for _, tc := range []struct {
		in   Resources
		node int
		want Shape
	}{
		{Resources{}, 8, Shape{}},
		{Resources{CPU: 0.5}, 8, Shape{CPUs: 2}},
		{Resources{CPU: 2.1, MemoryMiB: 64}, 8, Shape{CPUs: 3, MemoryMiB: 64}},
		{Resources{CPU: 8}, 8, Shape{}},
		{Resources{CPU: 1}, 2, Shape{}},
		{Resources{CPURequest: 1, PIDs: 5}, 8, Shape{}},
	} {
		got := ShapeOf(tc.in, tc.node)
		if got != tc.want {
			t.Errorf("%+v on %d: %+v; want %+v", tc.in, tc.node, got, tc.want)
		}
		if again := ShapeOf(got.Resources(), tc.node); again != got {
			t.Errorf("booted with %+v it has shape %+v; want %+v", got.Resources(), again, got)
		}
	}
}
