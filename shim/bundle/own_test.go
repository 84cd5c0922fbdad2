package bundle

import (
	"errors"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestOwnOf(t *testing.T) {
	for _, tc := range []struct {
		in   map[string]string
		want Own
		ok   bool
	}{
		{nil, Own{}, true},
		{map[string]string{"brig/pids": "100", "brig/disk-mib": "1024", "brig/secrets": "true"}, Own{100, 1024, true}, true},
		{map[string]string{"brig/pids": "0"}, Own{}, false},
		{map[string]string{"brig/pids": ""}, Own{}, false},
		// What follows would be another option of runsc's.
		{map[string]string{"brig/disk-mib": "1,size=9"}, Own{}, false},
		{map[string]string{"brig/disk-mib": "+1"}, Own{}, false},
		{map[string]string{"brig/disk-mib": "-1"}, Own{}, false},
		{map[string]string{"brig/disk-mib": "0x10"}, Own{}, false},
		{map[string]string{"brig/disk-mib": "99999999999999"}, Own{}, false},
		{map[string]string{"brig/secrets": "false"}, Own{}, false},
	} {
		got, err := OwnOf(&specs.Spec{Annotations: tc.in})
		if got != tc.want || (err == nil) != tc.ok || err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%v: %+v, %v", tc.in, got, err)
		}
	}
}

// Elsewhere whoever creates containers would have brigd's secrets read, and limits that
// nobody told the owner of.
func TestOwnAnnotationsAreBrigdsAlone(t *testing.T) {
	for _, key := range ownOnly {
		in := map[string]string{key: "1"}
		if _, err := annotationsForRunsc(in, Host{}); !errors.Is(err, errdefs.ErrPermissionDenied) {
			t.Errorf("%s from somebody else: %v", key, err)
		}
		out, err := annotationsForRunsc(in, Host{Own: true})
		if err != nil || len(out) != 0 {
			t.Errorf("%s from brigd: %v, %v; want it not to reach runsc", key, out, err)
		}
	}
}

func TestWithSecrets(t *testing.T) {
	env := []string{"PATH=/bin", "TOKEN=image's", "TOKENS=another"}
	got := WithSecrets(env, []string{"A=1", "TOKEN=x=y"})
	if diff := cmp.Diff([]string{"PATH=/bin", "TOKENS=another", "A=1", "TOKEN=x=y"}, got); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"PATH=/bin", "TOKEN=image's", "TOKENS=another"}, env); diff != "" {
		t.Errorf("the caller's has changed (-want +got):\n%s", diff)
	}
}

func TestWithProcesses(t *testing.T) {
	in := []specs.POSIXRlimit{{Type: "RLIMIT_NPROC", Soft: 9, Hard: 9}, {Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}}
	if diff := cmp.Diff(in, WithProcesses(in, 0)); diff != "" {
		t.Errorf("without a limit (-want +got):\n%s", diff)
	}
	want := []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1, Hard: 2}, {Type: "RLIMIT_NPROC", Soft: 5, Hard: 5}}
	if diff := cmp.Diff(want, WithProcesses(in, 5)); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
}
