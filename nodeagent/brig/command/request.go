package command

import (
	brigv1 "brig/nodeagent/api/brig/v1"
	"github.com/spf13/cobra"
)

// createFlags are what create and run have in common.
type createFlags struct {
	name, workdir string
	env, tags     []string
	ports         []string
	policy        policyFlags
	limits        limitFlags
	streams       streamFlags
	checkpoint    string
}

func (f *createFlags) register(cmd *cobra.Command, overflow string) {
	fs := cmd.Flags()
	fs.StringVar(&f.name, "name", "", "`NAME`, unique among your running sandboxes: at most 64 of [A-Za-z0-9_.-]")
	fs.StringArrayVar(&f.env, "env", nil, "`KEY=VALUE` added to the image's environment (repeatable)")
	fs.StringVar(&f.workdir, "workdir", "", "working `DIRECTORY`, absolute (default: the image's)")
	fs.StringArrayVar(&f.tags, "tag", nil, "`KEY=VALUE` to find the sandbox by (repeatable)")
	f.policy.register(fs)
	fs.StringVar(&f.checkpoint, "from-checkpoint", "", "go on from the checkpoint `NAME` instead of starting a program; there is no IMAGE then, and no ARGV")
	fs.StringArrayVar(&f.ports, "port", nil, "open a tunnel to `PORT`: 8080 (TLS), 8080/h2 or 8080/tcp (repeatable)")
	f.limits.register(fs)
	f.streams.register(cmd, overflow)
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
	if err := f.limits.apply(cmd.Flags(), req); err != nil {
		return nil, err
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
