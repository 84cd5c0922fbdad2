package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"time"
)

// What brigd alone reads is checked here.

func (s Sandboxes) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Timeout <= 0 || s.MaxTimeout < s.Timeout {
		bad("sandboxes.timeout must be positive and at most max_timeout")
	}
	if s.JournalBytes < 1<<17 {
		bad("sandboxes.journal_bytes %d: at least 131072", s.JournalBytes)
	}
	if s.ExecJournalBytes < 1<<17 {
		bad("sandboxes.exec_journal_bytes %d: at least 131072", s.ExecJournalBytes)
	}
	if s.CPU < 0 || s.CPU != 0 && s.CPU < 0.01 {
		bad("sandboxes.cpu %v: want 0, for no limit, or at least 0.01", s.CPU)
	}
	if s.MemoryMiB != 0 && s.MemoryMiB < 32 {
		bad("sandboxes.memory_mib %d: want 0, for no limit, or at least 32", s.MemoryMiB)
	}
	if s.PIDs != 0 && s.PIDs < 8 {
		bad("sandboxes.pids %d: want 0, for no limit, or at least 8", s.PIDs)
	}
	if s.DiskMiB != 0 && s.DiskMiB < 16 {
		bad("sandboxes.disk_mib %d: want 0, for no limit, or at least 16", s.DiskMiB)
	}
	return errors.Join(errs...)
}

func (r Remote) validate() error {
	if r.Listen == "" {
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if _, err := netip.ParseAddrPort(r.Listen); err != nil {
		bad("remote.listen %q: want address:port", r.Listen)
	}
	if r.Certificate == "" || r.Key == "" || r.ClientCA == "" {
		bad("remote.certificate, remote.key and remote.client_ca are needed with remote.listen")
	}
	for name, uid := range r.Principals {
		if uid == 0 {
			bad("remote.principals %q: nobody is root from afar", name)
		}
	}
	return errors.Join(append(errs, absolute("remote.certificate", r.Certificate), absolute("remote.key", r.Key), absolute("remote.client_ca", r.ClientCA))...)
}

func (m Mounts) validate() error {
	var errs []error
	for _, root := range m.Roots {
		errs = append(errs, absolute("mounts.roots", root))
		if root == "/" || root == "" {
			errs = append(errs, fmt.Errorf("mounts.roots %q: name the folders that may be shown", root))
		}
	}
	return errors.Join(errs...)
}

func (r Retention) validate() error {
	if r.Ended < 0 || r.Ended != 0 && r.Ended < Duration(time.Second) {
		return fmt.Errorf("retention.ended %s: want 0, for ever, or at least 1s", time.Duration(r.Ended))
	}
	return nil
}

func (t Tracing) validate() error {
	var errs []error
	if t.Endpoint != "" {
		if u, err := url.Parse(t.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			errs = append(errs, fmt.Errorf("tracing.endpoint %q: want http://host:port or https://host:port", t.Endpoint))
		}
	}
	if !(t.Ratio >= 0 && t.Ratio <= 1) {
		errs = append(errs, fmt.Errorf("tracing.ratio %v: want 0 to 1", t.Ratio))
	}
	return errors.Join(errs...)
}

// absolute is an error unless path is empty, or absolute and clean.
func absolute(key, path string) error {
	if path != "" && (!filepath.IsAbs(path) || filepath.Clean(path) != path) {
		return fmt.Errorf("%s %q: want a clean absolute path", key, path)
	}
	return nil
}
