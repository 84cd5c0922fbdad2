package upper

import (
	"archive/tar"
	"encoding/base64"
	"strings"

	"github.com/containerd/errdefs"
)

// xattrRecord is how tar archives name an extended attribute.
const xattrRecord = "SCHILY.xattr."

// xattrs takes over those that mean the same in an image, and refuses the others: they
// would be set on the host.
func (x *index) xattrs(e *entry, h *tar.Header) error {
	for key, value := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrRecord)
		if !ok {
			continue // what the reader has made a field of
		}
		if x.attributes += len(name) + len(value); x.attributes > maxAttributes {
			return bad("more than %d bytes of names and attributes", maxAttributes)
		}
		switch {
		case name == "trusted.overlay.opaque":
			e.opaque = value == "y"
			continue
		case strings.HasPrefix(name, "trusted.overlay."):
			continue // of the sandbox's overlay, for itself
		case strings.HasPrefix(name, "system.posix_acl_"):
			acl, err := base64.RawStdEncoding.DecodeString(value) // as gVisor writes them
			if err != nil {
				return bad("%q: attribute %s: %w", e.name, name, err)
			}
			value = string(acl)
		case name == "security.capability", strings.HasPrefix(name, "user."):
		default:
			return errdefs.ErrFailedPrecondition.WithMessage("the sandbox's file \"/" + e.name + "\" has an extended attribute " + name + ", which an image cannot have")
		}
		if e.header.PAXRecords == nil {
			e.header.PAXRecords = map[string]string{}
		}
		e.header.PAXRecords[xattrRecord+name] = value
	}
	return nil
}
