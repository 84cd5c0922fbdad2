// Package gpu tells an operator whether sandboxes of a node can have its GPUs, and what to
// do if they cannot. It looks where the shim and brigd look before they make one, at the
// CDI specifications that others have left, and at brigd's configuration. It changes
// nothing, and runs nothing but runsc.
package gpu

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"brig/internal/config"
	"brig/internal/nvidia"
	"brig/internal/nvidia/lint"
)

// Report on a node.
type Report struct {
	Node string
	// Driver is the kernel module's version; empty: none is loaded, or it is not understood.
	Driver string
	GPUs   []nvidia.GPU
	// Findings, what refuses first.
	Findings []nvidia.Finding
}

// Usable tells whether a sandbox can have a GPU.
func (r Report) Usable() bool {
	return r.Driver != "" && !slices.ContainsFunc(r.Findings, func(f nvidia.Finding) bool { return f.Refuses })
}

// NodeOf is what a check of the configured node looks at.
func NodeOf(cfg *config.Config) nvidia.Node {
	return nvidia.Node{
		DriverRoot: cfg.GPU.DriverRoot, Runsc: cfg.Runsc.Path,
		Proc: "/proc", Dev: "/dev", SpecDirs: append(slices.Clone(cfg.GPU.SpecDirs), cfg.CDIDir()),
	}
}

// Look at the node n that cfg is the configuration of.
func Look(ctx context.Context, cfg *config.Config, n nvidia.Node) Report {
	r := Report{Node: cfg.Node, Findings: nvidia.Examine(ctx, n)}
	if driver, err := nvidia.Driver(n.Proc); err == nil {
		r.Driver = driver.String()
		r.GPUs, _ = nvidia.GPUs(n.Proc) // Examine has told of an error
		r.Findings = append(r.Findings, generator(cfg)...)
	}
	r.Findings = append(r.Findings, lint.Specs(n)...)
	slices.SortStableFunc(r.Findings, func(a, b nvidia.Finding) int { return cmp.Compare(rank(a), rank(b)) })
	return r
}

func rank(f nvidia.Finding) int {
	if f.Refuses {
		return 0
	}
	return 1
}

// generator is brigd's way to GPUs; callers of the shim have their own.
func generator(cfg *config.Config) []nvidia.Finding {
	f := nvidia.Finding{Subject: "gpu.generator", Problem: "it is not set, so brig create --gpu has none to give", Remedy: "name brig's program for it in the configuration"}
	if cfg.GPU.Generator == "" {
		return []nvidia.Finding{f}
	}
	if _, err := os.Stat(cfg.GPU.Generator); errors.Is(err, fs.ErrNotExist) {
		f.Problem, f.Remedy = "there is no "+cfg.GPU.Generator, "install it, or name it where it is"
		return []nvidia.Finding{f}
	}
	return nil
}

// Print writes a line for each GPU, each finding, and the verdict.
func (r Report) Print(w io.Writer) error {
	var err error
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format+"\n", args...)
		}
	}
	for _, g := range r.GPUs {
		say("/dev/nvidia%d: %s, %s, driver %s", g.Minor, g.Model, g.UUID, r.Driver)
	}
	for _, f := range r.Findings {
		if f.Refuses {
			say("refused: %s", f)
		} else {
			say("warning: %s", f)
		}
	}
	if r.Usable() {
		say("sandboxes can have GPUs")
	} else {
		say("sandboxes cannot have GPUs")
	}
	return err
}

// MarshalJSON is the form of --json.
func (r Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Node     string           `json:"node"`
		Usable   bool             `json:"usable"`
		Driver   string           `json:"driver"`
		GPUs     []nvidia.GPU     `json:"gpus"`
		Findings []nvidia.Finding `json:"findings"`
	}{r.Node, r.Usable(), r.Driver, append([]nvidia.GPU{}, r.GPUs...), append([]nvidia.Finding{}, r.Findings...)})
}
