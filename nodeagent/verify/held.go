package verify

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"brig/internal/census"
	"brig/internal/netns"
	"brig/internal/sandbox"
)

// held lists everything, part by part.
func (p *Parts) held(ctx context.Context) ([]Line, error) {
	var all []Line
	for _, part := range []func(context.Context) ([]Line, error){
		p.containerd, p.network, p.processes, p.mounts, p.cgroups, p.folders, p.saved, p.execs, p.listeners,
	} {
		lines, err := part(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, lines...)
	}
	return append(all, p.namespaces(all)...), nil
}

func (p *Parts) containerd(ctx context.Context) (lines []Line, err error) {
	held, err := p.Engine.Held(ctx)
	for _, h := range held {
		if h.Kind == "lease" {
			h.Kind = "lease of containerd"
		}
		lines = append(lines, Line{Kind: h.Kind, Owner: h.Name})
	}
	if err != nil || !p.ownContainerd() {
		return lines, err
	}
	return append(lines, p.sockets(lines)...), nil
}

// sockets of shims, which containerd names by a hash of whose they are. Whoever shares
// the node's containerd has some, too.
func (p *Parts) sockets(containers []Line) (lines []Line) {
	for _, c := range containers {
		if c.Kind != "container" {
			continue
		}
		sum := sha256.Sum256([]byte(filepath.Join(p.Config.Containerd.Address, p.Config.Containerd.Namespace, c.Owner)))
		path := filepath.Join(p.Config.RunDir, "s", hex.EncodeToString(sum[:]))
		if _, err := os.Lstat(path); err == nil {
			lines = append(lines, Line{Kind: "socket", Owner: c.Owner, Detail: path})
		}
	}
	return lines
}

func (p *Parts) network(ctx context.Context) (lines []Line, err error) {
	held, err := p.Network.Held(ctx)
	for _, h := range held {
		l := Line{Kind: h.Kind, Owner: h.Owner, Detail: h.Name}
		switch address, rest, _ := strings.Cut(h.Name, " "); h.Kind {
		case "lease", "route", "identity":
			l.Name, l.Detail = address, rest
		}
		lines = append(lines, l)
	}
	return lines, err
}

// namespaces of the sandboxes that anything else is known of: their names do not tell
// which node they belong to.
func (p *Parts) namespaces(known []Line) (lines []Line) {
	seen := map[string]bool{}
	for _, l := range known {
		if _, err := sandbox.ParseID(l.Owner); err == nil && !seen[l.Owner] && netns.Exists(l.Owner) {
			seen[l.Owner] = true
			lines = append(lines, Line{Kind: "netns", Owner: l.Owner, Detail: netns.Path(l.Owner)})
		}
	}
	return lines
}

var idPattern = regexp.MustCompile(`sb-[a-z2-7]{16}`)

func (p *Parts) processes(context.Context) (lines []Line, err error) {
	all, err := census.Processes()
	for _, one := range all {
		text := strings.Join(one.Args, " ")
		mine := one.UID == uint32(os.Geteuid()) && (strings.Contains(text, p.Config.RunDir+"/") || strings.Contains(text, " "+p.Config.Containerd.Address))
		owner := idPattern.FindString(text)
		if !mine || owner == "" {
			continue
		}
		if role := role(one); role != "" {
			lines = append(lines, Line{Kind: "process " + role, Owner: owner, Detail: fmt.Sprint(one.PID)})
		}
	}
	return lines, err
}

func role(p census.Process) string {
	switch {
	case p.Class() == "containerd-shim-brig-v1":
		return "shim"
	case p.Args[0] == "runsc-sandbox":
		return "sentry"
	case p.Args[0] == "runsc-gofer":
		return "gofer"
	case p.Class() == "runsc":
		return "runsc"
	}
	return ""
}

func (p *Parts) mounts(context.Context) (lines []Line, err error) {
	all, err := census.Mounts()
	for _, m := range all {
		below := strings.HasPrefix(m.Path, p.Config.RunDir+"/") || strings.HasPrefix(m.Path, p.Config.StateDir+"/")
		if strings.HasPrefix(m.Path, p.Config.BindsDir()+"/") {
			continue // listed by their folder, which is not removed while one is there
		}
		if owner := idPattern.FindString(m.Path); below && owner != "" {
			lines = append(lines, Line{Kind: "mount", Owner: owner, Detail: m.Path})
		}
	}
	return lines, err
}

func (p *Parts) cgroups(context.Context) (lines []Line, err error) {
	err = census.Cgroups(func(path string) bool {
		at := strings.Index(path+"/", p.Config.CgroupParent()+"/")
		switch {
		case at < 0 && strings.Count(path, "/") > 1:
			return false
		case at >= 0:
			if owner := idPattern.FindString(path[at:]); owner != "" {
				lines = append(lines, Line{Kind: "cgroup", Owner: owner, Detail: path})
				return false
			}
		}
		return true
	})
	return lines, err
}

// folders that have a sandbox's id for a name, and files that were left half-written.
func (p *Parts) folders(context.Context) (lines []Line, err error) {
	places := map[string]string{
		"folder":  filepath.Dir(p.Config.JournalDir("any")),
		"runsc":   p.Config.RunscRoot(p.Config.Containerd.Namespace),
		"binds":   p.Config.BindsDir(),
		"secrets": p.Config.SecretsDir(),
		"phases":  filepath.Dir(p.Config.PhasesFile(p.Config.Containerd.Namespace, "any")),
	}
	if p.ownContainerd() {
		places["bundle"] = filepath.Join(p.Config.RunDir, "containerd", "io.containerd.runtime.v2.task", p.Config.Containerd.Namespace)
	}
	for kind, dir := range places {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		for _, e := range entries {
			name, _, _ := strings.Cut(e.Name(), ".") // of a file that is half-written, too
			if _, err := sandbox.ParseID(name); err == nil {
				lines = append(lines, Line{Kind: kind, Owner: name, Detail: filepath.Join(dir, e.Name())})
			}
		}
	}
	for _, pattern := range []string{"*.new", "sandboxes/*/*.new"} {
		found, err := filepath.Glob(filepath.Join(p.Config.StateDir, pattern))
		if err != nil {
			return nil, err
		}
		for _, path := range found {
			lines = append(lines, Line{Kind: "half-written", Owner: idPattern.FindString(path), Detail: path})
		}
	}
	return lines, nil
}

// ownContainerd tells whether the node's containerd keeps its state where brigd has it
// keep it; of another one nobody knows the folders.
func (p *Parts) ownContainerd() bool {
	return p.Config.Containerd.Binary != "" || filepath.Dir(p.Config.Containerd.Address) == filepath.Clean(p.Config.RunDir)
}
