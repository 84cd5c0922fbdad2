package bundle

import (
	"os"
	"path/filepath"
)

// slotFolder of a bundle whose sandbox is made before its program is known.
const slotFolder = "slot"

// Slot is where the holder of such a sandbox has its records: a bundle in the bundle, so
// that the program's are where everybody's are.
func (b Bundle) Slot() Bundle { return Bundle(filepath.Join(string(b), slotFolder)) }

// OfSlot returns the bundle that b is the Slot of.
func (b Bundle) OfSlot() Bundle { return Bundle(filepath.Dir(string(b))) }

// MakeSlot makes the folder.
func (b Bundle) MakeSlot() error { return os.Mkdir(string(b.Slot()), 0o700) }

// RemoveSlot removes it with all that is in it.
func (b Bundle) RemoveSlot() error { return os.RemoveAll(string(b.Slot())) }
