package command

import (
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"
)

// createFlags are what create and run have in common.
type createFlags struct {
	name, workdir string
	cpu           float64
	memory        uint64
	env, tags     []string
	ports         []string
	timeout       time.Duration
	policy        policyFlags
	streams       streamFlags
	checkpoint    string
}

func (f *createFlags) register(cmd *cobra.Command, overflow string) {
	fs := cmd.Flags()
	fs.StringVar(&f.name, "name", "", "`NAME`, unique among your running sandboxes: at most 64 of [A-Za-z0-9_.-]")
	fs.Float64Var(&f.cpu, "cpu", 0, "`CORES`, for example 0.5 (default: the node's)")
	fs.Uint64Var(&f.memory, "memory", 0, "`MIB`, a hard limit (default: the node's)")
	fs.StringArrayVar(&f.env, "env", nil, "`KEY=VALUE` added to the image's environment (repeatable)")
	fs.StringVar(&f.workdir, "workdir", "", "working `DIRECTORY`, absolute (default: the image's)")
	fs.StringArrayVar(&f.tags, "tag", nil, "`KEY=VALUE` to find the sandbox by (repeatable)")
	f.policy.register(fs)
	fs.StringVar(&f.checkpoint, "from-checkpoint", "", "go on from the checkpoint `NAME` instead of starting a program; there is no IMAGE then, and no ARGV")
	fs.StringArrayVar(&f.ports, "port", nil, "open a tunnel to `PORT`: 8080 (TLS), 8080/h2 or 8080/tcp (repeatable)")
	f.streams.register(cmd, overflow)
	fs.DurationVar(&f.timeout, "timeout", 0, "`DURATION` until the sandbox is ended, wall clock, for example 90s or 2h (default: the node's, 5m)")
}

// request builds the message for IMAGE [-- ARGV…], or for a checkpoint instead.
func (f *createFlags) request(cmd *cobra.Command, args []string) (*brigv1.CreateRequest, error) {
	var image string
	var argv []string
	var err error
	switch {
	case f.checkpoint == "":
		image, argv, err = imageAndArgv(cmd, args)
	case len(args) > 0:
		err = usagef("%q: with --from-checkpoint neither IMAGE nor ARGV can be given: both are the checkpoint's", args[0])
	}
	if err != nil {
		return nil, err
	}
	req := &brigv1.CreateRequest{Name: f.name, Image: image, Argv: argv, Workdir: f.workdir, FromCheckpoint: f.checkpoint}
	if req.Env, err = pairs("env", f.env); err != nil {
		return nil, err
	}
	if req.Tags, err = pairs("tag", f.tags); err != nil {
		return nil, err
	}
	if req.Ports, err = ports(f.ports); err != nil {
		return nil, err
	}
	if req.Network, err = f.policy.network(cmd.Flags()); err != nil {
		return nil, err
	}
	if cmd.Flags().Changed("cpu") || cmd.Flags().Changed("memory") {
		if f.cpu < 0 || (cmd.Flags().Changed("cpu") && f.cpu == 0) || (cmd.Flags().Changed("memory") && f.memory == 0) {
			return nil, usagef("--cpu and --memory must be positive; leave them out for the node's default")
		}
		req.Resources = &brigv1.Resources{Cpu: f.cpu, MemoryMib: f.memory}
	}
	if cmd.Flags().Changed("timeout") {
		req.Timeout = durationpb.New(f.timeout)
	}
	return req, f.streams.apply(req, cmd.InOrStdin())
}

// imageAndArgv splits IMAGE [-- ARGV…]; the two dashes may be left out if ARGV
// holds nothing that looks like a flag.
func imageAndArgv(cmd *cobra.Command, args []string) (image string, argv []string, err error) {
	dash := cmd.ArgsLenAtDash()
	switch {
	case len(args) == 0 || dash == 0:
		return "", nil, usagef("expected: %s", cmd.UseLine())
	case dash > 1:
		return "", nil, usagef("%q stands before --; the program and its arguments go after it", args[1])
	}
	return args[0], args[1:], nil
}
