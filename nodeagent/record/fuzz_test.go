package record

import (
	"encoding/json"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// FuzzCheck puts one hostile string into every field that takes one, in turn and together.
// What passes is what the node can keep, give back, and hand on as data: no string of it
// ends early, and no path of it leads where a path must not.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		"", "..", "../../etc/shadow", "/..", "/a/../b", "/etc/passwd", "/proc/self/fd/3", "\x00", "a\x00b", strings.Repeat("x", 4096),
		"/" + strings.Repeat("x", 4096), "ü", "日本", "\u202e", "\xff", "-rf", "--config=/etc/shadow", "-", "A=B", "$(id)", "`id`", "a b", "a\nb", "%s",
		"localhost:5000/python:3", "/srv", "name",
	} {
		f.Add(s, uint16(1<<16-1))
		for i := range 16 {
			f.Add(s, uint16(1<<i))
		}
	}
	f.Fuzz(func(t *testing.T, s string, fields uint16) {
		in := hostile(s, fields)
		out, err := in.Check(limits)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("%v is no ErrInvalidArgument", err)
			}
			if len(err.Error()) > 6000 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		data, err := json.Marshal(out)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), `\u0000`) || strings.Contains(string(data), `\ufffd`) && !strings.Contains(s, "\ufffd") {
			t.Errorf("a string that ends early, or is not kept as it was: %s", data)
		}
		var again Request
		if err := json.Unmarshal(data, &again); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(out, again, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Request{}, "Secrets")); diff != "" {
			t.Errorf("what is kept is not what was checked:\n%s", diff)
		}
		for _, p := range []string{out.Name, out.RequestID, out.Checkpoint, out.Image} {
			if strings.HasPrefix(p, "-") && p != out.RequestID || strings.HasPrefix(p, "/") {
				t.Errorf("%q would be taken for a flag or a path", p)
			}
		}
		for _, m := range out.Mounts {
			for _, p := range []string{m.Target, m.Source} {
				if p != "" && (path.Clean(p) != p || !path.IsAbs(p) || p == "/") {
					t.Errorf("mount path %q", p)
				}
			}
		}
	})
}

// hostile is a request with s in those of its fields that have a bit.
func hostile(s string, fields uint16) Request {
	r := Request{Image: "localhost/x", Timeout: time.Minute, Argv: []string{"sh"}, Ready: &Probe{Argv: []string{"true"}}}
	m := Mount{Target: "/data", Source: "/srv/data"}
	for i, set := range []func(){
		func() { r.RequestID = s },
		func() { r.Name = s },
		func() { r.Image = s },
		func() { r.Argv = append(r.Argv, s) },
		func() { r.Env = map[string]string{"A": s} },
		func() { r.Env = map[string]string{s: "1"} },
		func() { r.Workdir = s },
		func() { r.Tags = map[string]string{s: s} },
		func() { r.Secrets = Secrets{s: "1"} },
		func() { r.Secrets = Secrets{"S": s} },
		func() { r.Ready.Argv = []string{"test", s} },
		func() { m.Target = s },
		func() { m.Source = s },
		func() { r.Checkpoint = s },
		func() { r.Network.CIDRAllowlist = &[]string{s} },
		func() { r.Network.DomainAllowlist = &[]string{s} },
	} {
		if fields&(1<<i) != 0 {
			set()
		}
	}
	r.Mounts = []Mount{m}
	return r
}
