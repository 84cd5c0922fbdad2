package netns

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"brig/internal/require"
)

func TestCreateDoDelete(t *testing.T) {
	require.Root(t)
	const name = "brigtest-netns"
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
	})
	if !Exists(name) {
		t.Error("made, but does not exist")
	}
	if err := Create(name); !errors.Is(err, os.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	own, err := ID("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	made, err := ID(Path(name))
	if err != nil || made == own {
		t.Errorf("id %d, own %d, %v", made, own, err)
	}
	err = Do(Path(name), func() error {
		links, err := net.Interfaces()
		if err != nil || len(links) != 1 || links[0].Name != "lo" {
			t.Errorf("links %v, %v; want lo alone", links, err)
		}
		return errors.New("passed on")
	})
	if err == nil || err.Error() != "passed on" {
		t.Errorf("Do returned %v", err)
	}
	if after, _ := ID("/proc/thread-self/ns/net"); after != own {
		t.Error("the caller's thread changed its namespace")
	}
	for range 2 {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
	}
	if Exists(name) {
		t.Error("deleted, but exists")
	}
}

func TestDeleteOfHalfMade(t *testing.T) {
	require.Root(t)
	if err := prepareDir(); err != nil {
		t.Fatal(err)
	}
	const name = "brigtest-half"
	if err := os.WriteFile(Path(name), nil, 0o444); err != nil {
		t.Fatal(err)
	}
	if Exists(name) {
		t.Error("a plain file counts as a namespace")
	}
	if err := Delete(name); err != nil {
		t.Error(err)
	}
}

func TestDoNowhere(t *testing.T) {
	err := Do("/nowhere", func() error { t.Error("ran"); return nil })
	if err == nil || !strings.Contains(err.Error(), "/nowhere") {
		t.Errorf("error %v", err)
	}
}
