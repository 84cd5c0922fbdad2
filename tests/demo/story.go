package main

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"brig/tests/image/oci"
)

// story is the example of the README, step by step. A step that fails does not
// keep the later ones from being tried.
func story(ctx context.Context, s *show) {
	s.title("an image with Python, made from Debian's packages and imported")
	recipe := oci.Recipe{Busybox: oci.DefaultBusybox, Python: true}
	file, image := filepath.Join(s.node.Dir, "python.tar"), recipe.Ref()
	if err := archive(ctx, recipe, file); err != nil {
		s.check("the image is made", err)
		return
	}
	s.expect("the image is there", s.brig(ctx, "image", "import", file), 0, image)

	s.title("run: create, stream, remove; the status is the program's")
	s.expect("it says hello", s.brig(ctx, "run", image, "--", "python3", "-c", `print("hello")`), 0, `(?m)^hello$`)
	s.expect("its status is passed on", s.brig(ctx, "run", image, "--", "python3", "-c", "raise SystemExit(7)"), 7, "")

	server := served(ctx, s, image)
	execs(ctx, s, server)
	idle := sandbox(ctx, s, "without a program it idles, for execs", image)
	s.expect("an exec finds it", s.brig(ctx, "exec", idle, "--", "python3", "-c", "print(6*7)"), 0, `(?m)^42$`)
	policies(ctx, s, image)
	limits(ctx, s, image)
	mistakes(ctx, s, image)
	containerd(ctx, s, file, image)

	s.title("look, and clean up")
	s.expect("they are listed", s.brig(ctx, "ls"), 0, server)
	s.expect("the server's output is kept", s.brig(ctx, "logs", server), 0, "GET / HTTP")
	s.expect("the server is removed", s.brig(ctx, "rm", server), 0, server)
	s.expect("the idle one is killed", s.brig(ctx, "rm", "--force", idle), 0, idle)
	s.expect("none is left", s.brig(ctx, "ls", "--all", "--json"), 0, `^\[\]\s*$`)
}

func archive(ctx context.Context, recipe oci.Recipe, file string) error {
	img, err := recipe.Image(ctx)
	if err != nil {
		return err
	}
	return oci.WriteArchive(file, recipe.Ref(), img)
}

// sandbox creates one and returns its id, the last line of what create prints.
func sandbox(ctx context.Context, s *show, what string, args ...string) string {
	got := s.brig(ctx, append([]string{"create"}, args...)...)
	s.expect(what, got, 0, `(?m)^sb-[a-z2-7]{16}$`)
	lines := strings.Split(strings.TrimSpace(got.out), "\n")
	return lines[len(lines)-1]
}

func served(ctx context.Context, s *show, image string) string {
	s.title("a server, reached through a tunnel: TLS ended by brigd, trusted by the node's CA")
	id := sandbox(ctx, s, "the server is made", "--port", "12345", image, "--", "python3", "-m", "http.server", "12345")
	tunnels := s.brig(ctx, "tunnels", id)
	s.expect("it has a tunnel", tunnels, 0, `(?m)^12345  https://\S+$`)
	ca := strings.TrimSpace(s.brig(ctx, "node", "ca").out)
	fields := strings.Fields(tunnels.out)
	if len(fields) != 2 {
		return id
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		s.check("curl is installed", err)
		return id
	}
	// Python takes a moment until it listens.
	got := s.run(ctx, "curl", curl, "--silent", "--show-error", "--noproxy", "*", "--retry", "30", "--retry-all-errors",
		"--retry-delay", "1", "--cacert", ca, fields[1]+"/")
	s.expect("the listing of the sandbox's directory comes through", got, 0, "Directory listing for /")
	got = s.run(ctx, "curl", curl, "--silent", "--show-error", "--noproxy", "*", fields[1]+"/")
	s.expect("without the CA nobody trusts it", got, 60, "certificate")
	return id
}

func execs(ctx context.Context, s *show, id string) {
	s.title("further programs in the same sandbox")
	s.expect("it is another kernel", s.brig(ctx, "exec", id, "--", "uname", "-a"), 0, "Linux")
	s.expect("namely gVisor", s.brig(ctx, "exec", id, "--", "dmesg"), 0, "gVisor")
	got, err := s.typed(ctx, "echo in-$((40+2)); exit 5\n",
		"brig", filepath.Join(s.node.Bin, "brig"), "exec", "-it", id, "--", "/bin/sh")
	if err != nil {
		s.check("a shell on a terminal", err)
		return
	}
	s.expect("a shell on a terminal", got, 5, `in-42`)
}

// connects is a Python program that says whether it can connect.
const connects = `import socket
try:
    socket.create_connection(("%s", %d), 3)
    print("connected")
except OSError as e:
    print("no:", e)`

func policies(ctx context.Context, s *show, image string) {
	s.title("the network policy")
	try := func(what, id, host, pattern string) {
		s.expect(what, s.brig(ctx, "exec", id, "--", "python3", "-c", fmt.Sprintf(connects, host, 80)), 0, pattern)
	}
	open := sandbox(ctx, s, "open by default", image)
	s.expect("names resolve", s.brig(ctx, "exec", open, "--", "busybox", "nslookup", "resolver.brig.internal"), 0, `169\.254\.1\.1`)
	try("but the metadata service is out of reach", open, "169.254.169.254", "^no:")
	try("and so are private addresses", open, "10.0.0.1", "^no:")

	none := sandbox(ctx, s, "no network at all", "--block-network", image)
	s.expect("it has no interface but loopback",
		s.brig(ctx, "exec", none, "--", "python3", "-c", "import socket; print([n for _, n in socket.if_nameindex()])"), 0,
		`^\['lo'\]`)

	listed := sandbox(ctx, s, "one range and no other", "--cidr-allow", "203.0.113.0/24", image)
	try("other addresses are refused", listed, "198.51.100.1", "^no:")
	s.expect("they are removed", s.brig(ctx, "rm", "--force", open, none, listed), 0, listed)
}

func limits(ctx context.Context, s *show, image string) {
	s.title("limits")
	small := []string{"run", "--memory", "128", "--cpu", "0.5", image, "--", "python3", "-c"}
	s.expect("a small program fits", s.brig(ctx, append(small, `print("fits")`)...), 0, `(?m)^fits$`)
	s.expect("a greedy one is ended", s.brig(ctx, append(small, "b = bytearray(1 << 30); print(len(b))")...), 137, "oom")
	s.expect("time is limited, too",
		s.brig(ctx, "run", "--timeout", "2s", image, "--", "python3", "-c", "import time; time.sleep(60)"), 124, "timeout")
}

func mistakes(ctx context.Context, s *show, image string) {
	s.title("mistakes are named, and leave nothing")
	s.expect("a malformed range", s.brig(ctx, "create", "--cidr-allow", "not-an-ip/8", image), 1, `^brig: Invalid CIDR: not-an-ip/8`)
	s.expect("ports without a network", s.brig(ctx, "create", "--block-network", "--port", "80", image), 1,
		"^brig: Cannot specify open ports when block_network is enabled; use an empty cidr_allowlist")
	s.expect("a port out of range", s.brig(ctx, "create", "--port", "70000", image), 1, "^brig: .*70000")
	s.expect("nobody by that name", s.brig(ctx, "exec", "nobody", "--", "true"), 125, "^brig: .*nobody")
}

// containerd shows that the same containerd serves its own clients.
func containerd(ctx context.Context, s *show, file, image string) {
	s.title("the same containerd, by ctr")
	program := filepath.Join(s.node.Bin, "deps", "ctr")
	ctr := func(args ...string) []string {
		return append([]string{"--address", s.node.Containerd()}, args...)
	}
	run := func(flags ...string) []string {
		return ctr(append(append([]string{"run", "--rm", "--runtime", "io.containerd.brig.v1"}, flags...), image, "demo-ctr")...)
	}
	s.expect("the image is imported", s.run(ctx, "ctr", program, ctr("image", "import", file)...), 0, image)
	s.expect("ctr run", s.run(ctx, "ctr", program, append(run(), "uname", "-a")...), 0, "Linux")
	got, err := s.typed(ctx, "echo in-$((40+2)); exit 5\n", "ctr", program, append(run("-t"), "/bin/sh")...)
	if err != nil {
		s.check("ctr run -t", err)
	} else {
		s.expect("ctr run -t", got, 5, "in-42")
	}
	s.expect("the image is removed", s.run(ctx, "ctr", program, ctr("image", "rm", "--sync", image)...), 0, image)
}
