package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreValid(t *testing.T) {
	c := Defaults()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"all is well", "node = \"n1\"\n[network]\npool = \"10.90.0.0/16\"\ndns = [\"192.0.2.53\", \"192.0.2.54:5353\"]\n[sandboxes]\ntimeout = \"1m\"\n", ""},
		{"unknown key", "nodes = \"n1\"\n", `unknown key "nodes" in line 1`},
		{"unknown key in a table", "[network]\npools = \"10.90.0.0/16\"\n", `unknown key "network.pools" in line 2`},
		{"not TOML", "node = ", "toml: "},
		{"node", `node = "Host"`, `node "Host": use 1 to 8 of [a-z0-9]`},
		{"relative path", `run_dir = "run"`, `run_dir "run": want a clean absolute path`},
		{"long run_dir", `run_dir = "/run/` + strings.Repeat("x", 40) + `"`, "longer than 40 bytes"},
		{"long socket", `socket = "/` + strings.Repeat("x", 100) + `"`, "longer than 100 bytes"},
		{"pool with host bits", "[network]\npool = \"10.90.0.1/16\"", `network.pool "10.90.0.1/16"`},
		{"pool of IPv6", "[network]\npool = \"fd00::/64\"", `network.pool "fd00::/64"`},
		{"allow_private", "[network]\nallow_private = [\"10.0.0.1/8\"]", `network.allow_private "10.0.0.1/8"`},
		{"unmanaged", "[network]\nunmanaged = \"maybe\"", `network.unmanaged "maybe": want allow or refuse`},
		{"dns", "[network]\ndns = [\"resolver\"]", `network.dns "resolver"`},
		{"an annotation for runsc", "[runsc]\nallowed_annotations = [\"dev.gvisor.flag.host-uds\"]", ""},
		{"an annotation that is not runsc's", "[runsc]\nallowed_annotations = [\"io.kubernetes.cri.sandbox-id\"]", "want a key dev.gvisor.…"},
		{"an annotation of brig's", "[runsc]\nallowed_annotations = [\"dev.gvisor.spec.rootfs.source\"]", "brig's own"},
		{"timeout above its ceiling", "[sandboxes]\nmax_timeout = \"1m\"", "at most max_timeout"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Defaults()
			err := Parse([]byte(tc.in), &c)
			switch {
			case tc.want == "" && err != nil:
				t.Fatal(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Fatalf("error %v, want one that contains %q", err, tc.want)
			}
		})
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	c := Defaults()
	err := Parse([]byte("node = \"\"\n[runsc]\nplatform = \"ptrace\"\n"), &c)
	for _, want := range []string{"node", "runsc.platform"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

func TestLoad(t *testing.T) {
	if _, err := Load(filepath.Join(t.TempDir(), "none.toml")); err == nil {
		t.Error("a file that was named and is not there is no error")
	}
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte("[sandboxes]\ntimeout = \"90s\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(c.Sandboxes.Timeout); got != 90*time.Second {
		t.Errorf("timeout %v, want 1m30s", got)
	}
	if c.Node != "host" {
		t.Errorf("node %q: a key that is absent keeps its default", c.Node)
	}
}

func TestPath(t *testing.T) {
	t.Setenv(EnvPath, "/from/env")
	if got := Path("/explicit"); got != "/explicit" {
		t.Error(got)
	}
	if got := Path(""); got != "/from/env" {
		t.Error(got)
	}
	t.Setenv(EnvPath, "")
	if got := Path(""); got != DefaultPath {
		t.Error(got)
	}
}

func TestNamesOfTwoNodesDiffer(t *testing.T) {
	host, other := Defaults(), Defaults()
	other.Node = "a1b2c3d4"
	for _, names := range [][2]string{
		{host.TransitName(), other.TransitName()},
		{host.HostLink(), other.HostLink()},
		{host.HostTable(), other.HostTable()},
		{host.CgroupParent(), other.CgroupParent()},
	} {
		if names[0] == names[1] {
			t.Errorf("both nodes use %q", names[0])
		}
	}
	if len(other.HostLink()) > 15 {
		t.Errorf("%q is longer than a link name may be", other.HostLink())
	}
}

func FuzzParse(f *testing.F) {
	f.Add("node = \"n1\"\n[network]\npool = \"10.90.0.0/16\"\n")
	f.Fuzz(func(t *testing.T, in string) {
		c := Defaults()
		if Parse([]byte(in), &c) == nil && c.Validate() != nil {
			t.Errorf("accepted what Validate refuses: %q", in)
		}
	})
}
