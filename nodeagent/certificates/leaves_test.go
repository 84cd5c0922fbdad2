package certificates

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
	"testing/synctest"
	"time"
)

// TestLeaves: one per host that is wanted, signed anew when a third of its life is left,
// and forgotten with the last who wants it.
func TestLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signed := map[string]int{}
		l := newLeaves(func(host string) (*tls.Certificate, error) {
			signed[host]++
			now := time.Now()
			return &tls.Certificate{Leaf: &x509.Certificate{DNSNames: []string{host}, NotBefore: now, NotAfter: now.Add(30 * time.Hour)}}, nil
		})
		get := func(host string) *tls.Certificate {
			t.Helper()
			c, err := l.Get(nil, host)
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		if get("a") != nil || signed["a"] != 0 {
			t.Error("a certificate for a host that nobody wants")
		}
		one, two := l.Want("a"), l.Want("a")
		first := get("a")
		if first == nil || get("a") != first {
			t.Fatal("two for one host")
		}
		time.Sleep(19 * time.Hour)
		if get("a") != first {
			t.Error("another one with more than a third of its life left")
		}
		time.Sleep(2 * time.Hour)
		if get("a") == first || signed["a"] != 2 {
			t.Errorf("signed %d times, want twice: a third of its life is left", signed["a"])
		}
		one()
		one()
		if get("a") == nil {
			t.Error("forgotten while somebody wants it")
		}
		if two(); get("a") != nil || len(l.all) != 0 {
			t.Errorf("kept though nobody wants it: %d", len(l.all))
		}
	})
}
