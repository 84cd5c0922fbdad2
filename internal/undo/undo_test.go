package undo

import (
	"context"
	"errors"
	"slices"
	"testing"
)

func TestUndoRunsEveryStepLastFirst(t *testing.T) {
	var ran []string
	var steps Stack
	for _, name := range []string{"a", "b", "c"} {
		steps.Push(name, func(ctx context.Context) error {
			ran = append(ran, name)
			if ctx.Err() != nil {
				t.Errorf("step %s was given an ended context", name)
			}
			if name == "b" {
				return errors.New("stuck")
			}
			return nil
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cause := errors.New("cause")
	err := cause
	steps.Undo(ctx, &err)
	if want := []string{"c", "b", "a"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
	if !errors.Is(err, cause) || err.Error() != "cause\nb: stuck" {
		t.Errorf("error %q", err)
	}
	steps.Undo(ctx, &err)
	if len(ran) != 3 {
		t.Error("a second Undo ran steps again")
	}
}

func TestReleaseKeepsWhatWasDone(t *testing.T) {
	var steps Stack
	steps.Push("a", func(context.Context) error { t.Error("undone"); return nil })
	steps.Release()
	var err error
	steps.Undo(t.Context(), &err)
	if err != nil {
		t.Error(err)
	}
}
