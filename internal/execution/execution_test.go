package execution

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestRun(t *testing.T) {
	want := Run{ID: "a", Until: time.Second, Process: &specs.Process{Args: []string{"x"}, Cwd: "/"}, Stdout: "journal:///o"}
	payload, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := Decode(payload)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("-want +got:\n%s%v", diff, err)
	}
	for _, bad := range []string{``, `{}`, `{"id":"a","until":5}`, `{"process":{},"until":5}`, `{"id":"a","process":{}}`, `{"id":"a","process":{},"until":5,"more":1}`} {
		if _, err := Decode([]byte(bad)); err == nil {
			t.Errorf("%q is a program to run", bad)
		}
	}
}
