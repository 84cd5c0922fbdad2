package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"net/http"
)

// healthTime is how long containerd may take to answer before the node is not healthy.
const healthTime = 2 * time.Second

// health tells whether brigd can do what it is asked: its containerd answers.
type health struct {
	ready func(context.Context) error
}

// Check is gRPC's health check, of the whole server ("") or of one service.
func (h health) Check(ctx context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if r.Service != "" && !slices.Contains(services, r.Service) {
		return nil, connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no service %.100q", r.Service))
	}
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	if err := h.ready(ctx); err != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

// register adds gRPC's health and reflection. Both are protocols of others, so they have
// their own codecs.
func (h health) register(mux *http.ServeMux, opts ...connect.HandlerOption) {
	reflector := grpcreflect.NewStaticReflector(append(slices.Clone(services), grpchealth.HealthV1ServiceName)...)
	mux.Handle(grpchealth.NewHandler(h, opts...))
	mux.Handle(grpcreflect.NewHandlerV1(reflector, opts...))
	mux.Handle(grpcreflect.NewHandlerV1Alpha(reflector, opts...))
}
