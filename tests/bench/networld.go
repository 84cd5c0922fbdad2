package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"brig/internal/config"
	"brig/internal/netns"
	"brig/internal/transit"
)

// The addresses of a world.
var (
	hostAddr   = netip.MustParseAddr("203.0.113.1")
	serverAddr = netip.MustParseAddr("203.0.113.2")
)

// world is a host and an internet in two throwaway namespaces, joined by a veth; the
// node of a network's figures runs in the first. The machine's own network is never
// touched.
type world struct {
	id     string
	cfg    config.Config
	path   string // of the configuration
	plugin string // path of brig-cni
	spaces []string
	filled int // attachments that stay
}

// newWorld makes one without any sandbox. close must be called even on an error.
func newWorld(ctx context.Context, o options) (*world, error) {
	w := &world{id: fmt.Sprintf("b%06x", rand.Uint32()&0xffffff), plugin: filepath.Join(o.bin, "brig-cni")}
	w.path = filepath.Join(o.dir, w.id+".toml")
	toml := fmt.Sprintf("node = %q\nrun_dir = \"/run/brig-%s\"\nstate_dir = %q\n", w.id, w.id, filepath.Join(o.dir, w.id))
	if err := os.WriteFile(w.path, []byte(toml), 0o600); err != nil {
		return w, err
	}
	var err error
	if w.cfg, err = config.Load(w.path); err != nil {
		return w, err
	}
	host, errHost := w.namespace("host")
	internet, errInternet := w.namespace("inet")
	if err := errors.Join(errHost, errInternet); err != nil {
		return w, err
	}
	return w, errors.Join(
		ip(ctx, host, "link set lo up", "link add wan type veth peer name eth0 netns "+internet, "link set wan up",
			fmt.Sprintf("address add %s/24 dev wan", hostAddr), fmt.Sprintf("route add default via %s", serverAddr)),
		// It takes every address for its own. What is not translated has a way back, too.
		ip(ctx, internet, "link set lo up", "link set eth0 up", fmt.Sprintf("address add %s/24 dev eth0", serverAddr),
			fmt.Sprintf("route add 10.88.0.0/13 via %s", hostAddr), "route add local 0.0.0.0/0 dev lo table 100", "rule add iif eth0 lookup 100 pref 10"),
	)
}

// namespace makes one that goes with the world, and returns its name.
func (w *world) namespace(name string) (string, error) {
	name = w.id + "-" + name
	w.spaces = append(w.spaces, name)
	return name, netns.Create(name)
}

func (w *world) host() string     { return netns.Path(w.id + "-host") }
func (w *world) internet() string { return netns.Path(w.id + "-inet") }

// onHost runs fn where the node's programs run.
func (w *world) onHost(fn func() error) error { return netns.Do(w.host(), fn) }

// close removes the node's network, and then what it ran in.
func (w *world) close() error {
	var errs []error
	if netns.Exists(w.id + "-host") {
		errs = append(errs, w.onHost(func() error { return transit.Remove(context.Background(), &w.cfg) }))
	}
	for _, name := range w.spaces {
		errs = append(errs, netns.Delete(name))
	}
	return errors.Join(append(errs, os.RemoveAll(w.cfg.RunDir))...)
}

// ip runs lines of ip(8) in the namespace of a name.
func ip(ctx context.Context, namespace string, lines ...string) error {
	return command(ctx, strings.Join(lines, "\n")+"\n", "ip", "-n", namespace, "-batch", "-")
}

func command(ctx context.Context, input, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
