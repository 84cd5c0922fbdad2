package slot

import (
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestClaim(t *testing.T) {
	want := Claim{
		Spec:   &specs.Spec{Process: &specs.Process{Args: []string{"true"}, Cwd: "/"}, Linux: &specs.Linux{}},
		Rootfs: []Mount{{Type: "overlay", Source: "overlay", Options: []string{"lowerdir=/a"}}}, Stdout: "journal:///out?max=1",
	}
	payload, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(payload); !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	const spec = `"spec":{"ociVersion":"1","process":{"user":{"uid":0,"gid":0},"cwd":"/"},"linux":{}}`
	for payload, fault := range map[string]string{
		``:                             "EOF",
		`{` + spec + `,"root":1}`:      "unknown field",
		`{"rootfs":[{"type":"bind"}]}`: "no program",
		`{` + spec + `}`:               "rootfs is missing",
		`{` + spec + `,"rootfs":[{}],"terminal":true}`: "disagree about a terminal",
	} {
		if _, err := Decode([]byte(payload)); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v; want %q", payload, err, fault)
		}
	}
}

func TestGate(t *testing.T) {
	want := Gate{Annotations: map[string]string{"brig/a": "b"}}
	payload, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeGate(payload); !reflect.DeepEqual(got, want) || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := DecodeGate([]byte(`{"wishes":{}}`)); err == nil || !strings.Contains(err.Error(), "unknown field") {
		t.Errorf("%v", err)
	}
}
