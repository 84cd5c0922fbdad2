package main

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"brig/hooks"
	"brig/internal/config"
	"brig/internal/nvidia"
	"brig/shim/task"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// gpus are packages hooks and nvidia as package task wants them.
type gpus struct{}

func (gpus) Plan(spec *specs.Spec, cfg *config.Config, own bool) (*task.GPUPlan, error) {
	plan, err := hooks.Modify(spec, hooks.Host{Own: own, CDIDir: cfg.CDIDir(), Capabilities: cfg.GPU.Capabilities})
	if err != nil {
		return nil, err
	}
	return &task.GPUPlan{
		Spec: plan.Spec, Devices: plan.Devices, Capabilities: plan.Capabilities, Dropped: plan.Dropped, Prepare: plan.Apply,
	}, nil
}

func (gpus) Check(ctx context.Context, cfg *config.Config, devices []string) error {
	node := nvidia.Node{
		DriverRoot: cfg.GPU.DriverRoot, Proc: "/proc", Runsc: cfg.Runsc.Path,
		SpecDirs: append(slices.Clone(cfg.GPU.SpecDirs), cfg.CDIDir()),
	}
	for _, path := range devices {
		if minor, err := strconv.Atoi(strings.TrimPrefix(path, "/dev/nvidia")); err == nil {
			node.Minors = append(node.Minors, minor)
		}
	}
	return nvidia.Check(ctx, node)
}
