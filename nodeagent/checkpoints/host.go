package checkpoints

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// askTime bounds a question to runsc.
const askTime = 10 * time.Second

// ThisHost asks the runsc at path, which is a short program's start twice.
func ThisHost(ctx context.Context, path string) (Host, error) {
	version, err := ask(ctx, path, "--version")
	if err != nil {
		return Host{}, err
	}
	first, _, _ := strings.Cut(version, "\n")
	build, ok := strings.CutPrefix(first, "runsc version ")
	if !ok || build == "" {
		return Host{}, fmt.Errorf("ask runsc for its version: it says %.100q", first)
	}
	features, err := ask(ctx, path, "cpu-features")
	if err != nil {
		return Host{}, err
	}
	cpu := strings.FieldsFunc(features, func(r rune) bool { return r == ',' || r == '\n' || r == ' ' })
	if len(cpu) == 0 {
		return Host{}, fmt.Errorf("ask runsc for the CPU's features: it says nothing")
	}
	slices.Sort(cpu)
	return Host{Runsc: build, CPU: slices.Compact(cpu)}, nil
}

func ask(ctx context.Context, path, question string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, question).Output()
	if err != nil {
		return "", fmt.Errorf("ask %s %s: %w", path, question, err)
	}
	return string(out), nil
}
