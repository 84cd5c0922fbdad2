package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"

	"brig/tests/node"
)

// collector is what receives OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu    sync.Mutex // guards what follows
	spans map[string][]*tracepb.Span
	raw   bytes.Buffer
}

func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{spans: map[string][]*tracepb.Span{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		var m coltracepb.ExportTraceServiceRequest
		if err == nil {
			err = proto.Unmarshal(data, &m)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.raw.Write(data)
		for _, resource := range m.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				for _, span := range scope.GetSpans() {
					trace := fmt.Sprintf("%x", span.GetTraceId())
					c.spans[trace] = append(c.spans[trace], span)
				}
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// tree is the names of a trace's spans in their order, each below its parent.
func (c *collector) tree(trace string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	spans := slices.Clone(c.spans[trace])
	slices.SortFunc(spans, func(a, b *tracepb.Span) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
	var text strings.Builder
	var walk func(parent []byte, depth int)
	walk = func(parent []byte, depth int) {
		for _, s := range spans {
			if bytes.Equal(s.GetParentSpanId(), parent) {
				fmt.Fprintf(&text, "%s%s\n", strings.Repeat("  ", depth), s.GetName())
				walk(s.GetSpanId(), depth+1)
			}
		}
	}
	walk(nil, 0)
	walk([]byte{1, 2, 3, 4, 5, 6, 7, 8}, 0) // the client's
	return text.String()
}

// TestAccess is a node that is called from afar, traced, measured and crowded.
func TestAccess(t *testing.T) {
	traces := collect(t)
	dir := t.TempDir()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listen := free.Addr().String()
	free.Close()
	certificates(t, dir)
	n := launch(t, node.Options{Overrides: fmt.Sprintf(`
[tracing]
endpoint = %q
[quotas]
connections = 300
[remote]
listen = %q
certificate = %q
key = %q
client_ca = %q
[remote.principals]
alice = 4001
`, traces.URL, listen, filepath.Join(dir, "node.pem"), filepath.Join(dir, "node.key"), filepath.Join(dir, "ca.pem"))})
	t.Run("traces", func(t *testing.T) { testTraces(t, n, traces) })
	t.Run("remote", func(t *testing.T) { testRemote(t, n, dir, listen) })
	t.Run("usage", func(t *testing.T) { testUsage(t, n) })
	t.Run("crowd", func(t *testing.T) { testCrowd(t, n) })
	t.Run("large body", func(t *testing.T) { testLargeBody(t, n) })
	t.Run("health", func(t *testing.T) { testHealth(t, n) })
	t.Run("figures", func(t *testing.T) { testFigures(t, n) })
	t.Run("execs counted", func(t *testing.T) { testExecFigures(t, n) })
}

// testTraces: a create down to runsc, below the client's own span; nothing that a request
// says is in it.
func testTraces(t *testing.T, n *fixture, c *collector) {
	const trace = "0102030405060708090a0b0c0d0e0f10"
	n.Brig(t, "image", "pull", n.busybox)
	answer := call(t, n, "Sandboxes/Create", fmt.Sprintf(`{"image":%q,"argv":["sh","-c","sleep 1000","the-argv"],"env":{"A":"the-env"},"ports":[{"sandboxPort":80}]}`, n.busybox),
		"traceparent", "00-"+trace+"-0102030405060708-01", "baggage", "k=the-baggage", "tracestate", "v=the-state")
	var made struct{ Sandbox struct{ ID string } }
	if err := json.Unmarshal([]byte(answer), &made); err != nil || made.Sandbox.ID == "" {
		t.Fatalf("create: %s", answer)
	}
	t.Cleanup(func() { n.Try(t, "rm", "--force", made.Sandbox.ID) })
	call(t, n, "Exec/Run", fmt.Sprintf(`{"exec":{"sandbox":%q,"argv":["true","the-argv"]}}`, made.Sandbox.ID), "traceparent", "00-"+trace+"-0102030405060708-01")
	want := `brig.v1.Sandboxes/Create
  record
  image
  network
  container
    client.LoadContainer
    container.NewTask
    shim: mount
    shim: runsc create
  start
    shim: gate
    shim: runsc start
  tunnels
brig.v1.Exec/Run
  start
`
	eventually(t, 10*time.Second, func() error {
		got := c.tree(trace)
		if sorted(got) != sorted(want) {
			return fmt.Errorf("the trace is\n%s\nwant\n%s", got, want)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if said := regexp.MustCompile(`the-[a-z]+`).FindString(c.raw.String()); said != "" {
		t.Errorf("a trace holds %q", said)
	}
	cfg, err := n.Config()
	if err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(cfg.PhasesFile(cfg.Containerd.Namespace, "x"))); err != nil || len(left) > 0 {
		t.Errorf("what the shim told is left: %v, %v", left, err)
	}
}

// sorted is text by lines: spans of one shim begin within a microsecond.
func sorted(text string) string {
	return strings.Join(slices.Sorted(strings.Lines(text)), "")
}

// call is curl with headers.
func call(t *testing.T, n *fixture, method, body string, headers ...string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://brig/brig.v1."+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	transport := node.Transport(n.Socket(), false)
	defer transport.CloseIdleConnections()
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// certificates makes an authority, the node's certificate, alice's and mallory's.
func certificates(t *testing.T, dir string) {
	t.Helper()
	var authority *x509.Certificate
	var signer *ecdsa.PrivateKey
	for serial, name := range []string{"ca", "node", "alice", "mallory", "expired"} {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(serial + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		}
		if name == "expired" {
			c.Subject.CommonName, c.NotAfter = "alice", time.Now().Add(-time.Minute)
		}
		if authority == nil {
			c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
			authority, signer = c, key
		}
		der, err := x509.CreateCertificate(rand.Reader, c, authority, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		for file, block := range map[string]*pem.Block{
			name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private},
		} {
			if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// testRemote is the command line from afar.
func testRemote(t *testing.T, n *fixture, dir, listen string) {
	as := func(name string, args ...string) node.Result {
		t.Helper()
		file := func(end string) string { return filepath.Join(dir, name+end) }
		cmd := n.BrigCommand(t.Context(), args...)
		cmd.Env = append(os.Environ(), "BRIG_ADDRESS=https://"+listen, "BRIG_CERT="+file(".pem"), "BRIG_KEY="+file(".key"), "BRIG_CA="+filepath.Join(dir, "ca.pem"))
		return node.Run(t, cmd)
	}
	made := as("alice", "create", n.busybox, "--", "sleep", "1000")
	if made.Code != 0 {
		t.Fatal(made)
	}
	id := strings.TrimSpace(made.Stdout)
	t.Cleanup(func() { n.Try(t, "rm", "--force", id) })
	if r := as("alice", "exec", id, "--", "echo", "hello"); r.Stdout != "hello\n" {
		t.Error(r)
	}
	var seen struct {
		Owner int `json:"owner_uid"`
	}
	if err := json.Unmarshal([]byte(n.Brig(t, "inspect", id)), &seen); err != nil || seen.Owner != 4001 {
		t.Errorf("its owner is %d, %v; want alice's uid", seen.Owner, err)
	}
	for _, tc := range []struct {
		who, want string
		args      []string
	}{
		{"mallory", "none of remote.principals", []string{"ls"}},
		{"expired", "", []string{"ls"}},
		{"alice", "root", []string{"image", "rm", n.busybox}},
	} {
		if r := as(tc.who, tc.args...); r.Code == 0 || r.Stdout != "" || !strings.Contains(r.Stderr, tc.want) {
			t.Errorf("as %s, want a refusal with %q: %s", tc.who, tc.want, r)
		}
	}
	for _, want := range []string{`procedure=/brig.v1.Exec/Stream uid=4001 pid=0 principal=alice sandbox=` + id + ` code=ok`, `principal=mallory code=permission_denied`} {
		eventually(t, 20*time.Second, func() error { // a stream's line comes when it was taken down
			if !strings.Contains(n.Log(1000), want) {
				return fmt.Errorf("the audit lacks %q", want)
			}
			return nil
		})
	}
}

// testUsage: what a busy sandbox has used is told while it runs, over a kill of brigd, and
// after its end.
func testUsage(t *testing.T, n *fixture) {
	id := n.Create(t, "--memory", "256", n.busybox, "--", "sh", "-c", "while :; do :; done")
	stats := func() (s struct {
		Memory    uint64 `json:"memory_bytes"`
		Limit     uint64 `json:"memory_limit_bytes"`
		Processes uint64
		Disk      *uint64 `json:"disk_bytes"`
		Usage     struct {
			CPU    uint64  `json:"cpu_nanoseconds"`
			Memory float64 `json:"memory_mib_seconds"`
		}
	}) {
		t.Helper()
		list := []any{&s}
		if err := json.Unmarshal([]byte(n.Brig(t, "stats", "--json", id)), &list); err != nil || len(list) != 1 {
			t.Fatalf("stats: %v", err)
		}
		return s
	}
	first := stats()
	eventually(t, 10*time.Second, func() error {
		if now := stats(); now.Usage.CPU < first.Usage.CPU+1e8 || now.Usage.Memory <= first.Usage.Memory {
			return fmt.Errorf("%+v after %+v", now, first)
		}
		return nil
	})
	if first.Processes != 1 || first.Disk == nil || first.Memory < 1<<20 || first.Limit != 256<<20 {
		t.Errorf("stats are %+v", first)
	}
	before := stats()
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	if after := stats(); after.Usage.CPU < before.Usage.CPU {
		t.Errorf("after a kill of brigd %+v, before %+v", after, before)
	}
	last := stats()
	call(t, n, "Sandboxes/Terminate", fmt.Sprintf(`{"sandbox":%q}`, id))
	var got struct {
		Sandbox struct {
			Usage struct{ CPUNanoseconds string }
		}
	}
	answer := call(t, n, "Sandboxes/Get", fmt.Sprintf(`{"sandbox":%q}`, id))
	if err := json.Unmarshal([]byte(answer), &got); err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	if cpu, err := strconv.ParseUint(got.Sandbox.Usage.CPUNanoseconds, 10, 64); err != nil || cpu < last.Usage.CPU {
		t.Errorf("the ended sandbox has used %q, %v; the running one %d", got.Sandbox.Usage.CPUNanoseconds, err, last.Usage.CPU)
	}
}

// dialAs connects as another uid, which the kernel notes when the connection is made.
func dialAs(t *testing.T, uid int, path string) net.Conn {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	become := func(uid int) {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			panic(errno) // this thread must not go on as another user
		}
	}
	become(uid)
	conn, err := net.Dial("unix", path)
	become(0)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func resident(t *testing.T, n *fixture) uint64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", n.PID()))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseUint(strings.Fields(string(text))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * uint64(os.Getpagesize())
}

// testCrowd: 10,000 connections of several uids, each with half a request or none: who has
// none is served, and brigd's memory is bounded.
func testCrowd(t *testing.T, n *fixture) {
	before := resident(t, n)
	var crowd []net.Conn
	defer func() {
		for _, conn := range crowd {
			conn.Close()
		}
	}()
	for i := range 10000 {
		conn := dialAs(t, 5000+i/1000, n.Socket())
		crowd = append(crowd, conn)
		if i%2 == 0 {
			_, _ = io.WriteString(conn, "POST /brig.v1.Sandboxes/Create HTTP/1.1\r\nHost: x\r\nContent-Le") // refused ones are closed
		}
	}
	for _, uid := range []int{0, 6000} {
		conn := dialAs(t, uid, n.Socket())
		fmt.Fprint(conn, "POST /brig.v1.Sandboxes/List HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if answer, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 OK") {
			t.Errorf("uid %d beside the crowd: %v, %q", uid, err, answer)
		}
		conn.Close()
	}
	if r := n.as(t, 5000, "ls"); r.Code == 0 {
		t.Errorf("one of the crowd has one more: %s", r)
	}
	if after := resident(t, n); after > before+200<<20 {
		t.Errorf("brigd has %d MiB, and had %d", after>>20, before>>20)
	}
}

// testLargeBody: a gigabyte is not taken in.
func testLargeBody(t *testing.T, n *fixture) {
	before := resident(t, n)
	conn := dialAs(t, 5000, n.Socket())
	defer conn.Close()
	const size = 1 << 30
	fmt.Fprintf(conn, "POST /brig.v1.Sandboxes/Create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", size)
	go func() { _, _ = io.Copy(conn, io.LimitReader(blanks{}, size)) }() // ends when nobody reads any more
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	answer := make([]byte, 4096)
	got, err := conn.Read(answer)
	if !strings.Contains(string(answer[:got]), "resource_exhausted") {
		t.Errorf("%q, %v; want resource_exhausted", answer[:got], err)
	}
	if after := resident(t, n); after > before+100<<20 {
		t.Errorf("brigd has %d MiB, and had %d", after>>20, before>>20)
	}
}

type blanks struct{}

func (blanks) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// testHealth is what a gRPC load balancer asks.
func testHealth(t *testing.T, n *fixture) {
	conn, err := grpc.NewClient("unix:"+n.Socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v; want SERVING", r.GetStatus(), err)
	}
}

// testFigures: every figure that a dashboard or an alert names is in a real node's scrape.
func testFigures(t *testing.T, n *fixture) {
	n.Brig(t, "run", n.busybox, "--", "true") // the brigd of before was killed
	figures := scrape(t, n)
	root := filepath.Dir(n.Bin)
	found := 0
	for _, file := range []string{"deploy/grafana/brig.json", "deploy/prometheus/brig.rules.yml", "docs/observability.md"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bbrig_[a-z_]+\b`).FindAllString(string(text), -1) {
			found++
			histogram := strings.Contains(figures, "\n"+name+"_bucket{")
			if !histogram && !strings.Contains(figures, "\n"+name+" ") && !strings.Contains(figures, "\n"+name+"{") {
				t.Errorf("%s names %s, which a node does not have", file, name)
			}
		}
	}
	if found < 30 {
		t.Errorf("found only %d names of figures", found)
	}
	for _, want := range []string{
		`brig_creates_total{result="ok"} `, `brig_create_phase_seconds_count{phase="start"} `, `brig_api_calls_total{code="ok",procedure="/brig.v1.Sandboxes/Create"} `,
		`brig_sandboxes{state="running"} `, `brig_sandbox_ends_total{reason="terminated"} 1`, `brig_store_seconds_count{kind="write"} `,
	} {
		if !strings.Contains(figures, "\n"+want) {
			t.Errorf("the scrape lacks %q", want)
		}
	}
}

// scrape is what Prometheus gets, after a line break.
func scrape(t *testing.T, n *fixture) string {
	t.Helper()
	transport := node.Transport(n.Socket(), false)
	defer transport.CloseIdleConnections()
	r, err := (&http.Client{Transport: transport}).Get("http://brig/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return "\n" + string(text)
}
