package stdio

import (
	"context"
	"os"
)

// OpenConsole is Open for a process whose terminal somebody else has made, and given
// to it: Files are none. It takes the master over.
func OpenConsole(ctx context.Context, c Config, master *os.File) (*IO, error) {
	s := &IO{tty: master}
	if err := s.openMaster(ctx, c); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}
