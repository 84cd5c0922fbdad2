// Package undo takes back the steps of an operation that failed half-way.
//
// Each side effect pushes the step that undoes it before the next one is made; the
// operation releases the stack when it has succeeded. Steps run last in, first out,
// every one of them, past errors, and with a deadline of their own: the context
// whose end made the operation fail must not keep it from cleaning up.
//
//	var steps undo.Stack
//	defer steps.Undo(ctx, &err)
//	…
//	steps.Push("remove the link", func(ctx context.Context) error { … })
//	…
//	steps.Release()
//
// A Stack is not safe for concurrent use. The zero value is ready.
package undo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Deadline of all steps of one stack together.
const Deadline = 30 * time.Second

// Stack of steps to take back.
type Stack struct {
	steps []step
}

type step struct {
	what string
	undo func(context.Context) error
}

// Push adds a step; what says in an error what could not be taken back.
func (s *Stack) Push(what string, undo func(context.Context) error) {
	s.steps = append(s.steps, step{what, undo})
}

// Release forgets all steps: what was done stays.
func (s *Stack) Release() { s.steps = nil }

// Undo runs and forgets the steps and joins what fails to *err. Without steps it
// does nothing, so it can be deferred before the first.
func (s *Stack) Undo(ctx context.Context, err *error) {
	if len(s.steps) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), Deadline)
	defer cancel()
	for len(s.steps) > 0 {
		last := s.steps[len(s.steps)-1]
		s.steps = s.steps[:len(s.steps)-1]
		if failed := last.undo(ctx); failed != nil {
			*err = errors.Join(*err, fmt.Errorf("%s: %w", last.what, failed))
		}
	}
}
