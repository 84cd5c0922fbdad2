package record

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// snapshotDomain is where the names of snapshots begin. No registry has it: images of
// these names come from sandboxes alone.
const snapshotDomain = "snapshot.brig"

var snapshotPattern = regexp.MustCompile(`^[a-z0-9_.-]{1,64}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$`)

// SnapshotName is the full name of an owner's snapshot: snapshot.brig/UID/NAME:TAG.
func SnapshotName(owner uint32, name string) (string, error) {
	full := fmt.Sprintf("%s/%d/%s", snapshotDomain, owner, name)
	ref, err := reference.ParseDockerRef(full)
	if err != nil || !snapshotPattern.MatchString(name) {
		return "", invalid("invalid snapshot %.100q: use at most 64 of [a-z0-9_.-], beginning and ending with a letter or digit, and an optional :tag", name)
	}
	return ref.String(), nil
}

// SnapshotOwner tells whose snapshot has the name.
func SnapshotOwner(image string) (owner uint32, ok bool) {
	owner, known, _ := splitSnapshot(image)
	return owner, known
}

// IsSnapshot tells whether an image's name is one that only a snapshot has.
func IsSnapshot(image string) bool {
	_, _, ok := splitSnapshot(image)
	return ok
}

// MaySee tells whether uid may know of the image of that name: of any but others'
// snapshots.
func MaySee(uid uint32, image string) bool {
	owner, known, ok := splitSnapshot(image)
	return !ok || uid == 0 || known && owner == uid
}

// splitSnapshot returns whose snapshot an image's name is; known is false if it is
// nobody's, so that it is root's alone.
func splitSnapshot(image string) (owner uint32, known, ok bool) {
	ref, err := reference.ParseDockerRef(image)
	if err != nil || !strings.EqualFold(reference.Domain(ref), snapshotDomain) {
		return 0, false, false
	}
	uid, _, _ := strings.Cut(reference.Path(ref), "/")
	n, err := strconv.ParseUint(uid, 10, 32)
	known = err == nil && strconv.FormatUint(n, 10) == uid && reference.Domain(ref) == snapshotDomain
	return uint32(n), known, true
}
