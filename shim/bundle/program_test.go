package bundle

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestCheckProgram(t *testing.T) {
	root := t.TempDir()
	outside := filepath.Join(t.TempDir(), "outside")
	err := errors.Join(
		os.MkdirAll(filepath.Join(root, "opt/bin"), 0o755),
		os.WriteFile(filepath.Join(root, "opt/bin/run"), nil, 0o755),
		os.WriteFile(filepath.Join(root, "opt/bin/data"), nil, 0o644),
		os.WriteFile(outside, nil, 0o755),
		os.Symlink("/opt/bin", filepath.Join(root, "bin")),
		os.Symlink("../../../../../../../../.."+outside, filepath.Join(root, "opt/bin/escape")),
		os.Symlink("/data/run", filepath.Join(root, "opt/bin/away")),
		os.Mkdir(filepath.Join(root, "data"), 0o755),
		os.Symlink("/data", filepath.Join(root, "opt/lib")),
		os.Symlink("/data/none", filepath.Join(root, "opt/none")),
	)
	if err != nil {
		t.Fatal(err)
	}
	mounts := []specs.Mount{{Destination: "/data", Type: "bind"}}
	for _, c := range []struct{ name, cwd, path, want string }{
		{name: "/opt/bin/run"}, {name: "/bin/run"}, {name: "bin/run", cwd: "/opt"}, {name: "./run", cwd: "/opt/bin"},
		{name: "run", path: "/nothing:/bin"}, {name: "run", path: "opt/bin"}, {name: "run"},
		{name: "/data/anything"}, {name: "anything", path: "/bin:/data/bin"}, {name: "/bin/away"}, {name: "/opt/lib/run"}, {name: "/opt/lib/a/run"}, {name: "/opt/none/run"}, {name: "run", path: "/opt/lib"}, {name: "/bin/../../run"}, {name: "/opt/bin/escape"},
		{name: "nothing", want: `exec: "nothing": executable file not found in $PATH`},
		{name: "run", path: "/sbin", want: `exec: "run": executable file not found in $PATH`},
		{name: "/nothing", want: `exec: "/nothing": stat /nothing: no such file or directory`},
		{name: "/bin/data", want: `exec: "/bin/data": stat /bin/data: permission denied`},
		{name: "/bin", want: `exec: "/bin": stat /bin: permission denied`},
	} {
		spec := &specs.Spec{Root: &specs.Root{Path: root}, Mounts: mounts, Process: &specs.Process{Args: []string{c.name}, Cwd: "/" + c.cwd}}
		if c.path != "" {
			spec.Process.Env = []string{"PATH=" + c.path, "PATH=/wrong"}
		}
		err := CheckProgram(spec)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
