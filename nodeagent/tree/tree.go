// Package tree moves trees of files as tar archives: Pack makes one of what lies below
// a folder, an Arrival unpacks one and puts it in its place, whole or not at all.
//
// Neither side trusts the other. An archive is a stream of claims by whoever sent it,
// and the folder that it is unpacked into may be changed meanwhile by others. So:
//
//   - Names are those of package tar's entries, relative, without "..", and all below
//     one top element. Whatever that one is called in the archive, it is the Arrival's
//     caller who names what is made.
//   - An archive is unpacked into a new folder beside its destination, through an
//     os.Root, which no link leads out of. Symbolic links are made last, so that none
//     of the archive's own is followed either.
//   - Only files, folders and links are made; a device, a FIFO or anything else is an
//     error. Everything belongs to whoever unpacks. Of the modes, setuid and setgid are
//     dropped: an archive does not lend anybody its reader's rights.
//   - Entries, bytes and the memory that names take are bounded by Limits.
//
// Pack does not follow links, leaves out what is no file, folder or link, and does not
// go into the kernel's own filesystems, such as /proc. A file with several names is
// packed as often.
//
// What has arrived is not flushed to the disk, as with cp: after a power failure it may
// be missing.
package tree

// Summary counts what was packed or unpacked.
type Summary struct {
	// Top is what the archive calls its top element; "." for one that begins with
	// that.
	Top string
	// Entries of the archive, the top one included.
	Entries int
	// Bytes in files.
	Bytes int64
	// Left out, because they are neither files nor folders nor links.
	Skipped int
}

// Limits of what is unpacked.
type Limits struct {
	// Entries of the archive.
	Entries int
	// Bytes in files.
	Bytes int64
	// Names is the memory that names may take that are kept until the end: those of
	// folders and of links, with what links say.
	Names int64
}

// Unbounded leaves files to the disk's own limits, and bounds what takes memory.
func Unbounded() Limits { return Limits{Entries: 1 << 40, Bytes: 1 << 62, Names: 256 << 20} }
