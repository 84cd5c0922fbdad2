// Package terminal is the local end of an interactive exec: raw mode, the size
// of the window and its changes. Everything it changes it puts back.
package terminal

import (
	"context"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Size of a window in characters.
type Size struct{ Columns, Rows uint32 }

// Is tells whether stream is a file that is a terminal.
func Is(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// Raw puts f into raw mode and returns what puts it back.
func Raw(f *os.File) (restore func(), err error) {
	old, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(int(f.Fd()), old) }, nil
}

// SizeOf returns the size of the window of f; zero if it has none.
func SizeOf(f *os.File) Size {
	columns, rows, err := term.GetSize(int(f.Fd()))
	if err != nil || columns < 0 || rows < 0 {
		return Size{}
	}
	return Size{Columns: uint32(columns), Rows: uint32(rows)}
}

// Resizes calls changed with the new size whenever the window of f changes,
// until ctx ends.
func Resizes(ctx context.Context, f *os.File, changed func(Size)) {
	ch := make(chan os.Signal, 1)
	signal.Notify(ch, unix.SIGWINCH)
	defer signal.Stop(ch)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ch:
			changed(SizeOf(f))
		}
	}
}
