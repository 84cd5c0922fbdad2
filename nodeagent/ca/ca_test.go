package ca

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func open(t *testing.T, dir string, hosts ...string) *CA {
	t.Helper()
	c, err := Open(dir, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTheCAIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	first := open(t, dir, "127.0.0.1")
	if again := open(t, dir, "127.0.0.1"); !bytes.Equal(again.PEM(), first.PEM()) {
		t.Error("opened again, it is another one")
	}
	file, err := os.ReadFile(first.Path())
	if err != nil || !bytes.Equal(file, first.PEM()) {
		t.Errorf("the file at Path is not the certificate: %v", err)
	}
	for name, want := range map[string]os.FileMode{"ca.key": 0o600, "ca.pem": 0o644} {
		if fi, err := os.Stat(filepath.Join(dir, name)); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", name, fi.Mode(), err, want)
		}
	}
	if other := open(t, dir, "node.example"); bytes.Equal(other.PEM(), first.PEM()) {
		t.Error("a CA that may not sign for the new host was kept")
	}
}

func TestWhatALeafIsGoodFor(t *testing.T) {
	for host, foreign := range map[string][]string{
		"127.0.0.1":    {"127.0.0.2", "localhost", "example.com"},
		"node.example": {"example", "other.example", "127.0.0.1"},
	} {
		c := open(t, filepath.Join(t.TempDir(), "ca"), host)
		leaf, err := c.Leaf(host)
		if err != nil {
			t.Fatal(err)
		}
		if err := leaf.Leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
		for _, name := range foreign {
			if leaf.Leaf.VerifyHostname(name) == nil {
				t.Errorf("the leaf of %s is good for %s", host, name)
			}
		}
		if other, err := c.Leaf(host); err != nil || other.Leaf.SerialNumber.Cmp(leaf.Leaf.SerialNumber) == 0 {
			t.Errorf("two leaves are one: %v", err)
		}
	}
}

// TestTheNameConstraintHolds lets the CA's key sign for somebody else, as a thief of
// it would.
func TestTheNameConstraintHolds(t *testing.T) {
	c := open(t, filepath.Join(t.TempDir(), "ca"), "127.0.0.1")
	for _, host := range []string{"example.com", "192.0.2.1"} {
		if _, err := c.Leaf(host); err == nil || !strings.Contains(err.Error(), "may not sign for "+host) {
			t.Errorf("%s: error %v", host, err)
		}
	}
	if ips := c.cert.PermittedIPRanges; len(ips) != 1 || !ips[0].IP.Equal(net.IPv4(127, 0, 0, 1)) {
		t.Errorf("permitted ranges %v", ips)
	}
}

// TestDomain: names below a second host are the CA's to sign for, too, and a CA that may
// not is made anew.
func TestDomain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	before := open(t, dir, "127.0.0.1")
	c := open(t, dir, "127.0.0.1", "boxes.example")
	if bytes.Equal(before.PEM(), c.PEM()) {
		t.Error("a CA that may not sign below the domain was kept")
	}
	if again := open(t, dir, "127.0.0.1", "boxes.example"); !bytes.Equal(again.PEM(), c.PEM()) {
		t.Error("opened again, it is another one")
	}
	for host, may := range map[string]bool{
		"127.0.0.1": true, "8080-sb-a.boxes.example": true, "boxes.example": true,
		"127.0.0.2": false, "boxes.example.net": false, "otherboxes.example": false, "example": false,
	} {
		if leaf, err := c.Leaf(host); (err == nil) != may {
			t.Errorf("%s: %v, want that the CA may: %v", host, err, may)
		} else if may && leaf.Leaf.VerifyHostname(host) != nil {
			t.Errorf("the leaf is not good for %s", host)
		}
	}
}

func TestDamagedFiles(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ca")
	first := open(t, dir, "127.0.0.1")
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("not PEM"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, "127.0.0.1"); err == nil || !strings.Contains(err.Error(), "ca.pem holds no CERTIFICATE") {
		t.Errorf("error %v", err)
	}
	// A crash between the two files of a renewal: the certificate of another key.
	other := open(t, filepath.Join(t.TempDir(), "ca"), "127.0.0.1")
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), other.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	if again := open(t, dir, "127.0.0.1"); bytes.Equal(again.PEM(), other.PEM()) || bytes.Equal(again.PEM(), first.PEM()) {
		t.Error("a pair that does not belong together was used")
	}
}
