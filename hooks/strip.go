package hooks

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"brig/hooks/operation"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// last tells which commands see what others have done: the choice of CUDA's libraries adds
// a folder to those of the linker, whose cache comes last.
var last = map[string]int{"enable-cuda-compat": 1, "update-ldcache": 2}

// strip takes NVIDIA's hooks out of spec, and notes what they would have done. Legacy ones
// that are left by now have nothing to do.
func strip(spec *specs.Spec, plan *Plan) error {
	var commands [][]string
	for _, stage := range stages(spec.Hooks) {
		*stage = slices.DeleteFunc(*stage, func(h specs.Hook) bool {
			k := kindOf(h)
			if k == cdi {
				commands = append(commands, command(h))
			}
			return k != foreign
		})
		if len(*stage) == 0 {
			*stage = nil
		}
	}
	slices.SortStableFunc(commands, func(a, b []string) int { return rank(a) - rank(b) })
	for i, argv := range commands {
		if slices.ContainsFunc(commands[:i], func(c []string) bool { return slices.Equal(c, argv) }) {
			continue
		}
		if err := plan.add(argv); err != nil {
			return err
		}
	}
	return nil
}

// command is a hook's argv, by the name of the program that would have been run.
func command(h specs.Hook) []string {
	return append([]string{programOf(h)}, h.Args[min(1, len(h.Args)):]...)
}

func rank(argv []string) int {
	for _, word := range argv {
		if r, ok := last[word]; ok {
			return r
		}
	}
	return 0
}

// add one command to what is to be done.
func (p *Plan) add(argv []string) error {
	if slices.Contains(argv, "create-symlinks") {
		if argv = withoutDevices(argv); !slices.Contains(argv, "--link") && !slices.ContainsFunc(argv, isLink) {
			return nil
		}
	}
	if slices.Contains(argv, "apply-cuda-memory-limits") {
		return memoryLimits(p.Spec.Process.Env)
	}
	op, err := operation.Parse(argv)
	switch {
	case errors.Is(err, operation.ErrUnknown):
		p.drop("hook %s", strings.Join(argv[:min(3, len(argv))], " "))
		return nil
	case err != nil:
		return fmt.Errorf("hook %q: %w: %w", argv, err, errdefs.ErrInvalidArgument)
	case op != nil:
		p.operations = append(p.operations, op)
	}
	return nil
}

// memoryLimits: the specifications of toolkit 1.20 have a hook for them with every GPU. It
// reads them in the environment, and does nothing where there are none.
func memoryLimits(env []string) error {
	for _, e := range env {
		if name, _, _ := strings.Cut(e, "="); name == "NVIDIA_GPU_MEMORY_REQUEST" || name == "NVIDIA_GPU_MEMORY_LIMIT" {
			return fmt.Errorf("%s: nothing holds a sandbox to a limit of a GPU's memory: %w", e, errdefs.ErrNotImplemented)
		}
	}
	return nil
}

func isLink(word string) bool { return strings.HasPrefix(word, "--link=") }

// withoutDevices drops links in /dev, which are to nodes that were dropped and would lie
// under the sandbox's own /dev.
func withoutDevices(argv []string) []string {
	inDev := func(link string) bool {
		_, at, _ := strings.Cut(link, "::")
		at = path.Clean("/" + at)
		return at == "/dev" || strings.HasPrefix(at, "/dev/")
	}
	var out []string
	for i := 0; i < len(argv); i++ {
		switch link, joined := strings.CutPrefix(argv[i], "--link="); {
		case joined && inDev(link):
		case argv[i] == "--link" && i+1 < len(argv) && inDev(argv[i+1]):
			i++
		default:
			out = append(out, argv[i])
		}
	}
	return out
}
