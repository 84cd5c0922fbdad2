package sandbox

import (
	"strings"
	"testing"
)

func TestNewID(t *testing.T) {
	seen := map[ID]bool{}
	for range 1000 {
		id := NewID()
		if got, err := ParseID(string(id)); err != nil || got != id {
			t.Fatalf("ParseID(%q) = %q, %v", id, got, err)
		}
		if seen[id] {
			t.Fatalf("%q twice", id)
		}
		seen[id] = true
	}
}

func TestParseIDRefuses(t *testing.T) {
	good := string(NewID())
	for _, s := range []string{"", "sb-", good + "a", good[:18], "../" + good, strings.ToUpper(good), good + "\n"} {
		if _, err := ParseID(s); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
}

func TestCheckName(t *testing.T) {
	for _, s := range []string{"a", "web-1", "A_b.c", strings.Repeat("x", 64)} {
		if err := CheckName(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "-a", "a b", "a/b", "ä", strings.Repeat("x", 65), string(NewID()), "a\n"} {
		if err := CheckName(s); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
}

func TestMoves(t *testing.T) {
	all := []State{"", Creating, Running, Exited}
	legal := map[[2]State]bool{
		{"", Creating}: true, {Creating, Running}: true, {Creating, Exited}: true, {Running, Exited}: true,
	}
	for _, from := range all {
		for _, to := range all {
			got, err := from.Move(to)
			switch want := legal[[2]State{from, to}]; {
			case want && (err != nil || got != to):
				t.Errorf("%q to %q: %v", from, to, err)
			case !want && (err == nil || got != from):
				t.Errorf("%q to %q is allowed", from, to)
			}
		}
	}
}
