package bundle

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// mountTypes are those that runsc mounts, by the options that it takes besides the
// general ones. It skips every other type with a line in its log, and mqueue with
// them, which every default spec has: a program that wants a queue is told so by the
// sandbox's kernel.
var mountTypes = map[string][]string{
	"proc": nil, "sysfs": nil, "mqueue": nil, "erofs": nil, "cgroup2": nil,
	"tmpfs":  {"mode=", "size=", "uid=", "gid="},
	"devpts": {"mode=", "gid=", "ptmxmode=", "newinstance", "max="},
	"cgroup": {"all", "cpu", "cpuacct", "cpuset", "devices", "job", "memory", "pids"},
}

// mountOptions that are honoured, or change nothing in a sandbox: the devices of a
// mount are the sandbox's own, and the host's access times are the host's.
var mountOptions = []string{
	"ro", "rw", "nosuid", "suid", "noexec", "exec", "noatime", "atime", "bind", "rbind",
	"nodev", "dev", "relatime", "norelatime", "strictatime", "nostrictatime", "diratime", "nodiratime",
	"sync", "async", "dirsync", "defaults", "silent", "loud", "mand", "nomand", "iversion", "noiversion", "acl", "noacl",
	"private", "rprivate", "slave", "rslave", "unbindable", "runbindable",
}

// recursiveOptions, by the plain option that does the same.
var recursiveOptions = map[string]string{
	"rro": "ro", "rrw": "rw", "rnosuid": "nosuid", "rsuid": "suid", "rnoexec": "noexec", "rexec": "exec",
	"rnodev": "nodev", "rdev": "dev", "rnoatime": "noatime", "ratime": "atime", "rrelatime": "relatime",
	"rnorelatime": "norelatime", "rstrictatime": "strictatime", "rnostrictatime": "nostrictatime",
	"rdiratime": "diratime", "rnodiratime": "nodiratime",
}

// MountOptions that a mount of any type may have, sorted.
func MountOptions() []string {
	options := slices.Collect(maps.Keys(recursiveOptions))
	options = append(options, mountOptions...)
	slices.Sort(options)
	return options
}

func checkMounts(in *specs.Spec) error {
	for i := range in.Mounts {
		if err := checkMount(&in.Mounts[i]); err != nil {
			return err
		}
	}
	return nil
}

func checkMount(m *specs.Mount) error {
	field := "mount " + m.Destination
	if !filepath.IsAbs(m.Destination) {
		return invalid(field, "the destination is no absolute path")
	}
	if slices.ContainsFunc(append([]string{m.Destination, m.Source}, m.Options...), hasNUL) {
		return invalid("mounts", "a NUL character")
	}
	special, known := mountTypes[m.Type]
	switch {
	case isBind(m):
		special = nil
		if m.Source == "" {
			return invalid(field, "a bind mount without a source")
		}
	// runsc mounts a device folder and terminals there whatever the type.
	case m.Destination == "/dev" && m.Type == "devtmpfs":
	case !known:
		return unsupported(field, "runsc has no filesystem of type "+m.Type)
	}
	mapped := len(m.UIDMappings) > 0 && len(m.GIDMappings) > 0
	if !mapped && len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		return invalid(field, "only one of uidMappings and gidMappings")
	}
	for _, o := range m.Options {
		if err := checkOption(field, o, special, mapped); err != nil {
			return err
		}
	}
	return nil
}

func checkOption(field, o string, special []string, mapped bool) error {
	takes := func(s string) bool { return o == s || strings.HasSuffix(s, "=") && strings.HasPrefix(o, s) }
	_, recursive := recursiveOptions[o]
	switch {
	case slices.Contains(mountOptions, o), recursive, slices.ContainsFunc(special, takes):
		return nil
	case o == "shared" || o == "rshared":
		return unsupported(field, "propagation "+o+": mounts of a sandbox do not appear on the host")
	case o == "idmap" || o == "ridmap":
		if mapped {
			return nil
		}
		return unsupported(field, o+" without mappings of its own")
	default:
		return unsupported(field, "runsc would ignore the option "+o)
	}
}

// isBind tells that only the source counts, whatever the type.
func isBind(m *specs.Mount) bool {
	return m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
}
