package isolation

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"brig/internal/netns"
	"brig/internal/netpolicy"
)

var (
	killAll  = flag.Bool("kill-all", false, "kill the plugin at every system call, not at a sample of them")
	killSeed = flag.Uint64("kill-seed", 0, "which sample; 0: another one each time")
)

// sample of the system calls: every one in so many.
const sample = 40

// stepEnv makes the test's binary a stepper: see step.
const stepEnv = "BRIG_TEST_KILL_AT"

func init() {
	if at := os.Getenv(stepEnv); at != "" {
		step(at)
	}
}

// step runs the program of its arguments and kills it, with all that it started, as it
// is about to make the system call of that number, counted over all its threads and
// children. It writes how many there were. 0 kills nobody.
func step(at string) {
	runtime.LockOSThread() // whoever traces must be one thread
	var kill int
	if _, err := fmt.Sscan(at, &kill); err != nil {
		panic(err)
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	env := append(os.Environ(), stepEnv+"=")
	p, err := os.StartProcess(os.Args[1], os.Args[1:], &os.ProcAttr{Files: []*os.File{os.Stdin, null, os.Stderr}, Env: env, Sys: &unix.SysProcAttr{Ptrace: true}})
	if err != nil {
		panic(err)
	}
	_ = json.NewEncoder(os.Stdout).Encode(trace(p.Pid, kill))
	os.Exit(0)
}

// steps is what a stepper tells.
type steps struct {
	Calls  int
	Killed bool
	Exit   int // of the program, if it was not killed
}

// trace counts, and kills at the given count; 0: never.
func trace(leader, kill int) (told steps) {
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEFORK | unix.PTRACE_O_TRACEVFORK | unix.PTRACE_O_EXITKILL
	inside := map[int]bool{} // a system call, per thread
	all := map[int]bool{leader: true}
	for {
		var status unix.WaitStatus
		tid, err := unix.Wait4(-1, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil { // none is left
			return told
		}
		switch {
		case status.Exited() || status.Signaled():
			delete(all, tid)
			if tid == leader {
				told.Exit = status.ExitStatus()
			}
			continue
		case !status.Stopped():
			continue
		}
		signal := 0
		switch stop := status.StopSignal(); {
		case !inside[-tid]: // its first
			inside[-tid], all[tid] = true, true
			_ = unix.PtraceSetOptions(tid, options) // a child has them from its parent
			if stop != unix.SIGSTOP && stop != unix.SIGTRAP {
				signal = int(stop)
			}
		case stop == unix.SIGTRAP|0x80:
			if inside[tid] = !inside[tid]; inside[tid] && !told.Killed {
				told.Calls++
				told.Killed = told.Calls == kill
			}
			if told.Killed {
				for pid := range all {
					_ = unix.Kill(pid, unix.SIGKILL) // a thread's number kills its process
				}
				continue
			}
		case stop == unix.SIGTRAP: // an event
		default:
			signal = int(stop)
		}
		_ = unix.PtraceSyscall(tid, signal)
	}
}

// stepped runs the plugin under the stepper.
func (w *world) stepped(command string, s *sandbox, conf map[string]any, at int) steps {
	w.t.Helper()
	cmd := exec.Command("/proc/self/exe", plugin)
	cmd.Stdin = strings.NewReader(w.input(conf))
	cmd.Env = append(w.environment(command, s.id, netns.Path(s.ns)), fmt.Sprint(stepEnv, "=", at))
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	w.must(w.onHost(cmd.Run))
	var told steps
	if err := json.Unmarshal([]byte(out.String()), &told); err != nil {
		w.t.Fatalf("stepper: %v: %s", err, out.String())
	}
	return told
}

// input is what a runtime writes to the plugin.
func (w *world) input(conf map[string]any) string {
	w.t.Helper()
	all := map[string]any{"cniVersion": "1.1.0", "name": "brig", "type": "brig-cni", "config": w.path}
	for k, v := range conf {
		all[k] = v
	}
	data, err := json.Marshal(all)
	w.must(err)
	return string(data)
}

func (w *world) environment(command, id, ns string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "CNI_COMMAND=" + command, "CNI_CONTAINERID=" + id, "CNI_NETNS=" + ns, "CNI_IFNAME=eth0", "CNI_PATH=/"}
}

// points at which to kill something of that many system calls.
func points(t *testing.T, calls int) (all []int) {
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	first, by := 1, 1
	if !*killAll {
		first, by = 1+rand.New(rand.NewPCG(seed, 0)).IntN(sample), sample
	}
	for at := first; at <= calls+by; at += by {
		all = append(all, at)
	}
	t.Logf("%d system calls; killed at %d of them (-kill-seed %d)", calls, len(all), seed)
	return all
}

// attack sends what a sandbox of that address may not, and under its sibling's name,
// from the interface that it has, if it has one that is up.
func (w *world) attack(s, sibling *sandbox, tag string) {
	w.t.Helper()
	var frames [][]byte
	for _, to := range []netip.Addr{otherAddr, sibling.addr, hostAddr} {
		frames = append(frames, s.honest(to, "leak:"+tag).encode())
	}
	forged := sibling.honest(serverAddr, "leak:"+tag+":forged").encode()
	w.must(s.do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return nil // there is none to send from
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, frame := range append(frames, forged) {
			err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: eth0.Index})
			if err != nil && !slices.Contains([]error{unix.ENETDOWN, unix.ENXIO, unix.ENODEV}, err) {
				return err
			}
		}
		return nil
	}))
}

// collect is a GC with no valid attachment but these, after which nothing is left of
// any other.
func (w *world) collect(keep ...*sandbox) {
	w.t.Helper()
	var valid []any
	for _, s := range keep {
		valid = append(valid, map[string]any{"containerID": s.id, "ifname": "eth0"})
	}
	_, err := w.cni(w.t.Context(), "GC", "", "", map[string]any{"cni.dev/valid-attachments": valid})
	w.must(err)
	bindings, links, leases := w.bindings(), w.links(), w.leases()
	for _, s := range keep {
		delete(bindings, s.link())
	}
	if len(bindings) > 0 || len(links) != len(keep) || len(leases) != 2*len(keep) {
		w.t.Errorf("GC left bindings %v, links %v, leases %v", bindings, links, leases)
	}
}

// remembered connections of the address, in the node and in the host.
func (w *world) remembered(a netip.Addr) (n int) {
	w.t.Helper()
	for _, ns := range []string{w.host, w.cfg.TransitName()} {
		w.must(netns.Do(netns.Path(ns), func() error {
			data, err := os.ReadFile("/proc/thread-self/net/nf_conntrack")
			n += strings.Count(string(data), a.String()+" ")
			return err
		}))
	}
	return n
}

// restricted is a policy of these ranges, as a runtime's configuration.
func (w *world) restricted(cidrs ...string) map[string]any {
	w.t.Helper()
	policy, err := netpolicy.Compile(netpolicy.Spec{CIDRAllowlist: &cidrs}, netpolicy.Ceiling{})
	w.must(err)
	return map[string]any{"runtimeConfig": map[string]any{"brig.network-policy": string(policy.Canonical())}}
}

// TestKilledAtEverySystemCall of an ADD, and of a DEL: at no time does a packet leave
// that the policy does not name, and GC leaves nothing.
func TestKilledAtEverySystemCall(t *testing.T) {
	w := newWorld(t, "")
	sibling := w.sandbox("sibling")
	w.must(sibling.start(nil))
	w.listen(w.internet, ":80")
	wires := map[string]*capture{
		"host": w.capture(w.host, w.cfg.HostLink()), "uplink": w.capture(w.internet, "eth0"), "sibling": w.capture(sibling.ns, "eth0"),
	}
	s := w.bare("killed")
	conf := w.restricted("203.0.113.0/25")
	w.control(s, conf, wires["uplink"])
	for _, command := range []string{"ADD", "DEL"} {
		t.Run(command, func(t *testing.T) {
			s.prepare(command, conf)
			calls := w.stepped(command, s, conf, 0)
			if calls.Exit != 0 || calls.Killed || calls.Calls < 100 {
				t.Fatalf("%+v", calls)
			}
			w.collect(sibling)
			began := time.Now()
			stages := map[string]int{}
			for _, at := range points(t, calls.Calls) {
				s.prepare(command, conf)
				told := w.stepped(command, s, conf, at)
				stages[fmt.Sprintf("killed %t: %d leases, %d links, %d bindings", told.Killed, len(w.leases())-2, len(w.links())-1, len(w.bindings())-1)]++
				tag := fmt.Sprintf("%s-%d", command, at)
				w.attack(s, sibling, tag)
				w.collect(sibling)
				w.attack(s, sibling, tag)
				if n := w.remembered(s.addr); n > 0 {
					t.Errorf("killed at %d: %d connections of %s are remembered", at, n, s.addr)
				}
			}
			time.Sleep(50 * time.Millisecond) // for frames under way
			for place, wire := range wires {
				if leaked := wire.find("leak:"); leaked != "" {
					t.Errorf("%s reached the %s", leaked, place)
				}
			}
			t.Logf("in %v: %v", time.Since(began).Round(time.Second), stages)
		})
	}
}

// prepare what the command is to be killed in: nothing for an ADD, a sandbox that has
// talked for a DEL. Every ADD of the test is to get the same address.
func (s *sandbox) prepare(command string, conf map[string]any) {
	s.w.t.Helper()
	if err := os.WriteFile(s.w.cfg.NetworkDir()+"/leases/cursor", []byte(s.addr.Prev().String()), 0o600); err != nil {
		s.w.t.Fatal(err)
	}
	if command == "DEL" {
		_, err := s.w.cni(s.w.t.Context(), "ADD", s.id, netns.Path(s.ns), conf)
		s.w.must(err)
		got := ""
		for range 8 { // a machine that is busy is no failure
			if got = try(s.ns, serverAddr, 80); got == "open" {
				return
			}
		}
		s.w.t.Fatalf("the sandbox that is to be deleted cannot talk: %s", got)
	}
}

// control sends, from a sandbox whose policy names the place, what must arrive there,
// and learns its address.
func (w *world) control(s *sandbox, conf map[string]any, uplink *capture) {
	w.t.Helper()
	w.attach(s, conf)
	w.inject(s.ns, "eth0", s.honest(serverAddr, "control").encode())
	if !uplink.await("control") {
		w.t.Fatal("the control's packet did not arrive, so nothing is proven")
	}
	_, err := w.cni(w.t.Context(), "DEL", s.id, "", nil)
	w.must(err)
}

// find returns the first mark that passed, with what follows it.
func (c *capture) find(mark string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.frames {
		if _, after, ok := strings.Cut(string(f), mark); ok {
			return mark + strings.TrimRight(after, "\x00")
		}
	}
	return ""
}
