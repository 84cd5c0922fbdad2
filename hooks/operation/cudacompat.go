package operation

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// compatDir is where CUDA's images have their compatibility libraries.
const compatDir = "/usr/local/cuda/compat"

// cudaCompat lets a program use the libcuda of its image, if that is newer than the
// driver's and made for this driver.
type cudaCompat struct {
	driver version // the host's; nil if it is not known
	cuda   version
	dir    string
}

func newCUDACompat(f flags) (Operation, error) {
	dir := f.last("cuda-compat-container-root", compatDir)
	if err := confLine(dir); err != nil {
		return nil, fmt.Errorf("flag cuda-compat-container-root: %w", err)
	}
	return cudaCompat{
		driver: parseVersion(f.last("host-driver-version", "")),
		cuda:   parseVersion(f.last("host-cuda-version", "")),
		dir:    path.Clean(dir),
	}, nil
}

// Apply names the folder of the compatibility libraries in /etc/ld.so.conf.d, before any
// other; update-ldcache does the rest. Without exactly one such library, or with one that
// says nothing clear, the driver's own is used.
func (c cudaCompat) Apply(r *Root) error {
	if err := r.opened(); err != nil {
		return err
	}
	if c.driver == nil && c.cuda == nil {
		return nil
	}
	dir, err := r.lookup(c.dir, unix.O_DIRECTORY, 0)
	if absent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	lib, found, err := c.library(dir)
	if err != nil || !found {
		return err
	}
	defer lib.Close()
	if !c.newer(lib) {
		return nil
	}
	real, err := r.real(dir)
	if err != nil {
		return fmt.Errorf("find the way to %q: %w", c.dir, err)
	}
	if confLine(real) != nil {
		return nil // no configuration file can name it
	}
	return r.addConf("00-compat", []string{real})
}

// library opens the one libcuda.so.X.Y of the folder, which has to be a regular file.
func (c cudaCompat) library(dir *os.File) (*os.File, bool, error) {
	names, err := list(dir, maxNames)
	if err != nil {
		return nil, false, fmt.Errorf("look for CUDA's compatibility libraries: %w", err)
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		ok, err := path.Match("libcuda.so.*.*", name)
		return err != nil || !ok
	})
	var found []*os.File
	for _, name := range names {
		if len(found) < 2 {
			if f, err := openRegular(int(dir.Fd()), name, unix.O_NOFOLLOW); err == nil {
				found = append(found, f)
			}
		}
	}
	if len(found) == 1 {
		return found[0], true, nil
	}
	for _, f := range found {
		err = errors.Join(err, f.Close())
	}
	return nil, false, err
}

// newer goes by what the library says of itself, and else by the number of its driver.
func (c cudaCompat) newer(lib *os.File) bool {
	compat := parseVersion(strings.TrimPrefix(lib.Name(), "libcuda.so."))
	note, said := readCompatNote(lib)
	switch {
	case said && compat != nil && c.driver != nil:
		return slices.Contains(note.Driver, c.driver[0]) && compat.compare(c.driver) > 0
	case said && c.cuda != nil:
		made := parseVersion(note.CUDA)
		return made != nil && made.compare(c.cuda) > 0
	case said || c.cuda != nil || compat == nil || c.driver == nil:
		return false
	}
	return compat[0] > c.driver[0]
}
