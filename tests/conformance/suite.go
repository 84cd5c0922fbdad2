package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"brig/tests/image/oci"
)

// patches are what the suite needs to run without the internet, and nothing else.
// Each text must be there exactly once.
var patches = []struct{ file, old, new string }{
	// The suite asks for its images before it has parsed its flags, so that its own
	// -image-list never has an effect.
	{"integration/images/image_list.go", "initImages(*imageListFile)", `initImages(os.Getenv("TEST_IMAGE_LIST"))`},
}

// suite is containerd's integration/client, built.
type suite struct {
	version string // containerd's
	dir     string // holds client.test and runc-fp
}

func (s suite) test() string { return filepath.Join(s.dir, "client.test") }

// buildSuite builds what is not under the repository's .cache yet. The source comes
// from the module that tools/containerd pins, which is not touched: its copy is.
func buildSuite(ctx context.Context) (suite, error) {
	root, err := oci.Root()
	if err != nil {
		return suite{}, err
	}
	module, err := containerdModule(ctx, filepath.Join(root, "tools", "containerd"))
	if err != nil {
		return suite{}, err
	}
	dir := fmt.Sprintf("%s-%08x", module.Version, crc32.ChecksumIEEE([]byte(fmt.Sprint(patches))))
	s := suite{version: module.Version, dir: filepath.Join(root, ".cache", "conformance", dir)}
	if _, err := os.Stat(s.test()); err == nil {
		return s, nil
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return suite{}, err
	}
	source := filepath.Join(s.dir, "source")
	if err := errors.Join(os.CopyFS(source, os.DirFS(module.Dir)), patch(source)); err != nil {
		return suite{}, fmt.Errorf("copy containerd's source: %w", err)
	}
	// The test last: it is what says that all is there.
	for _, args := range [][]string{
		{"build", "-trimpath", "-o", filepath.Join(s.dir, "runc-fp"), "./integration/failpoint/cmd/runc-fp"},
		{"test", "-c", "-trimpath", "-o", s.test(), "./integration/client"},
	} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir, cmd.Stderr = source, os.Stderr
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
		if err := cmd.Run(); err != nil {
			return suite{}, fmt.Errorf("build the suite: %s: %w", strings.Join(cmd.Args, " "), err)
		}
	}
	return s, os.RemoveAll(source)
}

type goModule struct{ Version, Dir string }

func containerdModule(ctx context.Context, dir string) (m goModule, err error) {
	cmd := exec.CommandContext(ctx, "go", "mod", "download", "-json", "github.com/containerd/containerd/v2")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return m, fmt.Errorf("download containerd's source: %w", err)
	}
	return m, json.Unmarshal(out, &m)
}

func patch(source string) error {
	for _, p := range patches {
		path := filepath.Join(source, p.file)
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := strings.Count(string(data), p.old); n != 1 {
			return fmt.Errorf("%s has %q %d times, want once: adapt the patch to this containerd", p.file, p.old, n)
		}
		if err := os.Chmod(path, 0o644); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(data), p.old, p.new, 1)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// list names every test of the suite.
func (s suite) list(ctx context.Context) ([]string, error) {
	// Without -test.short the suite starts a containerd first.
	out, err := exec.CommandContext(ctx, s.test(), "-test.short", "-test.list", "^Test").Output()
	if err != nil {
		return nil, fmt.Errorf("list the suite's tests: %w", err)
	}
	return strings.Fields(string(out)), nil
}
