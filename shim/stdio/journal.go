package stdio

import (
	"fmt"

	"brig/internal/journal"

	"github.com/containerd/errdefs"
)

func openJournalSink(uri string) (*sink, error) {
	spec, err := journal.ParseURI(uri)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	w, err := journal.Create(spec)
	if err != nil {
		return nil, err
	}
	return &sink{w: w, hold: lastWords{w}}, nil
}

// lastWords makes room in a full journal for what a program that has ended left in its
// pipe: its end is not kept back for a reader that may never come.
type lastWords struct{ w *journal.Writer }

func (l lastWords) Close() error {
	l.w.Lift(2 * bufferBytes)
	return nil
}
