package command_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

func TestImages(t *testing.T) {
	_, socket := node(t)
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(file, make([]byte, 700_000), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, brig(t, socket, "", "image", "import", file), result{
		Out: "docker.io/library/imported:700000\n", Err: "importing " + file + "\n"})
	check(t, brig(t, socket, "12345", "image", "import", "-"), result{
		Out: "docker.io/library/imported:5\n", Err: "importing -\n"})
	check(t, brig(t, socket, "broken", "image", "import", "-"), result{
		Status: 1, Err: "importing -\nbrig: the archive is damaged\n"})
	check(t, brig(t, socket, "", "image", "rm", "img", "imported:5"), result{Out: "img\nimported:5\n"})
	got := brig(t, socket, "", "image", "ls")
	got.Out = regexp.MustCompile(`\d+[smhd] ago`).ReplaceAllString(got.Out, "0s ago")
	check(t, got, result{Out: "" +
		"NAME                               DIGEST               SIZE      CREATED\n" +
		"docker.io/library/imported:700000  sha256:abababababab  700.0 kB  0s ago\n"})
}

func TestNode(t *testing.T) {
	_, socket := node(t)
	check(t, brig(t, socket, "", "node", "info"), result{Out: "" +
		"node          host\n" +
		"brigd         1.2.3\n" +
		"runsc         release-x\n" +
		"socket        " + socket + "\n" +
		"containerd    /run/brig/containerd.sock (namespace brig)\n" +
		"address pool  10.88.0.0/16\n" +
		"platform      systrap\n" +
		"running       1\n" +
		"waiting       2\n" +
		"yours         1 of 1000 sandboxes, 0 execs, 0 tunnels, 512 memory_mib, 0.5 of 8 cpu, 0 images, 1 of 2 gpus\n" +
		"GPU driver    580.95.05\n" +
		"GPU           0 GPU-a NVIDIA H200 150.0 GB: of " + first + "\n" +
		"GPU           1 GPU-b NVIDIA H200 150.0 GB: taken\n" +
		"GPU           2 GPU-c NVIDIA H200 150.0 GB: free\n" +
		"GPU           3: cannot be given: ERROR_GPU_IS_LOST\n"})
	check(t, brig(t, socket, "", "node", "ca", "--json"), result{Out: "{\n  \"path\": \"/var/lib/brig/ca/ca.pem\",\n  \"pem\": \"PEM\"\n}\n"})
	check(t, brig(t, socket, "", "version"), result{Out: "brig   unreleased\nbrigd  1.2.3\n"})
	check(t, brig(t, "/nowhere", "", "version", "--json"), result{Out: "{\n  \"brig\": \"unreleased\"\n}\n"})
}
