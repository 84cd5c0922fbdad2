package server

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/nodeagent/api/brig/v1/brigv1connect"
)

func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := net.Dial("unix", s.cfg.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestAudit: what changes something, and what is refused, leaves a line without a word of
// the request's but the sandbox's.
func TestAudit(t *testing.T) {
	s := serve(t)
	answer := s.post(t, "Sandboxes/Create", `{"image":"localhost/x","name":"web","argv":["the-argv"],"env":{"A":"the-env"},"secrets":{"B":"the-secret"}}`)
	_, rest, _ := strings.Cut(answer, `"id":"`)
	id, _, ok := strings.Cut(rest, `"`)
	if !ok {
		t.Fatal(answer)
	}
	for _, call := range [][2]string{
		{"Sandboxes/List", `{}`},
		{"Sandboxes/Get", `{"sandbox":"web"}`},
		{"Sandboxes/Get", `{"sandbox":"nobody"}`},
		{"Sandboxes/Get", `{"sandbox":"\u001b[2Jforged component=audit"}`},
		{"Sandboxes/Create", `{"image":"localhost/x","colour":"the-colour"}`},
		{"Exec/Run", `{"exec":{"sandbox":"web","argv":["the-argv"],"workdir":"the-dir"}}`},
		{"Tunnels/Close", `{"sandbox":"web","port":{"sandboxPort":80}}`},
		{"Sandboxes/Remove", `{"sandbox":"web","force":true}`},
	} {
		s.post(t, call[0], call[1])
	}
	var got []string
	for _, line := range s.log.of("component=audit") {
		_, what, _ := strings.Cut(line, "component=audit ")
		got = append(got, strings.ReplaceAll(what, id, "ID"))
	}
	who := fmt.Sprintf("uid=%d pid=%d", os.Getuid(), os.Getpid())
	want := []string{
		"procedure=/brig.v1.Sandboxes/Create " + who + " sandbox=ID code=ok",
		"procedure=/brig.v1.Sandboxes/Get " + who + " sandbox=nobody code=not_found",
		"procedure=/brig.v1.Sandboxes/Get " + who + " code=not_found",
		"procedure=/brig.v1.Sandboxes/Create " + who + " code=malformed",
		"procedure=/brig.v1.Exec/Run " + who + " sandbox=web code=invalid_argument",
		"procedure=/brig.v1.Tunnels/Close " + who + " sandbox=web code=not_found",
		"procedure=/brig.v1.Sandboxes/Remove " + who + " sandbox=web code=ok",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the audit differs (-want +got):\n%s", diff)
	}
	if told := append(s.log.of("the-"), s.log.of("forged")...); told != nil {
		t.Errorf("the log tells what a request said: %q", told)
	}
}

// TestEveryCallIsAuditedOrReads: the lists of those that leave no line name calls that
// there are.
func TestEveryCallIsAuditedOrReads(t *testing.T) {
	for _, list := range []map[string]bool{reading, keystrokes} {
		for procedure := range list {
			if !protocol[procedure] {
				t.Errorf("there is no %s", procedure)
			}
		}
	}
	if n := len(reading) + len(keystrokes); n >= len(protocol) || len(services) != 6 {
		t.Errorf("%d of %d calls leave no line; services %v", n, len(protocol), services)
	}
}

// TestHealthAndReflection is a gRPC client of Google's.
func TestHealthAndReflection(t *testing.T) {
	s := serve(t)
	conn, err := grpc.NewClient("unix:"+s.cfg.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check := func(service string) (string, codes.Code) {
		r, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
		return r.GetStatus().String(), status.Code(err)
	}
	for _, tc := range []struct {
		service string
		sick    bool
		want    string
		code    codes.Code
	}{
		{"", false, "SERVING", codes.OK},
		{"brig.v1.Exec", false, "SERVING", codes.OK},
		{"brig.v1.Sandboxes", true, "NOT_SERVING", codes.OK},
		{"brig.v2.Sandboxes", false, "UNKNOWN", codes.NotFound},
	} {
		s.sick.Store(tc.sick)
		if got, code := check(tc.service); got != tc.want || code != tc.code {
			t.Errorf("%q, containerd away: %v: %s, %s; want %s, %s", tc.service, tc.sick, got, code, tc.want, tc.code)
		}
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, service := range r.GetListServicesResponse().GetService() {
		names = append(names, service.GetName())
	}
	want := []string{
		"brig.v1.Exec", "brig.v1.Files", "brig.v1.Images", "brig.v1.Node", "brig.v1.Sandboxes", "brig.v1.Tunnels", "grpc.health.v1.Health",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
}

// TestGreedIsToldSo: connections beyond a uid's share get a typed error in the caller's
// own protocol, then the end; when the others go, it is served again.
func TestGreedIsToldSo(t *testing.T) {
	s := serve(t)
	var open []net.Conn
	for range 1000 { // half of what the test's server has
		open = append(open, s.dial(t))
	}
	var got struct{ grpc, connect connect.Code }
	for name, code := range map[string]*connect.Code{"grpc": &got.grpc, "connect": &got.connect} {
		hc := client(s.cfg.Socket, true)
		var opts []connect.ClientOption
		if name == "grpc" {
			opts = append(opts, connect.WithGRPC())
		}
		_, err := brigv1connect.NewSandboxesClient(hc, "http://brig", opts...).List(t.Context(), connect.NewRequest(&brigv1.ListRequest{}))
		*code = connect.CodeOf(err)
		hc.CloseIdleConnections()
	}
	if got.grpc != connect.CodeResourceExhausted || got.connect != connect.CodeResourceExhausted {
		t.Errorf("one too many, by gRPC: %v, by Connect: %v", got.grpc, got.connect)
	}
	if answer := s.post(t, "Sandboxes/List", `{}`); !strings.Contains(answer, "the node has 1000 connections left and you have 1000") {
		t.Errorf("one too many, by curl: %s", answer)
	}
	for _, conn := range open {
		conn.Close()
	}
	for until := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if answer := s.post(t, "Sandboxes/List", `{}`); answer == "{}" {
			return
		} else if time.Now().After(until) {
			t.Fatalf("after the others have gone: %s", answer)
		}
	}
}

// TestSlowBodies: a request that does not come is not waited for.
func TestSlowBodies(t *testing.T) {
	defer func(was time.Duration) { bodyTime = was }(bodyTime)
	bodyTime = 50 * time.Millisecond
	conn := serve(t).dial(t)
	fmt.Fprint(conn, "POST /brig.v1.Sandboxes/Create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if !strings.Contains(string(text), "deadline_exceeded") {
		t.Errorf("%d: %s; want deadline_exceeded", answer.StatusCode, text)
	}
}

// TestStreamsAreBounded: half-sent messages of streams count like others, and count no
// longer than until the next message.
func TestStreamsAreBounded(t *testing.T) {
	b := &budget{one: map[uint32]int64{}}
	frame := func(n int) string {
		head := binary.BigEndian.AppendUint32([]byte{0}, uint32(n))
		return string(head) + strings.Repeat("x", n)
	}
	m := &metered{ReadCloser: io.NopCloser(strings.NewReader(frame(10) + frame(0) + frame(1000) + frame(20)[:15])), budget: b}
	var peak int64
	for {
		n, err := m.Read(make([]byte, 7))
		peak = max(peak, b.all)
		if err != nil {
			break
		}
		if n == 0 {
			t.Fatal("read nothing")
		}
	}
	if peak > 1000+5+7 || b.all > 15+7 {
		t.Errorf("at most %d bytes counted, %d at the end; want one message, and its beginning", peak, b.all)
	}
	if m.release(); b.all != 0 || len(b.one) != 0 {
		t.Errorf("%d bytes counted after the end", b.all)
	}
	spent := &metered{ReadCloser: io.NopCloser(strings.NewReader(frame(maxBodiesOfOne))), budget: b}
	if _, err := io.Copy(io.Discard, spent); connect.CodeOf(err) != connect.CodeResourceExhausted {
		t.Errorf("a message beyond the budget: %v", err)
	}
}

// lateBody gives its bytes when its call has ended.
type lateBody struct {
	io.ReadCloser
	end func()
}

func (b *lateBody) Read(p []byte) (int, error) {
	b.end()
	return copy(p, "late"), nil
}

// TestNothingCountsAfterTheEnd: a stream's reader may outlive its call.
func TestNothingCountsAfterTheEnd(t *testing.T) {
	b := &budget{one: map[uint32]int64{}}
	m := &metered{budget: b}
	m.ReadCloser = &lateBody{end: m.end}
	if n, err := m.Read(make([]byte, 10)); n != 0 || err == nil {
		t.Errorf("read %d bytes after the end, %v", n, err)
	}
	if b.all != 0 || len(b.one) != 0 {
		t.Errorf("%d bytes count for ever", b.all)
	}
}

// TestAnswersCountWhileTheyAreGathered: and not once more when they are whole.
func TestAnswersCountWhileTheyAreGathered(t *testing.T) {
	b := &budget{one: map[uint32]int64{}}
	m := &metered{budget: b}
	ctx := context.WithValue(t.Context(), meteredKey{}, m)
	for range 2 {
		if err := chargeAhead(ctx, maxBodiesOfOne/4); err != nil {
			t.Fatal(err)
		}
	}
	answer := &brigv1.ExecRunResponse{Stdout: make([]byte, maxBodiesOfOne/4), Stderr: make([]byte, maxBodiesOfOne/4), Truncated: true}
	if err := charge(ctx, answer); err != nil || b.all != int64(proto.Size(answer)) {
		t.Errorf("%d bytes count, %v; want %d", b.all, err, proto.Size(answer))
	}
	if err := chargeAhead(ctx, maxBodiesOfOne); !errdefs.IsResourceExhausted(err) {
		t.Errorf("too much: %v", err)
	}
	if m.end(); b.all != 0 || len(b.one) != 0 {
		t.Errorf("%d bytes count after the end", b.all)
	}
}

// TestMalformedFrames: whatever bytes come, there is a typed answer or an end, and the
// next caller is served.
func TestMalformedFrames(t *testing.T) {
	s := serve(t)
	post := func(kind, body string) string {
		return fmt.Sprintf("POST /brig.v1.Exec/Stream HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kind, len(body), body)
	}
	for name, bytes := range map[string]string{
		"no HTTP":                "\x16\x03\x01\x02\x00\x01\x00",
		"half a preface":         "PRI * HTTP/2.0\r\n\r\nSM",
		"a preface, then noise":  "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
		"a frame of 16 MiB":      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00\xff\xff\xff\x00\x00\x00\x00\x00\x01",
		"headers without an end": "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 80<<10),
		"a length of 4 GiB":      post("application/connect+proto", "\x00\xff\xff\xff\xff"),
		"unknown flags":          post("application/connect+proto", "\xfe\x00\x00\x00\x01x"),
		"compressed":             post("application/connect+proto", "\x01\x00\x00\x00\x01x"),
		"no message":             post("application/connect+proto", "\x00\x00\x00\x00\x02\xff\xff"),
		"a negative length":      "POST /brig.v1.Exec/Run HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
		"two lengths":            "POST /brig.v1.Exec/Run HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nz",
	} {
		conn := s.dial(t)
		if _, err := io.WriteString(conn, bytes); err != nil && !strings.Contains(err.Error(), "broken pipe") {
			t.Errorf("%s: %v", name, err)
		}
		_ = conn.(*net.UnixConn).CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		answer, err := io.ReadAll(conn)
		var e net.Error
		if errors.As(err, &e) && e.Timeout() {
			t.Errorf("%s: neither an answer nor an end: %q", name, answer)
		}
		if strings.Contains(string(answer), "internal") || strings.Contains(string(answer), "200 OK") && !strings.Contains(string(answer), `"error"`) {
			t.Errorf("%s: %q", name, answer)
		}
	}
	if answer := s.post(t, "Sandboxes/List", `{}`); answer != "{}" {
		t.Errorf("the next caller: %s", answer)
	}
}
