package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
	"brig/tests/image/oci"
	"brig/tests/node"

	"connectrpc.com/connect"
)

// post sends JSON over HTTP/1.1, as any HTTP client can.
func post(t *testing.T, n *node.Node, method, body string) (status int, answer map[string]any) {
	t.Helper()
	hc := http.Client{Transport: node.Transport(n.Socket(), false), Timeout: time.Minute}
	defer hc.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://brig/brig.v1."+method, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := hc.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		t.Fatalf("%s: %s: %q is no JSON object: %v", method, res.Status, data, err)
	}
	return res.StatusCode, answer
}

// TestJSON is the life of a sandbox in plain HTTP.
func TestJSON(t *testing.T) {
	t.Parallel()
	n := use(t)
	status, answer := post(t, n.Node, "Sandboxes/Create", `{"image": "`+n.busybox+`", "tags": {"suite": "json"},
		"network": {"cidrAllowlist": {"cidrs": []}}, "resources": {"cpu": 0.5, "memoryMib": 256}, "timeout": "600s"}`)
	if status != http.StatusOK {
		t.Fatal(status, answer)
	}
	id := answer["sandbox"].(map[string]any)["id"].(string)
	t.Cleanup(func() { n.Try(t, "rm", "--force", id) })
	status, answer = post(t, n.Node, "Exec/Run", `{"exec": {"sandbox": "`+id+`", "argv": ["echo", "hello"]}}`)
	if status != http.StatusOK || answer["stdout"] != base64.StdEncoding.EncodeToString([]byte("hello\n")) {
		t.Error(status, answer)
	}
	status, answer = post(t, n.Node, "Sandboxes/Remove", `{"sandbox": "`+id+`", "force": true}`)
	if status != http.StatusOK {
		t.Error(status, answer)
	}
	status, answer = post(t, n.Node, "Sandboxes/Get", `{"sandbox": "`+id+`"}`)
	if status != http.StatusNotFound || answer["code"] != "not_found" {
		t.Error(status, answer)
	}
}

// TestCurl is the documentation's own way.
func TestCurl(t *testing.T) {
	t.Parallel()
	n := use(t)
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl on this machine; TestJSON speaks the same")
	}
	r := node.Run(t, exec.CommandContext(t.Context(), curl, "-sS", "--unix-socket", n.Socket(),
		"-H", "content-type: application/json", "-d", "{}", "http://brig/brig.v1.Node/Info"))
	var info struct{ Node, RunscVersion string }
	if err := json.Unmarshal([]byte(r.Stdout), &info); err != nil || info.Node == "" || info.RunscVersion == "" {
		t.Errorf("%v: %s", err, r)
	}
}

// TestGRPC speaks gRPC: unary, server stream, and both ways with stdin.
func TestGRPC(t *testing.T) {
	t.Parallel()
	n := use(t)
	client := n.GRPC()
	created, err := client.Sandboxes.Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{
		Image: n.busybox, Argv: []string{"sh", "-c", "echo from grpc; sleep 600"},
	}))
	if err != nil {
		t.Fatal(err)
	}
	id := created.Msg.GetSandbox().GetId()
	t.Cleanup(func() { n.Try(t, "rm", "--force", id) })

	output, err := client.Sandboxes.ReadOutput(t.Context(), connect.NewRequest(&brigv1.ReadOutputRequest{Sandbox: id, Follow: true}))
	if err != nil {
		t.Fatal(err)
	}
	if !output.Receive() || string(output.Msg().GetData()) != "from grpc\n" {
		t.Errorf("output %v, %v", output.Msg(), output.Err())
	}
	_ = output.Close()

	stream := client.Exec.Stream(t.Context())
	for _, m := range []*brigv1.ExecStreamRequest{
		{Message: &brigv1.ExecStreamRequest_Start{Start: &brigv1.ExecStart{
			Exec: &brigv1.ExecSpec{Sandbox: id, Argv: []string{"sh", "-c", "cat; exit 6"}}, Stdin: true}}},
		{Message: &brigv1.ExecStreamRequest_Stdin{Stdin: &brigv1.ExecInput{Data: []byte("through cat"), Eof: true}}},
	} {
		if err := stream.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	var stdout bytes.Buffer
	var exit *brigv1.Exit
	for exit == nil {
		m, err := stream.Receive()
		if err != nil {
			t.Fatal(err)
		}
		stdout.Write(m.GetOutput().GetData())
		exit = m.GetExit()
	}
	if stdout.String() != "through cat" || exit.GetCode() != 6 || exit.GetReason() != brigv1.Reason_REASON_EXITED {
		t.Errorf("stdout %q, exit %v", &stdout, exit)
	}
	if err := errors.Join(stream.CloseRequest(), stream.CloseResponse()); err != nil {
		t.Error(err)
	}
	_, err = client.Sandboxes.Get(t.Context(), connect.NewRequest(&brigv1.GetRequest{Sandbox: "nobody"}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("get of nobody: %v", err)
	}
}

// TestRequestID makes one sandbox however often it is asked with one key.
func TestRequestID(t *testing.T) {
	t.Parallel()
	n := use(t)
	ask := func() (string, error) {
		res, err := n.Sandboxes.Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{
			RequestId: "e2e-once", Image: n.busybox, Tags: map[string]string{"suite": "request-id"},
		}))
		if err != nil {
			return "", err
		}
		return res.Msg.GetSandbox().GetId(), nil
	}
	type answer struct {
		id  string
		err error
	}
	answers := make(chan answer)
	const times = 4
	for range times {
		go func() { id, err := ask(); answers <- answer{id, err} }()
	}
	ids := map[string]bool{}
	for range times {
		a := <-answers
		if a.err != nil {
			t.Error(a.err)
			continue
		}
		ids[a.id] = true
	}
	for id := range ids {
		t.Cleanup(func() { n.Try(t, "rm", "--force", id) })
	}
	if len(ids) != 1 {
		t.Errorf("one key made %v", ids)
	}
}

// TestNames covers a name that is taken, used in place of the id, and freed.
func TestNames(t *testing.T) {
	t.Parallel()
	n := use(t)
	first := n.Create(t, "--name", "web.1", n.busybox)
	if r := n.Try(t, "create", "--name", "web.1", n.busybox); r.Code == 0 || !strings.Contains(r.Stderr, "web.1") {
		t.Errorf("a name was given twice: %s", r)
	}
	_, err := n.Sandboxes.Create(t.Context(), connect.NewRequest(&brigv1.CreateRequest{Name: "web.1", Image: n.busybox}))
	if connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("the taken name's error: %v", err)
	}
	if got := n.Brig(t, "exec", "web.1", "--", "hostname"); strings.TrimSpace(got) == "" {
		t.Error("no hostname")
	}
	n.Brig(t, "rm", "--force", "web.1")
	second := n.Create(t, "--name", "web.1", n.busybox)
	if first == second {
		t.Error("an id was given twice")
	}
}

// TestImages covers import of an archive, ls, a second import, rm.
func TestImages(t *testing.T) {
	t.Parallel()
	n := use(t)
	img, err := image(oci.Recipe{})
	if err != nil {
		t.Fatal(err)
	}
	const ref = "brig.test/imported:1"
	archive := filepath.Join(t.TempDir(), "image.tar")
	if err := oci.WriteArchive(archive, ref, img); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if out := n.Brig(t, "image", "import", archive); out != ref+"\n" {
			t.Errorf("import says %q, want %q", out, ref)
		}
	}
	if r := n.Try(t, "run", "--block-network", ref, "--", "echo", "imported"); r.Code != 0 || r.Stdout != "imported\n" {
		t.Error(r)
	}
	if ls := n.Brig(t, "image", "ls"); !strings.Contains(ls, ref) {
		t.Errorf("image ls: %q", ls)
	}
	id := n.Create(t, ref)
	n.Brig(t, "image", "rm", ref)
	if ls := n.Brig(t, "image", "ls"); strings.Contains(ls, ref) {
		t.Errorf("image ls after rm: %q", ls)
	}
	if got := n.Brig(t, "exec", id, "--", "echo", "goes on"); got != "goes on\n" {
		t.Errorf("a sandbox after its image was removed: %q", got)
	}
	if r := n.Try(t, "image", "rm", ref); r.Code == 0 {
		t.Errorf("removed twice: %s", r)
	}
	bad := n.BrigCommand(t.Context(), "image", "import", "-")
	bad.Stdin = strings.NewReader("this is no archive")
	if r := node.Run(t, bad); r.Code == 0 {
		t.Errorf("imported nonsense: %s", r)
	}
}

// TestPullShowsProgress pulls by name and says how much.
func TestPullShowsProgress(t *testing.T) {
	t.Parallel()
	n := use(t)
	stream, err := n.Images.Pull(t.Context(), connect.NewRequest(&brigv1.PullRequest{Image: n.python}))
	if err != nil {
		t.Fatal(err)
	}
	var last *brigv1.PullResponse
	for stream.Receive() {
		last = stream.Msg()
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}
	if last.GetImage().GetName() != n.python || !strings.HasPrefix(last.GetImage().GetDigest(), "sha256:") || last.GetImage().GetSize() < 1<<20 {
		t.Errorf("the last answer is %v", last)
	}
}
