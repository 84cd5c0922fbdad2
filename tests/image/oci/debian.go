package oci

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// installers are packages that others depend on to be installed, not to run.
var installers = map[string]bool{
	"debconf": true, "dpkg": true, "gcc-12-base": true, "perl-base": true, "openssl": true, "tar": true,
	"libpcre2-8-0": true, "libselinux1": true, "libacl1": true, "libmd0": true, "readline-common": true,
}

// dropped are paths that no program reads at run time.
var dropped = []string{"usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/lib/x86_64-linux-gnu/gconv", "usr/share/pixmaps", "usr/share/applications", "usr/share/perl5"}

// writeDebianLayer writes the contents of packages and of all they depend on,
// as apt resolves them for an empty system. Among them must be the file want.
func writeDebianLayer(ctx context.Context, c *cache, out, want string, packages ...string) error {
	debs, err := download(ctx, c, packages)
	if err != nil {
		return err
	}
	l := layer{}
	for _, deb := range debs {
		if installers[strings.SplitN(filepath.Base(deb), "_", 2)[0]] {
			continue
		}
		if err := l.addPackage(ctx, deb); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(deb), err)
		}
	}
	if _, ok := l[want]; !ok {
		return fmt.Errorf("the packages hold no %s", want)
	}
	return l.write(out)
}

func (l layer) addPackage(ctx context.Context, deb string) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	content, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("read package: %w", err)
	}
	return l.add(bytes.NewReader(content), func(name string) bool {
		for _, prefix := range dropped {
			if name == prefix || strings.HasPrefix(name, prefix+"/") {
				return false
			}
		}
		return true
	})
}

// download fetches packages with everything they need. It first uses the lists
// that the machine has; where those are missing or too old for the mirror it
// fetches lists of its own and leaves the machine's alone.
func download(ctx context.Context, c *cache, packages []string) ([]string, error) {
	archives := filepath.Join(c.dir, "deb")
	if err := os.RemoveAll(archives); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(archives, "partial"), 0o755); err != nil {
		return nil, err
	}
	status := filepath.Join(c.dir, "empty-status")
	if err := os.WriteFile(status, nil, 0o644); err != nil {
		return nil, err
	}
	options := []string{
		"-o", "Dir::State::status=" + status, "-o", "Dir::Cache::archives=" + archives,
		"-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
		"-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=1", "-qq",
	}
	install := append([]string{"--yes", "--no-install-recommends", "--download-only", "install"}, packages...)
	errOwn := apt(ctx, options, install...)
	if errOwn != nil {
		lists := filepath.Join(c.dir, "lists")
		if err := os.MkdirAll(filepath.Join(lists, "partial"), 0o755); err != nil {
			return nil, err
		}
		options = append(options, "-o", "Dir::State::lists="+lists)
		if err := errors.Join(apt(ctx, options, "update"), apt(ctx, options, install...)); err != nil {
			return nil, errors.Join(errOwn, err)
		}
	}
	return filepath.Glob(filepath.Join(archives, "*.deb"))
}

func apt(ctx context.Context, options []string, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", append(options, args...)...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", args[0], err, bytes.TrimSpace(out))
	}
	return nil
}
