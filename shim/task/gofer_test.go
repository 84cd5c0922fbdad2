package task

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"brig/internal/journal"
	"brig/internal/slot"
	"brig/shim/runsc"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// gofer is the pid of the claimed program's.
func (f *fixture) gofer() int {
	f.t.Helper()
	root := runsc.For(f.request.Config, f.opts.Namespace, f.request.ID).Root
	data, err := os.ReadFile(filepath.Join(root, fmt.Sprintf("%s_sandbox:%s.state", runsc.ClaimedID(f.request.ID), f.request.ID)))
	var state struct {
		GoferPID int `json:"goferPid"`
	}
	if err != nil || json.Unmarshal(data, &state) != nil || state.GoferPID == 0 {
		f.t.Fatalf("the gofer's pid is unknown: %v", err)
	}
	return state.GoferPID
}

// waitingGofer is the pid of the one that was started before there is a program.
func (f *fixture) waitingGofer() (pid int) {
	f.t.Helper()
	bundle := "--bundle=" + f.request.Bundle.Dir()
	eventually(f.t, func() error {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, path := range lines {
			line, _ := os.ReadFile(path)
			if args := strings.Split(string(line), "\x00"); args[0] == "runsc-gofer" && slices.Contains(args, bundle) {
				pid, _ = strconv.Atoi(filepath.Base(filepath.Dir(path)))
				return nil
			}
		}
		return fmt.Errorf("no gofer of %s waits", bundle)
	})
	// It waits when runsc does.
	eventually(f.t, func() error {
		if where, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); strings.Contains(string(where), "\nCapBnd:\t000000000004001f\n") {
			return nil
		}
		return fmt.Errorf("it does not wait yet")
	})
	return pid
}

// printed waits until a program has.
func (f *fixture) printed(j journal.Spec, want string) {
	f.t.Helper()
	eventually(f.t, func() error {
		if got, err := os.ReadFile(j.Path); err != nil || string(got) != want {
			return errors.Join(fmt.Errorf("output %q; want %q", got, want), err)
		}
		return nil
	})
}

// look is what the kernel knows of a process, with the names of its sandbox left out.
func (f *fixture) look(pid int) (lines []string) {
	f.t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.t.Fatal(err)
		}
		return strings.NewReplacer(f.request.ID, "ID", string(f.request.Bundle), "BUNDLE", f.request.Config.RunDir, "RUN").Replace(string(data))
	}
	tasks, err := filepath.Glob(dir + "/task/*")
	if err != nil || len(tasks) == 0 {
		f.t.Fatalf("no threads: %v", err)
	}
	var threads []string // all alike
	for _, path := range tasks {
		for line := range strings.Lines(read(filepath.Join("task", filepath.Base(path), "status"))) {
			switch name, _, _ := strings.Cut(line, ":"); name {
			case "Uid", "Gid", "Groups", "Umask", "NSpid", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters", "SigBlk", "SigIgn", "SigCgt":
				if name == "NSpid" {
					line = fmt.Sprintf("NSpid: %d of them\n", len(strings.Fields(line))-1)
				}
				threads = append(threads, line)
			}
		}
	}
	slices.Sort(threads)
	lines = append(lines, slices.Compact(threads)...)
	for _, name := range []string{"cgroup", "uid_map", "gid_map", "setgroups", "limits", "oom_score_adj", "personality"} {
		lines = append(lines, name+": "+read(name))
	}
	for line := range strings.Lines(read("mountinfo")) {
		fields := strings.Fields(line)
		// Without ids, the device's number, and the number of its group.
		lines = append(lines, "mount: "+regexp.MustCompile(`\b(shared|master):\d+`).ReplaceAllString(strings.Join(fields[3:], " "), "$1"))
		lines[len(lines)-1] = regexp.MustCompile(`/\d{3}( |/)`).ReplaceAllString(lines[len(lines)-1], "/NNN$1") // the test's folders
	}
	for _, name := range []string{"cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "user", "uts"} {
		theirs, err := os.Readlink(filepath.Join(dir, "ns", name))
		ours, errOurs := os.Readlink("/proc/self/ns/" + name)
		if err != nil || errOurs != nil {
			f.t.Fatal(err, errOurs)
		}
		lines = append(lines, fmt.Sprintf("ns %s: ours: %t", name, theirs == ours))
	}
	for _, name := range []string{"root", "cwd", "exe"} {
		to, err := os.Readlink(filepath.Join(dir, name))
		if err != nil {
			f.t.Fatal(err)
		}
		lines = append(lines, name+": "+to)
	}
	fds, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		f.t.Fatal(err)
	}
	var kinds []string
	for _, fd := range fds {
		to, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		if err != nil {
			f.t.Fatal(err)
		}
		info := strings.Split(read("fdinfo/"+fd.Name()), "\n")
		to = strings.NewReplacer(f.request.ID, "ID", string(f.request.Bundle), "BUNDLE", f.request.Config.RunDir, "RUN").Replace(to)
		kinds = append(kinds, "fd: "+regexp.MustCompile(`:\[\d+\]`).ReplaceAllString(to, "")+" "+info[1])
	}
	slices.Sort(kinds)
	lines = append(lines, kinds...)
	if session, err := unix.Getsid(pid); err != nil || session != pid {
		lines = append(lines, fmt.Sprintf("session %d, %v", session, err))
	}
	var st unix.Stat_t
	if err := unix.Stat(dir+"/root", &st); err != nil {
		f.t.Fatal(err)
	}
	return append(lines, fmt.Sprintf("device of the root: %d", st.Dev))
}

// A gofer that has waited is what one is that was executed for its program, which it is where
// the one that waited has died.
func TestAGoferThatWaited(t *testing.T) {
	f := setUpSlot(t)
	waited := f.waitingGofer()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("mounted\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	// What is mounted after the gofer was started is there, at the path of a source, too.
	late := filepath.Join(t.TempDir(), "late")
	if err := os.Mkdir(late, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("late", late, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(late, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(late, "f"), []byte("late\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	program := func(file string) func(*slot.Claim) {
		return func(c *slot.Claim) {
			c.Spec.Mounts = append(c.Spec.Mounts,
				specs.Mount{Destination: "/mnt/file", Type: "bind", Source: file, Options: []string{"bind", "ro"}},
				specs.Mount{Destination: "/mnt/late", Type: "bind", Source: late, Options: []string{"bind", "ro"}})
		}
	}
	const script = "cat /mnt/file /mnt/late/f; exec sleep 1000"
	out := f.claim(script, program(file))
	f.must(f.start())
	f.printed(out, "mounted\nlate\n")
	if pid := f.gofer(); pid != waited {
		t.Errorf("the gofer is %d, the one that waited was %d", pid, waited)
	}
	got := f.look(f.gofer())
	f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGKILL, false))
	f.wait("")
	f.must(f.remove())

	f = setUpSlot(t)
	waited = f.waitingGofer()
	f.must(unix.Kill(waited, unix.SIGKILL))
	out = f.claim(script, program(file))
	f.must(f.start())
	f.printed(out, "mounted\nlate\n")
	if f.gofer() == waited {
		t.Error("one that has died is used")
	}
	want := f.look(f.gofer())
	// gVisor lets an executed gofer inherit one that is of its own end of a socket.
	const inherited = "fd: anon_inode:[eventfd] flags:\t04002"
	if i := slices.Index(want, inherited); i >= 0 {
		want = slices.Delete(want, i, i+1)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a gofer that was executed (-) and one that waited (+) differ:\n%s", diff)
	}
	f.must(f.Kill(t.Context(), f.request.ID, "", unix.SIGKILL, false))
	f.wait("")
	f.must(f.remove())
}

// A gofer that waits ends with its slot, and with the runsc that has it.
func TestAGoferThatWaitsEnds(t *testing.T) {
	f := setUpSlot(t)
	pid := f.waitingGofer()
	f.must(f.remove())
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("it outlives its slot: %v", err)
	}
}
