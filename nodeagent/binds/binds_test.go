package binds

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"brig/internal/require"
)

const id = "sb-abcdefghijklmnop"

// stage has a root with a folder, a file and links, and a secret outside of it.
func stage(t *testing.T) (s Stage, root string) {
	t.Helper()
	require.Root(t)
	dir := t.TempDir()
	root = filepath.Join(dir, "root")
	for path, text := range map[string]string{
		"root/data/file": "inside", "root/data/deep/file": "deep", "rooted/file": "outside", "secret/file": "outside",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{
		"inner": "data", "outer": "../secret", "absolute": filepath.Join(dir, "secret"), "magic": "/proc/self/root", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	s = Stage{Dir: filepath.Join(dir, "binds"), Roots: []string{root}}
	t.Cleanup(func() {
		if err := s.Remove(id); err != nil {
			t.Error(err)
		}
	})
	return s, root
}

func TestMount(t *testing.T) {
	s, root := stage(t)
	for n, tc := range []struct{ source, file, want string }{
		{root + "/data", "file", "inside"},
		{root + "/data/file", "", "inside"},
		{root + "/inner/deep", "file", "deep"},
		{root, "data/file", "inside"},
	} {
		path, err := s.Mount(id, n, tc.source, false)
		if err != nil {
			t.Errorf("%s: %v", tc.source, err)
			continue
		}
		if got, err := os.ReadFile(filepath.Join(path, tc.file)); err != nil || string(got) != tc.want {
			t.Errorf("%s: %q, %v; want %q", tc.source, got, err, tc.want)
		}
		if f, err := os.OpenFile(filepath.Join(path, tc.file), os.O_WRONLY, 0); !errors.Is(err, unix.EROFS) {
			t.Errorf("%s: opened for writing: %v", tc.source, err)
			f.Close()
		}
		if options := optionsOf(t, path); !strings.Contains(options, "ro,") || !strings.Contains(options, "nosuid") ||
			!strings.Contains(options, "nodev") || strings.Contains(options, "shared:") {
			t.Errorf("%s is mounted as %q", tc.source, options)
		}
	}
	if left, err := s.Left(); err != nil || len(left) != 1 || left[0] != id {
		t.Errorf("left: %q, %v", left, err)
	}
}

// optionsOf is the mount's line in mountinfo.
func optionsOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		if strings.Contains(line, " "+path+" ") {
			_, after, _ := strings.Cut(line, " "+path+" ")
			return after
		}
	}
	t.Errorf("%s is no mount", path)
	return ""
}

func TestWritable(t *testing.T) {
	s, root := stage(t)
	path, err := s.Mount(id, 0, root+"/data", true)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+"/new", []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(root + "/data/new"); err != nil {
		t.Error(err)
	}
}

// What is mounted below the source would be shown with whatever options it has.
func TestMountsBelowAreNotShown(t *testing.T) {
	s, root := stage(t)
	if err := unix.Mount("none", root+"/data/deep", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(root+"/data/deep", unix.MNT_DETACH)
	if err := os.WriteFile(root+"/data/deep/mounted", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	path, err := s.Mount(id, 0, root+"/data", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "/deep/mounted"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a mount below the source is shown: %v", err)
	}
	path, err = s.Mount(id, 1, root+"/data/deep", false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path + "/mounted"); err != nil {
		t.Errorf("a mount that was asked for is not shown: %v", err)
	}
}

func TestRefused(t *testing.T) {
	s, root := stage(t)
	for source, is := range map[string]func(error) bool{
		filepath.Dir(root) + "/secret": errdefs.IsPermissionDenied,
		filepath.Dir(root) + "/rooted": errdefs.IsPermissionDenied, // begins like a root
		filepath.Dir(root):             errdefs.IsPermissionDenied,
		root + "/outer":                errdefs.IsPermissionDenied,
		root + "/outer/file":           errdefs.IsPermissionDenied,
		root + "/absolute":             errdefs.IsPermissionDenied,
		root + "/magic/etc":            errdefs.IsPermissionDenied,
		root + "/loop":                 errdefs.IsPermissionDenied,
		root + "/../secret":            errdefs.IsPermissionDenied, // though a checked request has none
		root + "/none":                 errdefs.IsNotFound,
		root + "/data/file/none":       errdefs.IsNotFound,
		root + "/fifo":                 errdefs.IsInvalidArgument,
	} {
		if path, err := s.Mount(id, 0, source, true); !is(err) {
			t.Errorf("%s: %s, %v", source, path, err)
		}
	}
	if _, err := (Stage{Dir: s.Dir}).Mount(id, 0, root, false); !errdefs.IsPermissionDenied(err) {
		t.Errorf("a node that shows nothing: %v", err)
	}
}

func TestRemove(t *testing.T) {
	s, root := stage(t)
	path, err := s.Mount(id, 0, root+"/data", true)
	if err != nil {
		t.Fatal(err)
	}
	// As a brigd leaves it that was killed before the mount, or mounted there twice.
	if err := os.Mkdir(filepath.Join(s.Dir, id, "1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(root+"/data", path, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(path + "/file")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for range 2 {
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	if left, err := s.Left(); err != nil || len(left) != 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	if _, err := os.Stat(root + "/data/file"); err != nil {
		t.Errorf("the source is gone: %v", err)
	}
}

// TestSwap is reliability.md's row 26: what is mounted is what was checked, whoever swaps
// it for a link that leads out meanwhile.
func TestSwap(t *testing.T) {
	s, root := stage(t)
	var good unix.Stat_t
	if err := unix.Stat(root+"/data", &good); err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		swaps := 0
		for {
			select {
			case <-stop:
				stopped <- swaps
				return
			default:
			}
			if unix.Renameat2(unix.AT_FDCWD, root+"/data", unix.AT_FDCWD, root+"/outer", unix.RENAME_EXCHANGE) == nil {
				swaps++
			}
		}
	}()
	// An unmount takes milliseconds, so most rounds end with the handle that is mounted.
	walked, mounted := 0, 0
	for range 10_000 {
		fd, err := s.open(root + "/data")
		if err == nil {
			walked++
			var got unix.Stat_t
			if err := unix.Fstat(fd, &got); err != nil || got.Ino != good.Ino || got.Dev != good.Dev {
				t.Fatalf("opened is %d, %v; want %d", got.Ino, err, good.Ino)
			}
			err = unix.Close(fd)
		}
		if err != nil && !errdefs.IsPermissionDenied(err) && !errdefs.IsUnavailable(err) {
			t.Fatal(err)
		}
	}
	for i := 0; i < 1000 || mounted < 10 && i < 100_000; i++ { // most meet the swap
		path, err := s.Mount(id, 0, root+"/data", true)
		if err == nil {
			mounted++
			var got unix.Stat_t
			if err := unix.Stat(path, &got); err != nil || got.Ino != good.Ino || got.Dev != good.Dev {
				t.Fatalf("mounted is %d, %v; want %d", got.Ino, err, good.Ino)
			}
		}
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if swaps := <-stopped; swaps < 1000 || walked < 1000 || mounted == 0 {
		t.Errorf("%d swaps, %d walks and %d mounts: nothing was raced", swaps, walked, mounted)
	}
}
