// Package cni is what brig-cni does: it connects a sandbox's network namespace to
// the node's transit namespace, says who the sandbox is on the wire, and denies it
// everything. A policy is bound here only if the caller brings one; else the shim's
// gate binds it before the program starts.
//
// An ADD is closed at every instant: the identity is bound before the link exists,
// the link is down until its alias says whose it is, and a packet passes only because
// of a policy, which comes last. What a failed ADD made it takes back; what a killed
// one left, DEL and GC remove, knowing no more than the attachment's key. DEL begins
// with the rules, so the sandbox is cut off before anything slow happens, and gives
// the address back last, when no connection tracked under it is left. The link itself,
// cut and without a name, is left to a reaper: the kernel takes long to remove one.
//
// Every change is made under the node's network lock. "The host" is the network
// namespace of the calling process. This package is executed for every attachment:
// it must not reach a containerd client, gRPC or protobuf.
package cni

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/lease"
	"brig/internal/undo"
)

// Versions of the CNI specification that the plugin speaks.
var Versions = version.PluginSupports("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Reaper is how to start the reaper for the configuration at a path; see Starter.
type Reaper func(configPath string) Starter

// Commands are the plugin's functions, bound to ctx; results go to out.
func Commands(ctx context.Context, out io.Writer, reaper Reaper) skel.CNIFuncs {
	return skel.CNIFuncs{
		Add:    func(args *skel.CmdArgs) error { return typed(add(ctx, args, out, reaper)) },
		Del:    func(args *skel.CmdArgs) error { return typed(del(ctx, args, reaper)) },
		Check:  func(args *skel.CmdArgs) error { return typed(check(ctx, args)) },
		GC:     func(args *skel.CmdArgs) error { return typed(gc(ctx, args)) },
		Status: func(args *skel.CmdArgs) error { return typed(status(ctx, args)) },
	}
}

func add(ctx context.Context, args *skel.CmdArgs, out io.Writer, reaper Reaper) error {
	c, cfg, err := open(args, parseAdd)
	if err != nil {
		return err
	}
	policy, err := c.policy()
	if err != nil {
		return err
	}
	delegate, err := c.delegate(args.StdinData)
	if err != nil {
		return err
	}
	r := Request{Key: c.key(args), NetNS: args.Netns, Policy: policy, Start: reaper(config.Path(c.Config))}
	a, err := attachWith(ctx, cfg, r, delegate)
	if err != nil {
		return err
	}
	result, err := a.result().GetAsVersion(c.CNIVersion)
	if err != nil {
		return fmt.Errorf("convert the result: %w", err)
	}
	return result.PrintTo(out)
}

// attachWith asks the IPAM plugin for addresses, if there is one and the attachment is
// not there already. It is asked without the node's lock, which it may need long.
func attachWith(ctx context.Context, cfg *config.Config, r Request, delegate *ipam) (Attachment, error) {
	if delegate == nil {
		return Attach(ctx, cfg, r)
	}
	there, err := Attached(ctx, cfg, r)
	if err != nil {
		return Attachment{}, err
	}
	if there {
		return Attach(ctx, cfg, r)
	}
	if r.Address, r.Addr6, err = delegate.add(ctx); err != nil {
		return Attachment{}, err
	}
	a, err := Attach(ctx, cfg, r)
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undo.Deadline)
		defer cancel()
		return Attachment{}, errors.Join(err, delegate.del(ctx))
	}
	return a, nil
}

func del(ctx context.Context, args *skel.CmdArgs, reaper Reaper) error {
	c, cfg, err := open(args, parse)
	if err != nil {
		return err
	}
	// Only when nothing of it is left may the address go to somebody else.
	if err := Detach(ctx, cfg, c.key(args), reaper(config.Path(c.Config))); err != nil {
		return err
	}
	delegate, err := c.delegate(args.StdinData)
	if err != nil || delegate == nil {
		return err
	}
	return delegate.del(ctx)
}

func check(ctx context.Context, args *skel.CmdArgs) error {
	c, cfg, err := open(args, parse)
	if err != nil {
		return err
	}
	policy, err := c.policy()
	if err != nil {
		return err
	}
	delegate, err := c.delegate(args.StdinData)
	if err != nil {
		return err
	}
	if err := Check(ctx, cfg, Request{Key: c.key(args), NetNS: args.Netns, Policy: policy}); err != nil || delegate == nil {
		return err
	}
	return delegate.check(ctx)
}

func gc(ctx context.Context, args *skel.CmdArgs) error {
	c, cfg, err := open(args, parse)
	if err != nil {
		return err
	}
	var valid []attachment.Key
	for _, a := range c.Valid {
		valid = append(valid, attachment.Key{Network: c.Name, ContainerID: a.ContainerID, IfName: a.IfName})
	}
	if err := GC(ctx, cfg, c.Name, valid); err != nil {
		return err
	}
	delegate, err := c.delegate(args.StdinData)
	if err != nil || delegate == nil {
		return err
	}
	return delegate.gc(ctx)
}

func status(ctx context.Context, args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil {
		return err
	}
	cfg, err := c.load()
	if err != nil {
		return types.NewError(types.ErrPluginNotAvailable, "brig-cni cannot attach sandboxes", err.Error())
	}
	delegate, err := c.delegate(args.StdinData)
	if err != nil {
		return err
	}
	if err := Status(ctx, cfg); err != nil || delegate == nil {
		return err
	}
	return delegate.status(ctx)
}

// typed gives an error the code by which CNI callers tell what to do. Plain errors
// would all be code 100 with no word on whose mistake it was.
func typed(err error) error {
	var already *types.Error
	switch {
	case err == nil || errors.As(err, &already):
		return err
	case errors.Is(err, lease.ErrExhausted), errors.Is(err, context.DeadlineExceeded):
		return types.NewError(types.ErrTryAgainLater, err.Error(), "")
	case errors.Is(err, os.ErrNotExist):
		return types.NewError(types.ErrUnknownContainer, err.Error(), "")
	}
	return types.NewError(types.ErrInternal, err.Error(), "")
}
