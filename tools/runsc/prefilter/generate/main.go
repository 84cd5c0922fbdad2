// Command generate FOLDER writes, as Go source, the system call filters that brig's sentries
// and gofers install, into that folder. It computes them with the code
// and from the rules of the gVisor that this module pins. What it leaves out is what
// brig has no use for: a sandbox with other options computes its filter at its start.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/format"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	_ "unsafe" // for linkname

	"gvisor.dev/gvisor/pkg/seccomp"
	"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp"
	"gvisor.dev/gvisor/pkg/sentry/platform"
	sentry "gvisor.dev/gvisor/runsc/boot/filter/config"
	gofer "gvisor.dev/gvisor/runsc/fsgofer/filter/config"
)

// gVisor's own function for this computes 600 of them, in a minute.
//
//go:linkname sentryRules gvisor.dev/gvisor/runsc/boot/filter/config.rules
func sentryRules(sentry.Options, precompiledseccomp.Values) (allow, deny seccomp.SyscallRules)

//go:linkname goferRules gvisor.dev/gvisor/runsc/fsgofer/filter/config.rules
func goferRules(gofer.Options, precompiledseccomp.Values) (allow, deny seccomp.SyscallRules)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// programs by the package that they are for.
type programs map[string][]precompiledseccomp.Program

func run(args []string, out io.Writer) error {
	all, err := compute()
	if err != nil {
		return err
	}
	if len(args) == 0 { // the second process
		return json.NewEncoder(out).Encode(all)
	}
	if err := all.findPID(); err != nil {
		return err
	}
	for name, list := range all {
		text, err := source(name, list)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(args[0], name, "programs.go"), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// findPID makes a variable of the process's own pid where gVisor's rules for systrap
// have it as a constant. A second process of another pid computes the same programs:
// where the two differ, there it is.
func (all programs) findPID() error {
	cmd := exec.Command(os.Args[0])
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("second process: %w", err)
	}
	var others programs
	if err := json.Unmarshal(out, &others); err != nil {
		return fmt.Errorf("second process: %w", err)
	}
	const variable = "self_pid_low32bits"
	for name, list := range all {
		for i, p := range list {
			other := others[name][i]
			if p.Name != other.Name || len(p.Bytecode32) != len(other.Bytecode32) {
				return fmt.Errorf("%s: two processes computed two programs", p.Name)
			}
			for at, word := range p.Bytecode32 {
				switch {
				case word == other.Bytecode32[at]:
				case word == uint32(os.Getpid()) && other.Bytecode32[at] == uint32(cmd.Process.Pid):
					p.VarOffsets[variable] = append(p.VarOffsets[variable], at)
					p.Bytecode32[at] = 0 // the same source each time
				default:
					return fmt.Errorf("%s: word %d depends on the process that computed it", p.Name, at)
				}
			}
		}
	}
	return nil
}

func compute() (programs, error) {
	sentries, err := forSentry()
	if err != nil {
		return nil, fmt.Errorf("sentry: %w", err)
	}
	gofers, err := forGofer()
	if err != nil {
		return nil, fmt.Errorf("gofer: %w", err)
	}
	return programs{"sentry": sentries, "gofer": gofers}, nil
}

func forSentry() (all []precompiledseccomp.Program, _ error) {
	for _, name := range []string{"systrap", "kvm"} {
		p, err := platform.Lookup(name)
		if err != nil {
			return nil, err
		}
		for _, info := range p.PrecompiledSeccompInfo() {
			for _, directfs := range []bool{true, false} {
				o := sentry.Options{Platform: info, HostFilesystem: directfs}
				rules := func(v precompiledseccomp.Values) (allow, deny seccomp.SyscallRules) { return sentryRules(o, v) }
				program, err := compile(o.ConfigKey(), o.Vars(), sentry.SeccompOptions(o), rules)
				if err != nil {
					return nil, err
				}
				all = append(all, program)
			}
		}
	}
	return all, nil
}

func forGofer() (all []precompiledseccomp.Program, _ error) {
	for _, directfs := range []bool{true, false} {
		for _, lisafs := range []bool{true, false} {
			o := gofer.Options{DirectFS: directfs, LisafsNeeded: lisafs}
			rules := func(v precompiledseccomp.Values) (allow, deny seccomp.SyscallRules) { return goferRules(o, v) }
			program, err := compile(o.ConfigKey(), o.Vars(), seccomp.ProgramOptions{}, rules)
			if err != nil {
				return nil, err
			}
			all = append(all, program)
		}
	}
	return all, nil
}

func compile(
	key string, variables precompiledseccomp.Values, options seccomp.ProgramOptions,
	rules func(precompiledseccomp.Values) (allow, deny seccomp.SyscallRules),
) (precompiledseccomp.Program, error) {
	names := slices.Sorted(maps.Keys(variables))
	return precompiledseccomp.Precompile(key, names, func(v precompiledseccomp.Values) *seccomp.Program {
		allow, deny := rules(v)
		return &seccomp.Program{
			RuleSets: []seccomp.RuleSet{{Rules: deny.Copy()}, {Rules: allow.Copy(), Action: seccomp.Allow}},
			Options:  options,
		}
	})
}

func source(name string, programs []precompiledseccomp.Program) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// Code generated by prefilter/generate; DO NOT EDIT.\n\n//go:build prefilter\n\npackage %s\n\n", name)
	b.WriteString("import \"gvisor.dev/gvisor/pkg/seccomp/precompiledseccomp\"\n\nfunc init() {\n\tregister(\n")
	for _, p := range programs {
		fmt.Fprintf(&b, "\t\t%s,\n", p.Expr("\t\t", "precompiledseccomp"))
	}
	b.WriteString("\t)\n}\n")
	return format.Source(b.Bytes())
}
