package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"

	"brig/internal/attachment"
	"brig/internal/census"
	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/transit"
)

// remains lists what the machine holds of a sandbox: processes and what brig-cni removes
// in the background, mounts, control groups, its namespace, its link, and files of its
// name in the node's two folders. It reads as little as it can, for while it looks the
// node has less of a processor.
func (n *testNode) remains(id string) (list []string, err error) {
	cfg, err := config.Load(filepath.Join(n.dir, "config.toml"))
	if err != nil {
		return nil, err
	}
	list, err = n.running(id)
	if err != nil {
		return nil, err
	}
	if netns.Exists(id) {
		list = append(list, "namespace "+id)
	}
	link := attachment.Key{Network: "brig", ContainerID: id, IfName: "eth0"}.Link()
	err = netns.Do(transit.Path(&cfg), func() error {
		if _, err := netlink.LinkByName(link); err == nil {
			list = append(list, "link "+link)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{cfg.RunDir, cfg.StateDir} {
		if list, err = named(list, dir, id); err != nil {
			return nil, err
		}
	}
	err = census.Cgroups(func(path string) bool {
		if strings.Contains(path, id) {
			list = append(list, "control group "+path)
			return false
		}
		return strings.Count(path, "/") < 2 || strings.Contains(path, "brig")
	})
	return list, err
}

// running are the sandbox's processes and mounts.
func (n *testNode) running(id string) (list []string, err error) {
	processes, err := census.Processes()
	if err != nil {
		return nil, err
	}
	for _, p := range processes {
		line := strings.Join(p.Args, " ")
		if strings.Contains(line, id) || strings.Contains(line, " reap ") && strings.Contains(line, n.dir) {
			list = append(list, "process "+line)
		}
	}
	mounts, err := census.Mounts()
	for _, m := range mounts {
		if strings.Contains(m.Path, id) {
			list = append(list, "mount "+m.Path)
		}
	}
	return list, err
}

// named adds the files below dir whose name holds the id; layers of images are not
// looked into.
func named(list []string, dir, id string) ([]string, error) {
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err):
			return nil // it went meanwhile
		case err != nil:
			return err
		case strings.Contains(d.Name(), id):
			list = append(list, "file "+path)
			return skipIf(d.IsDir())
		}
		return skipIf(d.IsDir() && (strings.HasSuffix(path, "/snapshots") || strings.HasSuffix(path, "content.v1.content")))
	})
	return list, err
}

func skipIf(yes bool) error {
	if yes {
		return fs.SkipDir
	}
	return nil
}
