package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/vishvananda/netlink"

	"brig/internal/netns"
	"brig/internal/netpolicy"
)

// chain is a CNI network: plugins that are executed one after the other in the host's
// namespace, as a runtime does it.
type chain struct {
	host    string // path of the host's namespace
	plugins []plugin
}

type plugin struct {
	path string
	conf map[string]any
}

// brigChain is brig's network of a world; with a nil policy it denies until the gate
// binds one.
func (w *world) brigChain(policy *netpolicy.Policy) chain {
	conf := map[string]any{"config": w.path}
	if policy != nil {
		conf["runtimeConfig"] = map[string]any{"brig.network-policy": string(policy.Canonical())}
	}
	return chain{host: w.host(), plugins: []plugin{{path: w.plugin, conf: conf}}}
}

// upstreamChain is what containernetworking/plugins has for the same: a routed veth,
// an address, and a firewall that admits the sandbox's traffic in the host. It does not
// translate addresses, which would take ptp as long again.
func (w *world) upstreamChain(o options) chain {
	c := w.ptpChain(o)
	c.plugins = append(c.plugins, plugin{upstream(o, "firewall"), map[string]any{}})
	return c
}

// ptpChain is the same without the firewall.
func (w *world) ptpChain(o options) chain {
	ipam := map[string]any{"type": "host-local", "subnet": "10.88.0.0/16", "dataDir": filepath.Join(o.dir, w.id)}
	return chain{host: w.host(), plugins: []plugin{{upstream(o, "ptp"), map[string]any{"ipam": ipam}}}}
}

func upstream(o options, name string) string { return filepath.Join(o.bin, "deps", "cni", name) }

// add attaches and returns how long the plugins took together.
func (c chain) add(ctx context.Context, id, namespace string) (result json.RawMessage, took time.Duration, err error) {
	for _, p := range c.plugins {
		part, err := c.exec(ctx, "ADD", p, id, namespace, &result)
		if took += part; err != nil {
			return nil, took, err
		}
	}
	return result, took, nil
}

// del detaches what add attached with this result, and returns when the interface is
// gone.
func (c chain) del(ctx context.Context, id, namespace string, result json.RawMessage) error {
	for _, p := range slices.Backward(c.plugins) {
		if _, err := c.exec(ctx, "DEL", p, id, namespace, &result); err != nil {
			return err
		}
	}
	return gone(ctx, namespace)
}

// exec gives the plugin the result of the one before, and takes its own.
func (c chain) exec(ctx context.Context, verb string, p plugin, id, namespace string, result *json.RawMessage) (time.Duration, error) {
	input := map[string]any{"cniVersion": "1.0.0", "name": "bench", "type": filepath.Base(p.path)}
	maps.Copy(input, p.conf)
	if *result != nil && p.conf["config"] == nil {
		input["prevResult"] = *result
	}
	data, err := json.Marshal(input)
	if err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, p.path)
	cmd.Stdin = bytes.NewReader(data)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + id, "CNI_NETNS=" + namespace,
		"CNI_IFNAME=eth0", "CNI_PATH=" + filepath.Dir(p.path),
	}
	var out []byte
	var took time.Duration
	err = netns.Do(c.host, func() (err error) {
		begin := time.Now()
		out, err = cmd.Output()
		took = time.Since(begin)
		return err
	})
	if err != nil {
		return took, fmt.Errorf("%s %s: %w: %s", filepath.Base(p.path), verb, err, out)
	}
	if verb == "ADD" {
		*result = out
	}
	return took, nil
}

// gone waits until the namespace has lost its interface, so that what is measured next
// is not slowed down by the removal.
func gone(ctx context.Context, namespace string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := netns.Do(namespace, func() error { _, err := netlink.LinkByName("eth0"); return err })
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the interface in %s is still there: %w", namespace, errors.Join(err, ctx.Err()))
		case <-time.After(time.Millisecond):
		}
	}
}
