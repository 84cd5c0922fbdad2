package census

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func namespaces(c Census) error {
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		c.add("netns", e.Name())
	}
	return nil
}

func links(c Census) error {
	var list []struct {
		Name string `json:"ifname"`
		Kind struct {
			Kind string `json:"info_kind"`
		} `json:"linkinfo"`
	}
	if err := ip(&list, "-details", "link", "show"); err != nil {
		return err
	}
	for _, l := range list {
		c.add("link", l.Name, l.Kind.Kind)
	}
	return nil
}

func routes(c Census) error {
	var list []struct {
		Dst     string `json:"dst"`
		Dev     string `json:"dev"`
		Gateway string `json:"gateway"`
		Table   string `json:"table"`
	}
	if err := ip(&list, "-4", "route", "show", "table", "all"); err != nil {
		return err
	}
	for _, r := range list {
		c.add("route", r.Dst, "dev", r.Dev, "via", r.Gateway, "table", r.Table)
	}
	return nil
}

func ip(into any, args ...string) error {
	out, err := exec.CommandContext(context.Background(), "ip", append([]string{"-json"}, args...)...).Output()
	if err != nil {
		return fmt.Errorf("ip %s: %w", strings.Join(args, " "), err)
	}
	return json.Unmarshal(out, into)
}

func tables(c Census) error {
	out, err := exec.CommandContext(context.Background(), "nft", "list", "tables").CombinedOutput()
	if err != nil {
		return fmt.Errorf("nft list tables: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		c.add("nft", strings.TrimSpace(line))
	}
	return nil
}

// ours are the names that sockets of brig and of what it drives have.
var ours = []string{"brig", "containerd", "runsc", "shim", "gvisor"}

func sockets(c Census) error {
	data, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(data)) {
		// Num RefCount Protocol Flags Type St Inode Path
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		for _, word := range ours {
			if strings.Contains(fields[7], word) {
				c.add("socket", fields[7])
			}
		}
	}
	return nil
}

func sysctls(c Census) error {
	patterns := []string{
		"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv4/conf/*/forwarding", "/proc/sys/net/ipv4/conf/*/rp_filter",
		"/proc/sys/net/ipv4/conf/*/route_localnet", "/proc/sys/net/ipv4/conf/*/proxy_arp", "/proc/sys/net/ipv6/conf/*/forwarding",
		"/proc/sys/net/ipv6/conf/*/disable_ipv6",
		"/proc/sys/net/bridge/*", "/proc/sys/user/max_net_namespaces",
	}
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, path := range found {
			if value, err := os.ReadFile(path); err == nil {
				c.add("sysctl", strings.TrimPrefix(path, "/proc/sys/"), strings.TrimSpace(string(value)))
			}
		}
	}
	return nil
}
