package runsc

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestExecArgs(t *testing.T) {
	caps := func(names ...string) *specs.LinuxCapabilities {
		return &specs.LinuxCapabilities{Bounding: names, Effective: names}
	}
	p := &specs.Process{
		Args: []string{"sh", "-c", "id"}, Env: []string{"A=b"}, Cwd: "/w", Terminal: true, NoNewPrivileges: true,
		User: specs.User{UID: 1, GID: 2, AdditionalGids: []uint32{3, 4}},
	}
	args, err := NewExecArgs("a", p, caps("CAP_CHOWN", "CAP_NET_RAW", "CAP_CHECKPOINT_RESTORE"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(args, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
 "argv": [
  "sh",
  "-c",
  "id"
 ],
 "envv": [
  "A=b"
 ],
 "wd": "/w",
 "KUID": 1,
 "KGID": 2,
 "ExtraKGIDs": [
  3,
  4
 ],
 "NoNewPrivileges": true,
 "Capabilities": {
  "PermittedCaps": 0,
  "InheritableCaps": 0,
  "EffectiveCaps": 1099511627777,
  "BoundingCaps": 1099511627777,
  "AmbientCaps": 0
 },
 "StdioIsPty": true,
 "SupportTTYs": true,
 "GuestFDs": null,
 "ContainerID": "a"
}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	p.Capabilities = caps("CAP_KILL")
	if args, err := NewExecArgs("a", p, caps("CAP_CHOWN")); err != nil || args.Capabilities.EffectiveCaps != 1<<5 {
		t.Errorf("a process with capabilities of its own: %+v, %v", args.Capabilities, err)
	}
	for _, bad := range []specs.Process{
		{Cwd: "/"}, {Args: []string{"sh"}}, {Args: []string{"sh"}, Cwd: "x"}, {Args: []string{"sh"}, Cwd: "/", Capabilities: caps("CAP_FLY")},
	} {
		if args, err := NewExecArgs("a", &bad, nil); err == nil {
			t.Errorf("%+v: %+v; want an error", bad, args)
		}
	}
}
