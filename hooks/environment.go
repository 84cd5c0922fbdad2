package hooks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

const (
	// visibleDevices is what NVIDIA's legacy hook obeys, and runsc where it sees a CDI hook.
	// CUDA's images say all.
	visibleDevices     = "NVIDIA_VISIBLE_DEVICES"
	driverCapabilities = "NVIDIA_DRIVER_CAPABILITIES"
)

// void is the value that asks for nothing.
const void = "void"

// usual capabilities, where nobody asks for others.
var usual = []string{"compute", "utility"}

// setEnvironment leaves one variable that says which devices are visible, void, and one
// that says what of the driver there is. The C library takes the first of several, runsc
// the last but one.
func (p *Plan) setEnvironment() {
	ours := func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return name == visibleDevices || name == driverCapabilities
	}
	env := slices.DeleteFunc(p.Spec.Process.Env, ours)
	p.Spec.Process.Env = append(env, visibleDevices+"="+void, driverCapabilities+"="+strings.Join(p.Capabilities, ","))
	gids := p.Spec.Process.User.AdditionalGids
	slices.Sort(gids)
	p.Spec.Process.User.AdditionalGids = slices.Compact(gids)
}

// visible is what the environment asks of the legacy hook; empty: nothing.
func visible(env []string) string {
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, visibleDevices+"="); ok && value != "" && value != void {
			return value
		}
	}
	return ""
}

// capabilities of the driver, sorted: what brigd asks for, all of it, or else what of the
// environment's wishes is allowed. An image says "all" and means what there is.
func capabilities(env, asked, allowed []string) ([]string, error) {
	allows := func(c string) bool { return slices.Contains(allowed, c) }
	if asked != nil {
		for _, c := range asked {
			if !allows(c) {
				return nil, fmt.Errorf("capability %s of the driver: gpu.capabilities of this node has %v: %w", c, allowed, errdefs.ErrPermissionDenied)
			}
		}
		return asked, nil
	}
	wanted := usual
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, driverCapabilities+"="); ok && value != "" {
			wanted = list(value)
		}
	}
	if slices.Contains(wanted, "all") {
		wanted = allowed
	}
	out := slices.DeleteFunc(slices.Clone(wanted), func(c string) bool { return !allows(c) })
	if len(out) == 0 {
		return nil, fmt.Errorf("%s=%s: gpu.capabilities of this node has %v alone: %w", driverCapabilities, strings.Join(wanted, ","), allowed, errdefs.ErrPermissionDenied)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
