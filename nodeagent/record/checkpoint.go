package record

import "regexp"

var checkpointPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

// CheckCheckpoint accepts a name for a checkpoint: the same where one is made and where a
// sandbox is made of it.
func CheckCheckpoint(name string) error {
	if !checkpointPattern.MatchString(name) {
		return invalid("invalid checkpoint %.100q: use at most 64 of [A-Za-z0-9_.-], beginning with a letter, a digit or _", name)
	}
	return nil
}
