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
	return &sink{w: w}, nil
}
