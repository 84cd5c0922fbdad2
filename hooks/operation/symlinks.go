package operation

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"
)

// symlinks to make, in this order.
type symlinks []symlink

type symlink struct{ target, path string }

func newSymlinks(f flags) (Operation, error) {
	var list symlinks
	for _, v := range f["link"] {
		target, link, ok := strings.Cut(v, "::")
		link = path.Clean("/" + link)
		switch {
		case !ok || strings.Contains(link, "::"):
			return nil, fmt.Errorf("link %.128q is not TARGET::LINK: %w", v, errdefs.ErrInvalidArgument)
		case target == "" || link == "/":
			return nil, fmt.Errorf("link %.128q has no target or no name: %w", v, errdefs.ErrInvalidArgument)
		case len(target) > maxPath || len(link) > maxPath:
			return nil, fmt.Errorf("link %.128q is longer than a path may be: %w", v, errdefs.ErrInvalidArgument)
		case strings.HasPrefix(link, "/dev/"):
			continue // the sentry's, where no link of the image's shows
		}
		list = append(list, symlink{target, link})
	}
	return list, nil
}

// Apply makes each link and the folders above it. What is there under its name is replaced,
// unless it is a folder.
func (s symlinks) Apply(r *Root) error {
	if err := r.opened(); err != nil {
		return err
	}
	for _, l := range s {
		if err := r.link(l); err != nil {
			return fmt.Errorf("link %q to %q: %w", l.path, l.target, err)
		}
	}
	return nil
}

func (r *Root) link(l symlink) error {
	dir, err := r.mkdirAll(path.Dir(l.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return replaceLink(dir, path.Base(l.path), l.target)
}
