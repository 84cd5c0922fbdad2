package main

import (
	"context"

	"brig/internal/config"
	"brig/shim/gate"
)

// network is package gate as package task wants it.
type network struct{}

func (network) Plan(annotations map[string]string, cfg *config.Config) (bool, error) {
	return gate.Plan(annotations, cfg)
}

func (network) Check(ctx context.Context, cfg *config.Config, r gate.Request) error {
	return gate.Check(ctx, cfg, r)
}

func (network) Release(ctx context.Context, cfg *config.Config, namespace, id string) error {
	return gate.Release(ctx, cfg, namespace, id)
}
