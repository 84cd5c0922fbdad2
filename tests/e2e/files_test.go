package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/image/oci"
	"brig/tests/node"

	"connectrpc.com/connect"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
)

// seeded is size bytes that look random.
func seeded(size int, seed byte) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// inside runs a script in a sandbox, which must succeed, and returns what it prints.
func inside(t *testing.T, n *node.Node, id, script string) string {
	t.Helper()
	return n.Brig(t, "exec", id, "--", "sh", "-c", script)
}

// nothingWaits fails if a copy left something on its way, in the sandbox or here.
func nothingWaits(t *testing.T, n *node.Node, id string, local ...string) {
	t.Helper()
	if left := inside(t, n, id, "find / -xdev -name '.brig-*' 2>/dev/null; true"); left != "" {
		t.Errorf("left in the sandbox: %s", left)
	}
	for _, dir := range local {
		if left, err := filepath.Glob(filepath.Join(dir, ".brig-*")); err != nil || len(left) > 0 {
			t.Errorf("left here: %v, %v", left, err)
		}
	}
	eventually(t, 10*time.Second, func() error {
		if ps := inside(t, n, id, "ps -o args"); strings.Contains(ps, "/.brig/brig-files") {
			return errors.New("brig-files still runs: " + ps)
		}
		return nil
	})
}

// describe is a tree in words: every name with its type, mode, size, checksum or target.
func describe(t *testing.T, root string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%q %v", rel, info.Mode())
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %x %v", info.Size(), sha256.Sum256(data), info.ModTime().Unix())
		case info.Mode()&os.ModeSymlink != 0:
			target, err := os.Readlink(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %q", target)
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// unusual are names that scripts stumble over.
var unusual = []string{
	"-rf", "a b", "new\nline", "tab\t", "ünïcödé 日本語", "*", "'\"`$(x)", "...", "\\", strings.Repeat("n", 255),
}

// TestCopyTree takes a thousand files, links and unusual names there and back.
func TestCopyTree(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	from := filepath.Join(t.TempDir(), "tree")
	for i := range 1000 {
		dir := filepath.Join(from, fmt.Sprint(i%7), fmt.Sprint(i%11))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), seeded(i*3, byte(i)), os.FileMode(0o600|i%0o100)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range unusual {
		if err := os.WriteFile(filepath.Join(from, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for target, name := range map[string]string{"/etc/passwd": "absolute", "../..": "up", "nowhere": "dangling", "0": "folder"} {
		if err := os.Symlink(target, filepath.Join(from, "link "+name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(from, "closed"), 0o555); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	n.Brig(t, "cp", from, id+":/tmp")
	n.Brig(t, "cp", id+":/tmp/tree", to)
	if want, got := describe(t, from), describe(t, filepath.Join(to, "tree")); want != got {
		t.Errorf("went:\n%s\ncame back:\n%s", want, got)
	}
	// A second time it is there, and nothing is merged.
	r := n.Try(t, "cp", from, id+":/tmp")
	if r.Code != 1 || !strings.Contains(r.Stderr, "--replace") {
		t.Errorf("want a refusal that names --replace: %s", r)
	}
	inside(t, n.Node, id, "rm -r /tmp/tree/0; echo new > /tmp/tree/new")
	n.Brig(t, "cp", "--replace", from, id+":/tmp")
	n.Brig(t, "cp", "--replace", id+":/tmp/tree", to)
	if want, got := describe(t, from), describe(t, filepath.Join(to, "tree")); want != got {
		t.Errorf("went:\n%s\ncame back after being replaced:\n%s", want, got)
	}
	nothingWaits(t, n.Node, id, to)
}

// TestCopyLargeFile takes 64 MiB there and back.
func TestCopyLargeFile(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	dir := t.TempDir()
	data := seeded(64<<20, 9)
	sum := sha256.Sum256(data)
	if err := os.WriteFile(filepath.Join(dir, "large"), data, 0o640); err != nil {
		t.Fatal(err)
	}
	n.Brig(t, "cp", filepath.Join(dir, "large"), id+":/tmp/large")
	if got := inside(t, n.Node, id, "sha256sum < /tmp/large; stat -c %a /tmp/large"); got != hex.EncodeToString(sum[:])+"  -\n640\n" {
		t.Errorf("in the sandbox: %s", got)
	}
	out := n.Brig(t, "cp", "--json", id+":/tmp/large", filepath.Join(dir, "back"))
	var said struct{ Bytes int }
	if err := json.Unmarshal([]byte(out), &said); err != nil || said.Bytes != len(data) {
		t.Errorf("cp --json says %q, %v", out, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "back")); err != nil || sha256.Sum256(got) != sum {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	nothingWaits(t, n.Node, id, dir)
}

// TestCopyDestinations holds the rules of where a copy goes.
func TestCopyDestinations(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("here"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	inside(t, n.Node, id, "mkdir -p /w/sub /w/other/f; echo old > /w/file; echo x > /w/sub/x; ln -s sub /w/link; ln -s file /w/flink; chmod 600 /w/file; mkfifo /w/fifo")
	for _, tc := range []struct{ from, to, err, look, want string }{
		{from: "f", to: "S:/w/new", look: "cat /w/new", want: "here"},
		{from: "f", to: "S:/w/sub", look: "cat /w/sub/f", want: "here"},
		{from: "f", to: "S:/w/link/", look: "rm /w/sub/f; readlink /w/link", want: "sub\n"},
		{from: "f", to: "S:/w/file", look: "cat /w/file; stat -c %a /w/file", want: "here600\n"},
		{from: "f", to: "S:/w/flink", look: "readlink /w/flink; cat /w/file", want: "file\nhere"},
		{from: "f", to: "S:/w/no/", err: "no such directory"},
		{from: "f", to: "S:/no/such", err: "no such file"},
		{from: "f", to: "S:/w/file/x", err: "not a directory"},
		{from: "f", to: "S:/w/fifo", err: "not a file"},
		{from: "f", to: "S:/w/other", err: "is a directory"},
		{from: "d", to: "S:/w/made/", look: "ls -d /w/made", want: "/w/made\n"},
		{from: "d", to: "S:/w", look: "ls -d /w/d", want: "/w/d\n"},
		{from: "d", to: "S:/w/file", err: "no directory"},
		{from: "d", to: "S:/etc/hosts/..", look: "true", err: "not a directory"},
		{from: "f", to: "S:/etc/hostname", err: "permission denied|read-only|busy"},
		{from: "f", to: "S:/.brig/x", err: "read-only"},
		{from: "S:/w/none", to: "x", err: "no such file"},
		{from: "S:/w/sub", to: "f", err: "no directory"},
		{from: "S:/w/file", to: "no/", err: "no such directory"},
		{from: "S:/w/fifo", to: "x", err: "not a file"},
		{from: "S:/dev/zero", to: "x", err: "not a file"},
		{from: "f", to: "d", err: "SANDBOX:PATH"},
		{from: "S:/w/file", to: "S:/w/x", err: "SANDBOX:PATH"},
		{from: "nobody-x:/w", to: "x", err: "no sandbox"},
	} {
		place := func(arg string) string {
			if path, found := strings.CutPrefix(arg, "S:"); found {
				return id + ":" + path
			}
			if strings.Contains(arg, ":") {
				return arg
			}
			slash := ""
			if strings.HasSuffix(arg, "/") {
				slash = "/"
			}
			return filepath.Join(dir, arg) + slash
		}
		r := n.Try(t, "cp", place(tc.from), place(tc.to))
		switch {
		case tc.err != "":
			matches := false
			for part := range strings.SplitSeq(tc.err, "|") {
				matches = matches || strings.Contains(r.Stderr, part)
			}
			if r.Code == 0 || !matches {
				t.Errorf("%s to %s: want an error with %q: %s", tc.from, tc.to, tc.err, r)
			}
		case r.Code != 0:
			t.Error(r)
		default:
			if got := inside(t, n.Node, id, tc.look); got != tc.want {
				t.Errorf("%s to %s: %s gives %q, want %q", tc.from, tc.to, tc.look, got, tc.want)
			}
		}
	}
	for _, tc := range []struct{ from, to, at, want string }{
		{"/w/sub/x", "", "x", "x\n"},
		{"/w/sub", "taken", "taken/x", "x\n"},
		{"/w/link/", "followed", "followed/x", "x\n"},
		{"/w/sub/x", "f", "f", "x\n"},
	} {
		n.Brig(t, "cp", id+":"+tc.from, filepath.Join(dir, tc.to))
		if got, err := os.ReadFile(filepath.Join(dir, tc.at)); err != nil || string(got) != tc.want {
			t.Errorf("%s to %q: %q, %v", tc.from, tc.to, got, err)
		}
	}
	n.Brig(t, "cp", id+":/w/link", filepath.Join(dir, "link"))
	if target, err := os.Readlink(filepath.Join(dir, "link")); err != nil || target != "sub" {
		t.Errorf("a link came as %q, %v", target, err)
	}
	nothingWaits(t, n.Node, id, dir)
}

// TestCopyAsUser: a sandbox whose image names a user has that user's rights, no more.
func TestCopyAsUser(t *testing.T) {
	t.Parallel()
	n := use(t)
	base, err := image(oci.Recipe{})
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Config(base, v1.Config{User: "1234:1234", WorkingDir: "/tmp"})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := n.registry.Push("brig/user:1", img)
	if err != nil {
		t.Fatal(err)
	}
	id := n.Create(t, ref)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"/etc/f", "/f", "/bin/busybox", "/.brig/f"} {
		r := n.Try(t, "cp", filepath.Join(dir, "f"), id+":"+to)
		if r.Code != 1 || !strings.Contains(r.Stderr, "permission denied") && !strings.Contains(r.Stderr, "read-only") {
			t.Errorf("%s: want no permission: %s", to, r)
		}
	}
	n.Brig(t, "cp", filepath.Join(dir, "f"), id+":f") // in the working directory
	if got := inside(t, n.Node, id, "stat -c '%u %g %a' /tmp/f"); got != "1234 1234 644\n" {
		t.Errorf("the copy is %q", got)
	}
	nothingWaits(t, n.Node, id, dir)
}

// TestCopySwaps: a program in the sandbox keeps exchanging what is copied, and what waits,
// for links that lead elsewhere. The node's files are not in what comes, and nothing is
// made outside of where the copy goes.
func TestCopySwaps(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	outer := t.TempDir()
	dir := filepath.Join(outer, "a", "b")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(outer, "evil"), []byte("mine"), 0o600)); err != nil {
		t.Fatal(err)
	}
	inside(t, n.Node, id, `mkdir -p /w/d /in; echo public > /w/d/f; ln -s `+outer+` /w/node; ln -s ../../.. /w/up
cat > /w/swap <<'EOF'
while :; do
	mv /w/d /w/away; ln -s `+outer+` /w/d; rm /w/d; ln -s ../../.. /w/d; rm /w/d; mv /w/away /w/d
	for x in /in/.brig-*/arrived/d; do [ -d "$x" ] && mv "$x" "$x.x" && ln -s /etc "$x"; done
done
EOF
setsid sh /w/swap > /dev/null 2>&1 &`)
	if err := errors.Join(os.MkdirAll(filepath.Join(outer, "d"), 0o755), os.WriteFile(filepath.Join(outer, "d", "passwd"), []byte("evil"), 0o600)); err != nil {
		t.Fatal(err)
	}
	want := describe(t, outer)
	came := 0
	for range 60 {
		r := n.Try(t, "cp", "--replace", id+":/w", dir)
		if r.Code == 0 {
			came++
			data, err := os.ReadFile(filepath.Join(dir, "w", "d", "f"))
			if info, lerr := os.Lstat(filepath.Join(dir, "w", "d")); lerr == nil && info.IsDir() && err == nil && string(data) != "public\n" {
				t.Errorf("what came holds %q", data)
			}
		}
		if err := os.RemoveAll(filepath.Join(dir, "w")); err != nil {
			t.Fatal(err)
		}
		n.Try(t, "cp", "--replace", filepath.Join(outer, "d"), id+":/in")
		if got := describe(t, outer); got != want {
			t.Fatalf("the node had:\n%s\nand has:\n%s", want, got)
		}
	}
	if came == 0 {
		t.Error("no copy ever came: this tries nothing")
	}
}

// TestCopyStream passes archives through stdout and stdin.
func TestCopyStream(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	inside(t, n.Node, id, "mkdir -p /w/a/b; echo hello > /w/a/b/c; mkfifo /w/a/fifo; ln -s b /w/a/l; ln /w/a/b/c /w/a/hard")
	archive := n.Brig(t, "cp", id+":/w/a", "-")
	var names []string
	for in := tar.NewReader(strings.NewReader(archive)); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
	if got := strings.Join(names, " "); got != "a/ a/b/ a/b/c a/hard a/l" {
		t.Errorf("the archive holds %s", got)
	}
	for to, look := range map[string]string{"/w/new": "/w/new/b/c", "/tmp": "/tmp/a/b/c"} {
		cmd := n.BrigCommand(t.Context(), "cp", "-", id+":"+to)
		cmd.Stdin = strings.NewReader(archive)
		if r := node.Run(t, cmd); r.Code != 0 {
			t.Error(r)
		} else if got := inside(t, n.Node, id, "cat "+look); got != "hello\n" {
			t.Errorf("%s holds %q", look, got)
		}
	}
	// Half of it makes nothing.
	cmd := n.BrigCommand(t.Context(), "cp", "-", id+":/w/half")
	cmd.Stdin = strings.NewReader(archive[:len(archive)/2])
	if r := node.Run(t, cmd); r.Code == 0 || !strings.Contains(r.Stderr, "not acceptable") {
		t.Errorf("half an archive: %s", r)
	}
	inside(t, n.Node, id, "test ! -e /w/half")
	nothingWaits(t, n.Node, id)
}

// TestCopyHostileArchives: what leads out of an archive is refused in the sandbox, too.
func TestCopyHostileArchives(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	for name, headers := range map[string][]tar.Header{
		"absolute":      {{Typeflag: tar.TypeReg, Name: "/etc/evil"}},
		"up":            {{Typeflag: tar.TypeDir, Name: "a/"}, {Typeflag: tar.TypeReg, Name: "a/../../evil"}},
		"through link":  {{Typeflag: tar.TypeDir, Name: "a/"}, {Typeflag: tar.TypeSymlink, Name: "a/l", Linkname: "/tmp"}, {Typeflag: tar.TypeReg, Name: "a/l/evil"}},
		"hard link out": {{Typeflag: tar.TypeDir, Name: "a/"}, {Typeflag: tar.TypeLink, Name: "a/l", Linkname: "../../etc/passwd"}},
		"device":        {{Typeflag: tar.TypeDir, Name: "a/"}, {Typeflag: tar.TypeChar, Name: "a/null", Devmajor: 1, Devminor: 3}},
		"two tops":      {{Typeflag: tar.TypeDir, Name: "a/"}, {Typeflag: tar.TypeDir, Name: "b/"}},
	} {
		var archive bytes.Buffer
		out := tar.NewWriter(&archive)
		for _, h := range headers {
			if err := out.WriteHeader(&h); err != nil {
				t.Fatal(err)
			}
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		cmd := n.BrigCommand(t.Context(), "cp", "-", id+":/tmp/"+strings.ReplaceAll(name, " ", "-"))
		cmd.Stdin = &archive
		if r := node.Run(t, cmd); r.Code == 0 || !strings.Contains(r.Stderr, "not acceptable") {
			t.Errorf("%s: want a refusal: %s", name, r)
		}
	}
	if got := inside(t, n.Node, id, "ls -A /tmp; find / -xdev -name evil"); got != "" {
		t.Errorf("made: %s", got)
	}
}

// TestCopyFullDisk: what does not fit leaves nothing.
func TestCopyFullDisk(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "large"), seeded(80<<20, 3), 0o644); err != nil {
		t.Fatal(err)
	}
	r := n.Try(t, "cp", filepath.Join(dir, "large"), id+":/dev/shm/large")
	if r.Code != 1 || !strings.Contains(r.Stderr, "no space left") {
		t.Errorf("want no space: %s", r)
	}
	if got := inside(t, n.Node, id, "ls -A /dev/shm; df -k /dev/shm | awk 'NR == 2 { print ($3 < 1000) }'"); got != "1\n" {
		t.Errorf("left in the full filesystem: %s", got)
	}
	nothingWaits(t, n.Node, id)
}

// TestCopyInterrupted: a client that goes in the middle leaves nothing, on either side.
func TestCopyInterrupted(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	for _, signal := range []os.Signal{os.Interrupt, os.Kill} {
		in, out := io.Pipe()
		cmd := n.BrigCommand(t.Context(), "cp", "-", id+":/tmp/half")
		cmd.Stdin = in
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		archive := tar.NewWriter(out)
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "half", Size: 64 << 20, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write(seeded(8<<20, 1)); err != nil {
			t.Fatal(err)
		}
		eventually(t, 10*time.Second, func() error {
			if inside(t, n.Node, id, "ls -A /tmp") == "" {
				return errors.New("nothing is under way")
			}
			return nil
		})
		if err := cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		_ = out.CloseWithError(io.ErrClosedPipe)
		if err := cmd.Wait(); err == nil {
			t.Errorf("cp ended well after %v", signal)
		}
		eventually(t, 10*time.Second, func() error {
			if left := inside(t, n.Node, id, "ls -A /tmp"); left != "" {
				return errors.New("left: " + left)
			}
			return nil
		})
	}
	nothingWaits(t, n.Node, id)
	// On the way out: SIGINT removes what has come.
	inside(t, n.Node, id, "dd if=/dev/zero of=/tmp/zeros bs=1M count=1500 2>/dev/null")
	dir := t.TempDir()
	cmd := n.BrigCommand(t.Context(), "cp", id+":/tmp/zeros", dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, func() error {
		if under, _ := filepath.Glob(filepath.Join(dir, ".brig-*")); len(under) == 0 {
			return errors.New("nothing is under way")
		}
		return nil
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left here: %v, %v", left, err)
	}
	nothingWaits(t, n.Node, id, dir)
}

// TestFilesAPI speaks to the service itself.
func TestFilesAPI(t *testing.T) {
	t.Parallel()
	n := use(t)
	id := n.Create(t, n.busybox)
	ctx := t.Context()
	write := func(start *brigv1.FilesWriteStart, data string) error {
		start.Sandbox = id
		stream := n.Files.Write(ctx)
		_ = stream.Send(&brigv1.FilesWriteRequest{Message: &brigv1.FilesWriteRequest_Start{Start: start}})
		_ = stream.Send(&brigv1.FilesWriteRequest{Message: &brigv1.FilesWriteRequest_Data{Data: []byte(data)}})
		_, err := stream.CloseAndReceive()
		return err
	}
	mkdir := func(r *brigv1.FilesMakeDirectoryRequest) error {
		r.Sandbox = id
		_, err := n.Files.MakeDirectory(ctx, connect.NewRequest(r))
		return err
	}
	remove := func(path string, recursive bool) error {
		_, err := n.Files.Remove(ctx, connect.NewRequest(&brigv1.FilesRemoveRequest{Sandbox: id, Path: path, Recursive: recursive}))
		return err
	}
	for what, tc := range map[string]struct {
		err  error
		want connect.Code
	}{
		"make":                 {mkdir(&brigv1.FilesMakeDirectoryRequest{Path: "/w", Mode: 0o1750}), 0},
		"make twice":           {mkdir(&brigv1.FilesMakeDirectoryRequest{Path: "/w"}), connect.CodeAlreadyExists},
		"make twice, parents":  {mkdir(&brigv1.FilesMakeDirectoryRequest{Path: "/w", Parents: true}), 0},
		"make without parents": {mkdir(&brigv1.FilesMakeDirectoryRequest{Path: "/w/a/b"}), connect.CodeNotFound},
		"make with parents":    {mkdir(&brigv1.FilesMakeDirectoryRequest{Path: "/w/a/b", Parents: true}), 0},
		"a mode":               {mkdir(&brigv1.FilesMakeDirectoryRequest{Path: "/w/x", Mode: 0o10000}), connect.CodeInvalidArgument},
		"no path":              {mkdir(&brigv1.FilesMakeDirectoryRequest{}), connect.CodeInvalidArgument},
		"NUL":                  {mkdir(&brigv1.FilesMakeDirectoryRequest{Path: "/w/\x00"}), connect.CodeInvalidArgument},
		"a long path":          {mkdir(&brigv1.FilesMakeDirectoryRequest{Path: "/" + strings.Repeat("a", 4095)}), connect.CodeInvalidArgument},
		"a long name":          {mkdir(&brigv1.FilesMakeDirectoryRequest{Path: "/" + strings.Repeat("a", 300)}), connect.CodeInvalidArgument},
		"write":                {write(&brigv1.FilesWriteStart{Path: "/w/f", Mode: 0o4755}, "one"), 0},
		"write over":           {write(&brigv1.FilesWriteStart{Path: "/w/f"}, "two"), 0},
		"a directory's file":   {write(&brigv1.FilesWriteStart{Path: "/w/a"}, "x"), connect.CodeFailedPrecondition},
		"no parent":            {write(&brigv1.FilesWriteStart{Path: "/w/no/f"}, "x"), connect.CodeNotFound},
		"remove a full one":    {remove("/w/a", false), connect.CodeFailedPrecondition},
		"remove what is not":   {remove("/w/none", true), connect.CodeNotFound},
		"remove the root":      {remove("/", true), connect.CodeFailedPrecondition},
		"remove a tree":        {remove("/w/a", true), 0},
	} {
		var code connect.Code
		if tc.err != nil {
			code = connect.CodeOf(tc.err)
		}
		if code != tc.want {
			t.Errorf("%s: %v, want %v", what, tc.err, tc.want)
		}
	}
	list, err := n.Files.List(ctx, connect.NewRequest(&brigv1.FilesListRequest{Sandbox: id, Path: "/w"}))
	if err != nil {
		t.Fatal(err)
	}
	if f := list.Msg.GetFiles(); len(f) != 1 || f[0].GetName() != "f" || f[0].GetMode() != 0o4755 || f[0].GetSize() != 3 || list.Msg.GetTruncated() {
		t.Errorf("list: %v", list.Msg)
	}
	inside(t, n.Node, id, "mkdir /many; cd /many; seq 10050 | xargs touch")
	if list, err = n.Files.List(ctx, connect.NewRequest(&brigv1.FilesListRequest{Sandbox: id, Path: "/many"})); err != nil {
		t.Fatal(err)
	}
	if f := list.Msg.GetFiles(); len(f) != 10000 || !list.Msg.GetTruncated() || f[0].GetName() != "1" || f[1].GetName() != "10" {
		t.Errorf("%d files, truncated %v", len(f), list.Msg.GetTruncated())
	}
	inside(t, n.Node, id, "seq 100000 > /w/numbers")
	got := read(t, n, &brigv1.FilesReadRequest{Sandbox: id, Path: "/w/numbers", Offset: 100, Length: 12})
	if want := inside(t, n.Node, id, "tail -c +101 /w/numbers | head -c 12"); got != want {
		t.Errorf("a part of a file: %q, want %q", got, want)
	}
	if got := read(t, n, &brigv1.FilesReadRequest{Sandbox: id, Path: "/proc/self/status"}); !strings.Contains(got, "brig-files") {
		t.Errorf("a file of the kernel's: %q", got)
	}
}

func read(t *testing.T, n *fixture, r *brigv1.FilesReadRequest) string {
	t.Helper()
	stream, err := n.Files.Read(t.Context(), connect.NewRequest(r))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var data bytes.Buffer
	for stream.Receive() {
		data.Write(stream.Msg().GetData())
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	return data.String()
}
