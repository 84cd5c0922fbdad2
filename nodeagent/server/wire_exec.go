package server

import (
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/execs"
	"brig/nodeagent/output"
	"brig/nodeagent/record"
)

// programOf reads what to run. Meaning is checked by package execs.
func programOf(m *brigv1.ExecSpec) (execs.Spec, error) {
	if m == nil {
		return execs.Spec{}, invalid("exec is missing: say what to run, and where")
	}
	timeout, err := durationOf("timeout", m.GetTimeout())
	return execs.Spec{Argv: m.GetArgv(), Env: m.GetEnv(), Workdir: m.GetWorkdir(), Timeout: timeout}, err
}

// startOf reads a start; block is what becomes of output if it does not say.
func startOf(m *brigv1.ExecStart, block bool) (spec execs.Spec, err error) {
	if spec, err = programOf(m.GetExec()); err != nil {
		return spec, err
	}
	spec.ID, spec.TTY, spec.Stdin = m.GetExecId(), m.GetTty(), m.GetStdin()
	if spec.Size, err = sizeOf(m.GetSize()); err != nil {
		return spec, err
	}
	spec.Block, err = blocks(m.GetOverflow(), block)
	return spec, err
}

// windowOf reads a size that is asked for.
func windowOf(m *brigv1.WindowSize) (record.Size, error) {
	size, err := sizeOf(m)
	if err == nil && (size.Columns == 0 || size.Rows == 0) {
		err = invalid("invalid size %d x %d: want at least 1 each", size.Columns, size.Rows)
	}
	return size, err
}

func offsetsOf(stdout, stderr uint64) (from execs.Offsets, err error) {
	if from.Stdout, err = offsetOf(stdout); err != nil {
		return from, err
	}
	from.Stderr, err = offsetOf(stderr)
	return from, err
}

func outputTo(p output.Piece) *brigv1.ExecOutput {
	return &brigv1.ExecOutput{Channel: channels[p.Stream], Offset: uint64(p.Offset), Data: p.Data}
}
