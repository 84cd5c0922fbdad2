package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"brig/internal/config"
	"brig/internal/sandbox"

	bootapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	sandboxapi "github.com/containerd/containerd/api/runtime/sandbox/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/ttrpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// rawShim is a shim that a test has started, and speaks to, itself.
type rawShim struct {
	taskapi.TTRPCTaskService
	pods      sandboxapi.TTRPCSandboxService
	n         *node
	namespace string
	id        string
	bundle    string
	log       *os.File // the end that containerd reads
	client    *ttrpc.Client
	pid       int
}

// rawShim starts one as containerd does.
func (n *node) rawShim(t *testing.T) *rawShim {
	t.Helper()
	s := n.unstarted(t, n.namespace(), string(sandbox.NewID()))
	s.keepLog(t)
	path, err := s.start()
	if err != nil {
		t.Fatalf("start a shim: %v", err)
	}
	s.connect(t, path)
	return s
}

// unstarted has a bundle and a reader of its log.
func (n *node) unstarted(t *testing.T, namespace, id string) *rawShim {
	t.Helper()
	s := &rawShim{n: n, namespace: namespace, id: id, bundle: filepath.Join(n.dir, "raw", id)}
	n.ids.Store(s.id, namespace)
	if err := os.MkdirAll(s.bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(s.bundle, "log") // the name that shims open
	if err := unix.Mkfifo(log, 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.log, err = os.OpenFile(log, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.log.Close() })
	return s
}

// verb is the shim's start.
func (s *rawShim) verb() *exec.Cmd {
	address := filepath.Join(s.n.dir, "containerd.sock")
	cmd := exec.Command(filepath.Join(s.n.bin, "containerd-shim-brig-v1"), "-namespace", s.namespace, "-id", s.id, "-address", address, "start")
	cmd.Dir = s.bundle
	cmd.Env = append(os.Environ(), config.EnvPath+"="+s.n.configPath(), "TTRPC_ADDRESS="+address+".ttrpc")
	return cmd
}

// start returns the socket that the shim serves.
func (s *rawShim) start() (path string, err error) {
	sockets := filepath.Join(s.n.dir, "s")
	address := filepath.Join(s.n.dir, "containerd.sock")
	params, err := proto.Marshal(&bootapi.BootstrapParams{
		InstanceID: s.id, Namespace: s.namespace, ContainerdGrpcAddress: address, ContainerdTtrpcAddress: address + ".ttrpc", SocketDir: &sockets,
	})
	if err != nil {
		return "", err
	}
	cmd := s.verb()
	cmd.Stdin = bytes.NewReader(params)
	out, err := cmd.Output()
	if err != nil {
		return "", err
	}
	var result bootapi.BootstrapResult
	err = proto.Unmarshal(out, &result)
	return strings.TrimPrefix(result.Address, "unix://"), err
}

// keepLog reads the shim's log, in which no panic may be.
func (s *rawShim) keepLog(t *testing.T) {
	dir := s.bundle
	var text bytes.Buffer
	read := make(chan struct{})
	go func() { defer close(read); _, _ = text.ReadFrom(s.log) }()
	t.Cleanup(func() {
		s.log.Close()
		<-read
		os.RemoveAll(dir)
		if strings.Contains(text.String(), "panic:") || strings.Contains(text.String(), "goroutine ") {
			t.Errorf("the shim said:\n%s", text.String())
		}
	})
}

// dial speaks to the shim.
func (s *rawShim) dial(t *testing.T, path string) {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s.client = ttrpc.NewClient(conn)
	t.Cleanup(func() { s.client.Close() })
	s.TTRPCTaskService, s.pods = taskapi.NewTTRPCTaskClient(s.client), sandboxapi.NewTTRPCSandboxClient(s.client)
	c, err := s.Connect(s.call(t), &taskapi.ConnectRequest{ID: s.id})
	if err != nil {
		t.Fatal(err)
	}
	s.pid = int(c.ShimPid)
}

// connect speaks to the shim, which is shut down in order when t ends.
func (s *rawShim) connect(t *testing.T, path string) {
	t.Helper()
	s.dial(t, path)
	t.Cleanup(func() {
		if err := syscall.Kill(s.pid, 0); err != nil {
			t.Errorf("the shim has died: %v", err)
		}
		if _, err := s.Shutdown(s.call(t), &taskapi.ShutdownRequest{ID: s.id, Now: true}); err != nil && !strings.Contains(err.Error(), "closed") {
			t.Errorf("shutdown: %v", err)
		}
		eventually(t, settleTime, func() error {
			if s.n.processes(s.id); syscall.Kill(s.pid, 0) == nil && !isZombie(s.pid) {
				return fmt.Errorf("the shim is there after its shutdown")
			}
			return nil
		})
		wantNothingLeft(t, s.n, s.id)
	})
}

func isZombie(pid int) bool {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return strings.Contains(string(data), ") Z ")
}

func (s *rawShim) call(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), s.namespace), patience)
	t.Cleanup(cancel)
	return ctx
}

// furnish makes a bundle for argv.
func (s *rawShim) furnish(t *testing.T, argv ...string) {
	t.Helper()
	root := filepath.Join(s.bundle, "rootfs")
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(root+"/bin", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"busybox", "sh", "sleep", "true"} {
		if err := os.WriteFile(filepath.Join(root, "bin", name), busybox, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	ctx := namespaces.WithNamespace(t.Context(), s.namespace)
	spec, err := oci.GenerateSpec(ctx, nil, &containers.Container{ID: s.id}, oci.WithProcessArgs(argv...), oci.WithAnnotations(blocked),
		oci.WithCgroup("/"+s.n.namespace()+"/"+s.id), oci.WithRootFSPath("rootfs"), oci.WithDefaultPathEnv)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.bundle, "config.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestBrokenBundle: a create from what is no bundle is refused in words, in time, and
// leaves nothing; with the bundle repaired it succeeds.
func TestBrokenBundle(t *testing.T) {
	n := use(t)
	s := n.rawShim(t)
	s.furnish(t, "true")
	path := filepath.Join(s.bundle, "config.json")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) func() error { return func() error { return os.WriteFile(path, []byte(text), 0o600) } }
	for name, spoil := range map[string]func() error{
		"missing":       func() error { return nil },
		"empty":         write(""),
		"cut":           write(string(good[:len(good)/2])),
		"twice":         write(string(good) + string(good)),
		"null":          write("null"),
		"a list":        write("[]"),
		"no JSON":       write("\x00\xff"),
		"unknown field": write(`{"ociVersion": "1.0.2", "frobnicate": 1}`),
		"empty object":  write("{}"),
		"deep":          write(strings.Repeat(`{"process":`, 100_000)),
		"huge":          write(`{"ociVersion": "` + strings.Repeat("1", 20<<20) + `"}`),
		"link":          func() error { return os.Symlink("/etc/passwd", path) },
		"FIFO":          func() error { return unix.Mkfifo(path, 0o600) },
		"folder":        func() error { return os.Mkdir(path, 0o700) },
		"device":        func() error { return unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) },
	} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		_, err := s.Create(s.call(t), &taskapi.CreateTaskRequest{ID: s.id, Bundle: s.bundle})
		if err == nil || len(err.Error()) > 1000 || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(began))
		}
		if _, err := os.Stat(s.bundle + "/brig"); err == nil {
			t.Errorf("%s: the refused create left its folder", name)
		}
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	s.live(t, 0, func() {})
}

// live runs the bundle's program to its end, and calls running once it does.
func (s *rawShim) live(t *testing.T, want uint32, running func()) {
	t.Helper()
	if _, err := s.Create(s.call(t), &taskapi.CreateTaskRequest{ID: s.id, Bundle: s.bundle}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(s.call(t), &taskapi.StartRequest{ID: s.id}); err != nil {
		t.Error(err)
	}
	running()
	if w, err := s.Wait(s.call(t), &taskapi.WaitRequest{ID: s.id}); err != nil || w.ExitStatus != want {
		t.Errorf("wait: %v, %v", w, err)
	}
	if d, err := s.Delete(s.call(t), &taskapi.DeleteRequest{ID: s.id}); err != nil || d.ExitStatus != want {
		t.Errorf("delete: %v, %v", d, err)
	}
}

// hostile ids: containerd lets none of them through.
var hostile = []string{
	"", ".", "..", "../x", "/", "a/b", "../../../../../../etc", "a\x00b", "a\nb", "-rf", "--root=/", "+", "a+",
	strings.Repeat("a", 77), strings.Repeat("a", 1<<20), "ä", " ", "*",
}

// TestHostileIDs: nothing is made, opened or removed by them.
func TestHostileIDs(t *testing.T) {
	n := use(t)
	s := n.rawShim(t)
	s.furnish(t, "true")
	neighbour := n.started(t, []string{"sleep", "1000"}) // whose state a bad path could reach
	for _, id := range hostile {
		show := fmt.Sprintf("%.20q", id)
		if _, err := s.Create(s.call(t), &taskapi.CreateTaskRequest{ID: id, Bundle: s.bundle}); err == nil {
			t.Errorf("create %s was taken", show)
			_, _ = s.Delete(s.call(t), &taskapi.DeleteRequest{ID: id})
		}
		if _, err := s.pods.CreateSandbox(s.call(t), &sandboxapi.CreateSandboxRequest{SandboxID: id, BundlePath: s.bundle, Annotations: blocked}); err == nil {
			t.Errorf("create pod %s was taken", show)
			_, _ = s.pods.ShutdownSandbox(s.call(t), &sandboxapi.ShutdownSandboxRequest{SandboxID: id})
		}
	}
	for _, bundle := range []string{"", ".", "..", "relative", s.bundle + "/../" + filepath.Base(s.bundle), s.bundle + "\x00", "/nonexistent", "/"} {
		if _, err := s.Create(s.call(t), &taskapi.CreateTaskRequest{ID: s.id, Bundle: bundle}); err == nil {
			t.Errorf("create in bundle %q was taken", bundle)
			_, _ = s.Delete(s.call(t), &taskapi.DeleteRequest{ID: s.id})
		}
	}
	if code, err := neighbour.exec(n.call(t), "true"); err != nil || code != 0 {
		t.Errorf("the neighbour: %d, %v", code, err)
	}
	s.live(t, 0, func() {})
}

// TestHostileCalls asks a shim with a task, and one with none, for what makes no sense.
// Every answer is an error, in time, and the task is as it was.
func TestHostileCalls(t *testing.T) {
	n := use(t)
	s := n.rawShim(t)
	s.refusals(t, "no task")
	s.furnish(t, "sleep", "1000")
	create := &taskapi.CreateTaskRequest{ID: s.id, Bundle: s.bundle}
	for name, spoil := range map[string]func(*taskapi.CreateTaskRequest){
		"options of a type that nobody knows": func(r *taskapi.CreateTaskRequest) {
			r.Options = &anypb.Any{TypeUrl: "type.googleapis.com/x", Value: []byte{1}}
		},
		"options that are no message": func(r *taskapi.CreateTaskRequest) {
			r.Options = &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: []byte{255, 255, 255}}
		},
		"a parent":            func(r *taskapi.CreateTaskRequest) { r.ParentCheckpoint = "/x" },
		"no such checkpoint":  func(r *taskapi.CreateTaskRequest) { r.Checkpoint = "/nonexistent" },
		"a terminal":          func(r *taskapi.CreateTaskRequest) { r.Terminal = true },
		"stdout is no FIFO":   func(r *taskapi.CreateTaskRequest) { r.Stdout = "/etc/passwd" },
		"stdin is no FIFO":    func(r *taskapi.CreateTaskRequest) { r.Stdin = "/etc/passwd" },
		"stdout is nowhere":   func(r *taskapi.CreateTaskRequest) { r.Stdout = "/nonexistent/x" },
		"stdout has a NUL":    func(r *taskapi.CreateTaskRequest) { r.Stdout = "/tmp/\x00" },
		"an unknown scheme":   func(r *taskapi.CreateTaskRequest) { r.Stdout = "gopher://x" },
		"a logger is missing": func(r *taskapi.CreateTaskRequest) { r.Stdout = "binary:///nonexistent" },
		"a mount of no type":  func(r *taskapi.CreateTaskRequest) { r.Rootfs = []*types.Mount{{Type: "nofs", Source: "x"}} },
		"a mount of nothing": func(r *taskapi.CreateTaskRequest) {
			r.Rootfs = []*types.Mount{{Type: "bind", Source: "/nonexistent", Options: []string{"bind"}}}
		},
		"a mount outside": func(r *taskapi.CreateTaskRequest) {
			r.Rootfs = []*types.Mount{{Type: "tmpfs", Source: "x", Target: "../../x"}}
		},
	} {
		r := proto.Clone(create).(*taskapi.CreateTaskRequest)
		spoil(r)
		began := time.Now()
		if _, err := s.Create(s.call(t), r); err == nil || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(began))
		}
	}
	if _, err := s.Create(s.call(t), create); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(s.call(t), create); err == nil {
		t.Error("a second create was taken")
	}
	s.refusals(t, "created")
	if _, err := s.Start(s.call(t), &taskapi.StartRequest{ID: s.id}); err != nil {
		t.Fatal(err)
	}
	s.refusals(t, "running")
	s.execs(t)
	if _, err := s.Kill(s.call(t), &taskapi.KillRequest{ID: s.id, Signal: 0}); err != nil {
		t.Errorf("signal 0, which only asks: %v", err)
	}
	if st, err := s.State(s.call(t), &taskapi.StateRequest{ID: s.id}); err != nil || st.Status.String() != "RUNNING" {
		t.Errorf("after all that the task is %v, %v", st, err)
	}
	if _, err := s.Shutdown(s.call(t), &taskapi.ShutdownRequest{ID: s.id, Now: true}); err != nil {
		t.Error(err)
	}
	time.Sleep(200 * time.Millisecond)
	if _, err := s.Kill(s.call(t), &taskapi.KillRequest{ID: s.id, Signal: 9}); err != nil {
		t.Errorf("kill after a shutdown that a task forbids: %v", err)
	}
	if w, err := s.Wait(s.call(t), &taskapi.WaitRequest{ID: s.id}); err != nil || w.ExitStatus != 137 {
		t.Errorf("wait: %v, %v", w, err)
	}
	s.refusals(t, "stopped")
	if _, err := s.Delete(s.call(t), &taskapi.DeleteRequest{ID: s.id}); err != nil {
		t.Error(err)
	}
	s.refusals(t, "deleted")
}

// refusals are calls that fail whatever state the task is in.
func (s *rawShim) refusals(t *testing.T, state string) {
	t.Helper()
	for _, sig := range []uint32{65, 128, 1 << 31, 1<<32 - 1} {
		if _, err := s.Kill(s.call(t), &taskapi.KillRequest{ID: s.id, Signal: sig}); err == nil {
			t.Errorf("%s: signal %d was taken", state, sig)
		}
	}
	for _, id := range append(hostile, "unknown", s.id+"x") {
		for _, execID := range []string{"", id} {
			task := id
			if execID != "" {
				task = s.id
			}
			for what, err := range s.everything(t, task, execID) {
				if err == nil {
					t.Errorf("%s: %s of task %.20q, exec %.20q was taken", state, what, task, execID)
				}
			}
		}
		if len(id) > 100 {
			break // once is enough
		}
	}
}

// everything that can be asked about one process.
func (s *rawShim) everything(t *testing.T, id, execID string) map[string]error {
	answers := map[string]error{}
	ask := func(what string, call func(context.Context) error) {
		ctx, cancel := context.WithTimeout(s.call(t), 3*time.Second)
		defer cancel()
		if answers[what] = call(ctx); ctx.Err() != nil {
			t.Errorf("%s hangs", what)
		}
	}
	ask("state", func(ctx context.Context) (err error) {
		_, err = s.State(ctx, &taskapi.StateRequest{ID: id, ExecID: execID})
		return
	})
	ask("wait", func(ctx context.Context) (err error) {
		_, err = s.Wait(ctx, &taskapi.WaitRequest{ID: id, ExecID: execID})
		return
	})
	ask("kill", func(ctx context.Context) (err error) {
		_, err = s.Kill(ctx, &taskapi.KillRequest{ID: id, ExecID: execID, Signal: 9})
		return
	})
	ask("start", func(ctx context.Context) (err error) {
		_, err = s.Start(ctx, &taskapi.StartRequest{ID: id, ExecID: execID})
		return
	})
	ask("delete", func(ctx context.Context) (err error) {
		_, err = s.Delete(ctx, &taskapi.DeleteRequest{ID: id, ExecID: execID})
		return
	})
	ask("close", func(ctx context.Context) (err error) {
		_, err = s.CloseIO(ctx, &taskapi.CloseIORequest{ID: id, ExecID: execID, Stdin: true})
		return
	})
	ask("resize", func(ctx context.Context) (err error) {
		_, err = s.ResizePty(ctx, &taskapi.ResizePtyRequest{ID: id, ExecID: execID})
		return
	})
	if execID == "" {
		ask("pids", func(ctx context.Context) (err error) { _, err = s.Pids(ctx, &taskapi.PidsRequest{ID: id}); return })
		ask("pause", func(ctx context.Context) (err error) { _, err = s.Pause(ctx, &taskapi.PauseRequest{ID: id}); return })
		ask("resume", func(ctx context.Context) (err error) { _, err = s.Resume(ctx, &taskapi.ResumeRequest{ID: id}); return })
		ask("stats", func(ctx context.Context) (err error) { _, err = s.Stats(ctx, &taskapi.StatsRequest{ID: id}); return })
		ask("checkpoint", func(ctx context.Context) (err error) {
			_, err = s.Checkpoint(ctx, &taskapi.CheckpointTaskRequest{ID: id, Path: s.bundle + "/image"})
			return
		})
	}
	return answers
}

// execs of a running task that make no sense.
func (s *rawShim) execs(t *testing.T) {
	t.Helper()
	process := func(text string) *anypb.Any {
		return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Process", Value: []byte(text)}
	}
	good := process(`{"args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "user": {}}`)
	add := func(id string, spec *anypb.Any) error {
		_, err := s.Exec(s.call(t), &taskapi.ExecProcessRequest{ID: s.id, ExecID: id, Spec: spec})
		return err
	}
	for _, id := range hostile {
		if err := add(id, good); err == nil {
			t.Errorf("exec id %.20q was taken", id)
		}
	}
	for name, spec := range map[string]*anypb.Any{
		"nothing": nil, "empty": process(""), "null": process("null"), "no JSON": process("{"), "a list": process("[]"), "no arguments": process(`{"cwd": "/"}`),
		"no folder": process(`{"args": ["true"]}`), "a relative folder": process(`{"args": ["true"], "cwd": "tmp"}`),
		"capability": process(`{"args": ["true"], "cwd": "/", "capabilities": {"bounding": ["CAP_EVERYTHING"]}}`),
	} {
		if err := add("bad", spec); err == nil {
			t.Errorf("an exec of %s was taken", name)
			_, _ = s.Delete(s.call(t), &taskapi.DeleteRequest{ID: s.id, ExecID: "bad"})
		}
	}
	if err := add("e", good); err != nil {
		t.Fatal(err)
	}
	if err := add("e", good); err == nil {
		t.Error("one exec id was taken twice")
	}
	if _, err := s.ResizePty(s.call(t), &taskapi.ResizePtyRequest{ID: s.id, ExecID: "e", Width: 65535, Height: 65535}); err == nil {
		t.Error("what has no terminal was resized")
	}
	for range 2 {
		if _, err := s.CloseIO(s.call(t), &taskapi.CloseIORequest{ID: s.id, ExecID: "e", Stdin: true}); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	start := &taskapi.StartRequest{ID: s.id, ExecID: "e"}
	if _, err := s.Start(s.call(t), start); err != nil {
		t.Error(err)
	}
	if _, err := s.Start(s.call(t), start); err == nil {
		t.Error("an exec was started twice")
	}
	if w, err := s.Wait(s.call(t), &taskapi.WaitRequest{ID: s.id, ExecID: "e"}); err != nil || w.ExitStatus != 0 {
		t.Errorf("wait for exec: %v, %v", w, err)
	}
	remove := &taskapi.DeleteRequest{ID: s.id, ExecID: "e"}
	if _, err := s.Delete(s.call(t), remove); err != nil {
		t.Error(err)
	}
	if _, err := s.Delete(s.call(t), remove); err == nil {
		t.Error("an exec was deleted twice")
	}
}
