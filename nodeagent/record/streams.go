package record

// check refuses what nobody would see.
func (s Streams) check(idles bool) error {
	switch {
	case s.Size != (Size{}) && !s.TTY:
		return invalid("size is given without tty: only a terminal has one")
	case (s.Size.Columns == 0) != (s.Size.Rows == 0):
		return invalid("invalid size %d x %d: give both, or none", s.Size.Columns, s.Size.Rows)
	case (s.Stdin || s.TTY) && idles:
		return invalid("stdin and tty need argv: a sandbox that idles has no program that would use them")
	}
	return nil
}

// checkStreams leaves a size alone whose terminal, or none, is a checkpoint's:
// CheckRestored has the word then.
func (r Request) checkStreams() error {
	if r.Checkpoint != "" {
		return nil
	}
	return r.check(len(r.Argv) == 0)
}

// CheckRestored refuses, of a checked request that was filled in from its checkpoint, what
// could not be judged before.
func (r Request) CheckRestored() error { return r.check(false) }
