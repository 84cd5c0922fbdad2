package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	"brig/internal/config"
	"brig/internal/journal"
	"brig/nodeagent/admission"
	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
	"brig/nodeagent/ca"
	"brig/nodeagent/certificates"
	"brig/nodeagent/denials"
	"brig/nodeagent/events"
	"brig/nodeagent/metrics"
	"brig/nodeagent/quota"
	"brig/nodeagent/sandboxes"
	"brig/nodeagent/sandboxes/fake"
	"brig/nodeagent/socket"
	"brig/nodeagent/store"
	"brig/nodeagent/tunnel"
)

// served is a server on a real socket with everything but containers.
type served struct {
	server  *Server
	node    *fake.Node
	denials *denials.Watcher
	cfg     *config.Config
	h1      *http.Client
	h2      *http.Client

	metrics *metrics.Metrics
	log     *lines
	sick    atomic.Bool // containerd does not answer
}

func (s *served) ready(context.Context) error {
	if s.sick.Load() {
		return errors.New("containerd is away")
	}
	return nil
}

// lines is a log that is kept.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// of returns the lines that contain all of words.
func (l *lines) of(words ...string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

func serve(t *testing.T) *served {
	t.Helper()
	cfg := config.Defaults()
	cfg.StateDir, cfg.RunDir = t.TempDir(), t.TempDir()
	cfg.Socket = filepath.Join(cfg.StateDir, "s")
	authority, err := ca.Open(filepath.Join(cfg.StateDir, "ca"), cfg.Tunnels.Advertise)
	if err != nil {
		t.Fatal(err)
	}
	records, err := store.Open(filepath.Join(cfg.StateDir, "brig.db"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	node := fake.New("localhost/x")
	kept := &lines{}
	log := slog.New(slog.NewTextHandler(kept, nil))
	hub := events.NewHub()
	var manager *sandboxes.Manager
	figures := metrics.New(func() int { return manager.Running() })
	watcher := denials.New(denials.Config{Sink: func(d denials.Denial) { manager.Denied(d) }, Count: figures.Denied, Log: log})
	source, err := certificates.Open(ctx, &cfg, authority, log)
	if err != nil {
		t.Fatal(err)
	}
	pool := tunnel.NewPool(tunnel.Limits{Node: 100, Sandbox: 100, Tunnel: 100, Source: 100})
	manager, err = sandboxes.New(ctx, sandboxes.Parts{
		Config: &cfg, Store: records, Runtime: node, Network: node, Rules: node, Boot: "b",
		Tunnels: sandboxes.Tunnels{Pool: pool, Certificates: source},
		Events:  hub, Denials: watcher, Metrics: figures, Quota: quota.New(cfg.Quotas), GPUs: fake.GPUs{Unavailable: "the test has none"}, Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := socket.Listen(cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	s := &served{node: node, denials: watcher, cfg: &cfg, h1: client(cfg.Socket, false), h2: client(cfg.Socket, true), metrics: figures, log: kept}
	server := New(Parts{
		Config: &cfg, Manager: manager, CA: authority, Events: hub, Metrics: figures.Handler(), Called: figures.Called, Sent: figures.SandboxOutput,
		Ready: s.ready, Log: log,
	})
	door := socket.NewDoor(admission.New("connections", "quotas.connections", 1000, 2000), log)
	go func() { done <- server.Serve(ctx, socket.Admit(l, door)) }()
	s.server = server
	t.Cleanup(func() {
		s.h1.CloseIdleConnections()
		s.h2.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		manager.Close()
		records.Close()
	})
	return s
}

func client(path string, h2 bool) *http.Client {
	var p http.Protocols
	p.SetHTTP1(!h2)
	p.SetUnencryptedHTTP2(h2)
	return &http.Client{Transport: &http.Transport{
		Protocols: &p,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}}
}

// post is what curl does.
func (s *served) post(t *testing.T, method, body string) string {
	t.Helper()
	r, err := s.h1.Post("http://brig/brig.v1."+method, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestCurl(t *testing.T) {
	s := serve(t)
	var made struct {
		Sandbox struct{ ID, State string }
	}
	answer := s.post(t, "Sandboxes/Create", `{"image":"localhost/x","name":"web","tags":{"a":"1"}}`)
	if err := json.Unmarshal([]byte(answer), &made); err != nil || made.Sandbox.State != "STATE_RUNNING" {
		t.Fatalf("create: %s, %v", answer, err)
	}
	s.node.Exit(made.Sandbox.ID, 3)
	if answer := s.post(t, "Sandboxes/Wait", `{"sandbox":"`+made.Sandbox.ID+`"}`); !strings.HasPrefix(answer, `{"exit":{"code":3,"reason":"REASON_EXITED","at":"`) {
		t.Errorf("wait: %s", answer)
	}
	if answer := s.post(t, "Sandboxes/List", `{"tags":{"a":"1"},"all":true}`); !strings.Contains(answer, made.Sandbox.ID) {
		t.Errorf("list: %s", answer)
	}
	if answer := s.post(t, "Sandboxes/Remove", `{"sandbox":"`+made.Sandbox.ID+`"}`); answer != "{}" {
		t.Errorf("remove: %s", answer)
	}
}

func TestBadInput(t *testing.T) {
	s := serve(t)
	s.post(t, "Sandboxes/Create", `{"image":"localhost/x","name":"web"}`)
	for _, tc := range []struct{ method, body, code, want string }{
		{"Sandboxes/Create", `{"image":"localhost/x","network":{"cidrAllowlist":{"cidrs":["not-an-ip/8"]}}}`, "invalid_argument", "Invalid CIDR: not-an-ip/8"},
		{"Sandboxes/Create", `{"image":"localhost/x","network":{"blockNetwork":true},"ports":[{"sandboxPort":80}]}`, "invalid_argument",
			"Cannot specify open ports when block_network is enabled; use an empty cidr_allowlist"},
		{"Sandboxes/Create", `{"image":"localhost/x","network":{"blockNetwork":true,"inboundCidrAllowlist":{}}}`, "invalid_argument",
			"inbound_cidr_allowlist cannot be used when block_network is enabled"},
		{"Sandboxes/Create", `{"image":"localhost/unknown"}`, "not_found", "there is no image localhost/unknown"},
		{"Sandboxes/Create", `{"image":"localhost/x","name":"web"}`, "already_exists", "the name web belongs to running sandbox sb-"},
		{"Sandboxes/Create", `{"image":"localhost/x","ports":[{"sandboxPort":0}]}`, "invalid_argument", "invalid port 0: want 1 to 65535"},
		{"Sandboxes/Create", `{"image":"localhost/x","ports":[{"sandboxPort":70000}]}`, "invalid_argument", "invalid port 70000: want 1 to 65535"},
		{"Sandboxes/Create", `{"image":"localhost/x","ports":[{"sandboxPort":80,"kind":9}]}`, "invalid_argument",
			"invalid tunnel kind 9: want TUNNEL_KIND_TLS, TUNNEL_KIND_H2 or TUNNEL_KIND_TCP"},
		{"Sandboxes/Create", `{"image":"localhost/x","workdir":"w"}`, "invalid_argument", `invalid workdir "w": want an absolute path`},
		{"Sandboxes/Create", `{"image":"localhost/x","timeout":"0s"}`, "invalid_argument", `invalid timeout: want a positive duration, such as "30s"`},
		{"Sandboxes/Create", `{"image":"localhost/x","gpus":"1"}`, "invalid_argument", `unknown field "gpus"`},
		{"Sandboxes/Create", `{"image":"localhost/x","gpu":{}}`, "invalid_argument", "gpu asks for none: give a count or devices, or leave it out"},
		{"Sandboxes/Create", `{"image":"localhost/x","gpu":{"count":1,"devices":["0"]}}`, "invalid_argument", "gpu has a count and devices: give one of them"},
		{"Sandboxes/Create", `{"image":"localhost/x","gpu":{"devices":["all"]}}`, "invalid_argument", `GPU "all": say how many, by count`},
		{"Sandboxes/Create", `{"image":"localhost/x","gpu":{"devices":["MIG-x"]}}`, "invalid_argument", "is an instance of MIG"},
		{"Sandboxes/Create", `{"image":"localhost/x","gpu":{"count":1,"capabilities":["display"]}}`, "invalid_argument", "this node allows compute, utility"},
		{"Sandboxes/Create", `{"image":"localhost/x","gpu":{"count":1}}`, "failed_precondition", "this node has no GPUs: the test has none"},
		{"Sandboxes/Get", `{"sandbox":"sb-aaaaaaaaaaaaaaaa"}`, "not_found", `there is no sandbox "sb-aaaaaaaaaaaaaaaa": list yours to find its id`},
		{"Sandboxes/Get", `{}`, "invalid_argument", "sandbox is missing: give an id, or the name of a running one"},
		{"Sandboxes/Terminate", `{"sandbox":"web","grace":"-1s"}`, "invalid_argument", `invalid grace: want a positive duration`},
		{"Exec/Run", `{}`, "invalid_argument", "exec is missing: say what to run, and where"},
		{"Exec/Run", `{"exec":{"sandbox":"web"}}`, "invalid_argument", "argv is empty: name a program to run"},
		{"Exec/Run", `{"exec":{"sandbox":"web","argv":["ls"],"workdir":"w"}}`, "invalid_argument", `invalid workdir "w": want an absolute path`},
		{"Exec/Run", `{"exec":{"sandbox":"web","argv":["ls"]},"maxOutput":99999999}`, "invalid_argument", "invalid max_output 99999999: at most 16777216"},
		{"Exec/Run", `{"exec":{"sandbox":"nobody","argv":["ls"]}}`, "not_found", `there is no sandbox "nobody"`},
		{"Tunnels/Open", `{"sandbox":"web"}`, "invalid_argument", "port is missing: give sandbox_port and kind"},
		{"Tunnels/Close", `{"sandbox":"web","port":{"sandboxPort":80}}`, "not_found", "has no tls tunnel to port 80"},
		{"Images/Remove", `{}`, "invalid_argument", "image is missing"},
		{"Sandboxes/Create", `{"image":"localhost/x","network":{"domainAllowlist":{"domains":["example.com","*.com"]}}}`, "invalid_argument", "Invalid domain: *.com: want a name with a dot"},
		{"Sandboxes/Create", `{"image":"localhost/x","network":{"dns":"on"}}`, "invalid_argument", "dns is on; want off or resolver, or nothing"},
		{"Sandboxes/GetNetworkPolicy", `{"sandbox":"nobody"}`, "not_found", `there is no sandbox "nobody"`},
		{"Sandboxes/SetNetworkPolicy", `{"sandbox":"web"}`, "invalid_argument", "network is missing: give the whole policy, {} for an open one"},
		{"Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{"cidrAllowlist":{"cidrs":["1.1.1.1/32","not-an-ip/8"]}}}`, "invalid_argument", "Invalid CIDR: not-an-ip/8"},
		{"Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{"blockNetwork":true,"domainAllowlist":{}}}`, "invalid_argument", "domain_allowlist cannot be used when block_network is enabled"},
		{"Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{},"lease":"0s"}`, "invalid_argument", `invalid lease: want a positive duration`},
		{"Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{},"lease":"90000s"}`, "invalid_argument", `invalid lease 25h0m0s: want 1s to 24h0m0s`},
		{"Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{},"expectedGeneration":"7"}`, "aborted", `generation 1 is in force, not 7`},
		{"Sandboxes/SetNetworkPolicy", `{"sandbox":"web","network":{},"for":"1s"}`, "invalid_argument", `unknown field "for"`},
		{"Sandboxes/ExplainNetwork", `{"sandbox":"web"}`, "invalid_argument", `invalid host "": want an address or a name`},
		{"Sandboxes/ExplainNetwork", `{"sandbox":"web","host":"8.8.8.8","port":65536}`, "invalid_argument", `invalid port 65536: want 1 to 65535, or none`},
		{"Sandboxes/ExplainNetwork", `{"sandbox":"web","host":"8.8.8.8/8"}`, "invalid_argument", `invalid host "8.8.8.8/8": want an address or a name`},
		{"Sandboxes/ExplainNetwork", `{"sandbox":"web","host":"fe80::1%eth0"}`, "invalid_argument", `invalid host "fe80::1%eth0": want an address or a name`},
		{"Sandboxes/ExplainNetwork", `{"sandbox":"web","host":"8.8.8.8","protocol":"sctp"}`, "invalid_argument", `invalid protocol "sctp": want tcp, udp or icmp`},
	} {
		answer := s.post(t, tc.method, tc.body)
		var got struct{ Code, Message string }
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Errorf("%s %s: %s", tc.method, tc.body, answer)
			continue
		}
		if got.Code != tc.code || !strings.Contains(got.Message, tc.want) || strings.Contains(got.Message, "\n") {
			t.Errorf("%s %s:\n got %s: %s\nwant %s: %s", tc.method, tc.body, got.Code, got.Message, tc.code, tc.want)
		}
	}
}

func TestEveryProtocol(t *testing.T) {
	s := serve(t)
	for name, opts := range map[string][]connect.ClientOption{
		"connect": nil, "connect as JSON": {connect.WithProtoJSON()}, "gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()},
	} {
		c := brigv1connect.NewSandboxesClient(s.h2, "http://brig", opts...)
		if _, err := c.Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{Image: "localhost/x"})); err != nil {
			t.Errorf("%s: create: %v", name, err)
		}
		_, err := c.Get(t.Context(), connect.NewRequest(&brigv1.GetRequest{Sandbox: "nobody"}))
		if connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("%s: %v; want not_found", name, err)
		}
	}
}

func TestReadOutput(t *testing.T) {
	s := serve(t)
	c := brigv1connect.NewSandboxesClient(s.h2, "http://brig")
	made, err := c.Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{Image: "localhost/x"}))
	if err != nil {
		t.Fatal(err)
	}
	id := made.Msg.GetSandbox().GetId()
	w, err := journal.Create(journal.Spec{Path: filepath.Join(s.cfg.JournalDir(id), "stdout"), Max: journal.Chunk})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	stream, err := c.ReadOutput(t.Context(), connect.NewRequest(&brigv1.ReadOutputRequest{Sandbox: id, StdoutOffset: 1, Follow: true}))
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() || stream.Msg().GetOffset() != 1 || string(stream.Msg().GetData()) != "ello" || stream.Msg().GetChannel() != brigv1.Channel_CHANNEL_STDOUT {
		t.Errorf("first piece %v, %v", stream.Msg(), stream.Err())
	}
	s.node.Exit(id, 0)
	if stream.Receive() || stream.Err() != nil {
		t.Errorf("after the end: %v, %v; want the stream's end", stream.Msg(), stream.Err())
	}
}

func TestLargeMessageIsRefused(t *testing.T) {
	s := serve(t)
	answer := s.post(t, "Sandboxes/Create", `{"image":"`+string(bytes.Repeat([]byte("x"), maxMessage))+`"}`)
	if !strings.Contains(answer, "resource_exhausted") {
		t.Errorf("%.200s", answer)
	}
}

func TestSocketGoesWithTheServer(t *testing.T) {
	var path string
	t.Run("serve", func(t *testing.T) { path = serve(t).cfg.Socket })
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("%v; want no socket", err)
	}
}
