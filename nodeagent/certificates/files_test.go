package certificates

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"brig/nodeagent/ca"
)

// TestFiles: a pair that changes is read again; one that does not belong together leaves
// the earlier one in use, and is told of once.
func TestFiles(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	var log bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		authority, err := ca.Open(filepath.Join(dir, "ca"), "node.example", "boxes.example")
		if err != nil {
			t.Fatal(err)
		}
		f := newFiles(certificate, key, slog.New(slog.NewTextHandler(&log, nil)))
		look := func(host string) string {
			t.Helper()
			time.Sleep(lookEvery)
			c, err := f.Get(nil, host)
			if err != nil {
				t.Fatal(err)
			}
			if c == nil {
				return "none"
			}
			return strings.Join(c.Leaf.DNSNames, " ")
		}
		want := func(what, host, want string, errors int) {
			t.Helper()
			if got := look(host); got != want {
				t.Errorf("%s: %s has %q, want %q", what, host, got, want)
			}
			if n := strings.Count(log.String(), "level=ERROR"); n != errors {
				t.Errorf("%s: the log tells of %d errors, want %d\n%s", what, n, errors, &log)
			}
		}
		want("no files", "node.example", "none", 1)
		want("still none", "node.example", "none", 1)
		one := pair(t, authority, "node.example")
		one.write(t, certificate, key)
		want("a pair", "node.example", "node.example", 1)
		want("a name that it is not for", "boxes.example", "none", 1)
		two := pair(t, authority, "*.boxes.example")
		write(t, certificate, two.certificate)
		want("half of another", "node.example", "node.example", 2)
		want("still half", "node.example", "node.example", 2)
		write(t, key, two.key)
		want("the other half", "80-sb-a.boxes.example", "*.boxes.example", 2)
		write(t, certificate, []byte("not PEM"))
		want("a broken file", "80-sb-a.boxes.example", "*.boxes.example", 3)
		if err := os.Remove(certificate); err != nil {
			t.Fatal(err)
		}
		want("it is gone", "80-sb-a.boxes.example", "*.boxes.example", 4)
		one.write(t, certificate, key)
		want("a pair again", "node.example", "node.example", 4)
	})
}

type written struct{ certificate, key []byte }

func pair(t *testing.T, authority *ca.CA, host string) written {
	t.Helper()
	leaf, err := authority.Leaf(host)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return written{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
	}
}

func (f written) write(t *testing.T, certificate, key string) {
	t.Helper()
	write(t, certificate, f.certificate)
	write(t, key, f.key)
}

// write replaces a file as certbot and Kubernetes do: another one takes its name.
func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
