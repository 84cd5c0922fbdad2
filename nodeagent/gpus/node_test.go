package gpus

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func (d driver) own() string { return filepath.Join(d.cfg.CDIDir(), ownFile) }

// there tells which of the two files there are.
func (d driver) there(t *testing.T) (own, published bool) {
	t.Helper()
	_, errOwn := os.Stat(d.own())
	_, errPublished := os.Stat(d.cfg.GPU.Publish)
	return errOwn == nil, errPublished == nil
}

func TestLook(t *testing.T) {
	d := newDriver(t)
	d.has(t, healthy(2))
	n := d.node()
	old := syscall.Umask(0o077)
	answered := n.look(t.Context())
	syscall.Umask(old)
	if !answered {
		t.Fatal(n.Known().Unavailable)
	}
	found, err := n.Inventory(t.Context())
	if err != nil || len(found.GPUs) != 2 || found.Driver != "999.88.77" {
		t.Errorf("%+v, %v", found, err)
	}
	for _, path := range []string{d.own(), d.cfg.GPU.Publish} {
		data, err := os.ReadFile(path)
		info, errStat := os.Stat(path)
		if err != nil || errStat != nil || info.Mode() != 0o644 {
			t.Fatal(path, info, err, errStat)
		}
		if diff := cmp.Diff(string(found.CDI)+"\n", string(data)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
	}
	minors, err := found.Minors([]string{uuid(1), uuid(0)})
	if err != nil || !cmp.Equal(minors, []int{1, 0}) {
		t.Errorf("minor numbers %v, %v", minors, err)
	}
	// What has gone is named nowhere any more.
	d.has(t, Inventory{Unavailable: "it was taken out", GPUs: []GPU{}})
	n.look(t.Context())
	if own, published := d.there(t); own || published || n.Known().Unavailable != "it was taken out" {
		t.Errorf("own %v, published %v, %+v", own, published, n.Known())
	}
}

// TestNoAnswer: the node goes on, and says why it has no GPUs.
func TestNoAnswer(t *testing.T) {
	for want, prepare := range map[string]func(d driver){
		"gpu.generator is empty":                 func(d driver) { d.cfg.GPU.Generator = "" },
		"there is no /nowhere/brig-nvcdi":        func(d driver) { d.cfg.GPU.Generator = "/nowhere/brig-nvcdi" },
		"exit status 1: the driver is drunk":     func(d driver) { d.say(t, "fail", "the driver is drunk\n") },
		"has told more than":                     func(d driver) { d.say(t, "flood", "") },
		"read what it tells: unexpected EOF":     func(d driver) { d.say(t, "document", `{"gpus": [`) },
		"unknown field \"gpu\"":                  func(d driver) { d.say(t, "document", `{"gpu": []}`) },
		"more than one value":                    func(d driver) { d.say(t, "document", `{"gpus": []} {}`) },
		"GPU 0 of those it tells of has index 1": func(d driver) { d.say(t, "document", `{"gpus": [{"index": 1}]}`) },
		`GPU 0 has UUID "GPU-x"`:                 func(d driver) { d.say(t, "document", `{"gpus": [{"uuid": "GPU-x"}]}`) },
		"does not name GPU":                      func(d driver) { i := healthy(1); i.CDI = nil; d.has(t, i) },
		"names \"1\", which cannot be given":     func(d driver) { i := healthy(2); i.GPUs = i.GPUs[:1]; onlyIndex(&i); d.has(t, i) },
		"is of \"nvidia.com/mig\": want nvidia.com/gpu": func(d driver) {
			i := healthy(1)
			i.CDI = []byte(strings.Replace(string(i.CDI), "nvidia.com/gpu", "nvidia.com/mig", 1))
			d.has(t, i)
		},
	} {
		d := newDriver(t)
		d.has(t, healthy(1))
		prepare(d)
		n := d.node()
		n.look(t.Context())
		found, err := n.Inventory(t.Context())
		own, published := d.there(t)
		if err != nil || !strings.Contains(found.Unavailable, want) || len(found.GPUs) > 0 || own || published {
			t.Errorf("want %q: %q, %d GPUs, %v %v %v", want, found.Unavailable, len(found.GPUs), own, published, err)
		}
	}
}

// onlyIndex leaves out the UUID of the second GPU, so that there is one mistake.
func onlyIndex(i *Inventory) {
	i.CDI = []byte(strings.Replace(string(i.CDI), uuid(1), uuid(0)+"x", 1))
	i.CDI = []byte(strings.Replace(string(i.CDI), `"`+uuid(0)+`x"`, `"1"`, 1))
}

// TestAHangingDriver is given up with brigd, its processes too.
func TestAHangingDriver(t *testing.T) {
	d := newDriver(t)
	d.say(t, "hang", "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	n := d.node()
	n.look(ctx)
	if _, err := n.Inventory(ctx); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "still looking") {
		t.Errorf("%v, want an ErrUnavailable", err)
	}
}

// TestPublishing stands back for whoever names the same GPUs, and only for them.
func TestPublishing(t *testing.T) {
	const yaml = "cdiVersion: 0.5.0\nkind: nvidia.com/%s\ndevices:\n- name: \"%s\"\n  containerEdits:\n    env: [A=b]\n"
	text := func(kind, name string) string {
		return strings.Replace(strings.Replace(yaml, "%s", kind, 1), "%s", name, 1)
	}
	for name, c := range map[string]struct {
		file, text string
		want       bool
	}{
		"another kind":             {"etc-cdi/a.yaml", text("mig", "0"), true},
		"another GPU":              {"etc-cdi/a.yaml", text("gpu", "7"), true},
		"no specification":         {"etc-cdi/a.txt", text("gpu", "0"), true},
		"the same index":           {"etc-cdi/a.yaml", text("gpu", "0"), false},
		"the same UUID":            {"run-cdi/nvidia.yaml", text("gpu", uuid(1)), false},
		"one that nobody can read": {"run-cdi/nvidia.json", "{", false},
	} {
		d := newDriver(t)
		d.has(t, healthy(2))
		n := d.node()
		n.look(t.Context())
		if _, published := d.there(t); !published {
			t.Errorf("%s: it is not published before", name)
		}
		before := n.signature()
		d.say(t, c.file, c.text)
		if n.signature() == before && filepath.Ext(c.file) != ".txt" {
			t.Errorf("%s: a glance does not notice it", name)
		}
		n.look(t.Context())
		if own, published := d.there(t); !own || published != c.want {
			t.Errorf("%s: own %v, published %v, want %v", name, own, published, c.want)
		}
		if err := Withdraw(d.cfg); err != nil {
			t.Error(err)
		}
		if _, published := d.there(t); published {
			t.Errorf("%s: it is there after all", name)
		}
	}
}

// TestWithoutTheHook nothing is published: no container with a GPU would start.
func TestWithoutTheHook(t *testing.T) {
	d := newDriver(t)
	d.has(t, healthy(1))
	if err := os.Remove(filepath.Join(d.root, "nvidia-cdi-hook")); err != nil {
		t.Fatal(err)
	}
	d.node().look(t.Context())
	if own, published := d.there(t); !own || published {
		t.Errorf("own %v, published %v", own, published)
	}
}

// TestKeep notices what changes, by itself.
func TestKeep(t *testing.T) {
	d := newDriver(t)
	d.has(t, healthy(1))
	n := d.node()
	told := make(chan struct{}, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); n.keep(ctx, told) }()
	defer func() { cancel(); <-done }()
	if found, err := n.Inventory(ctx); err != nil || len(found.GPUs) != 1 {
		t.Fatal(found, err)
	}
	d.has(t, healthy(2))
	d.say(t, "dev/nvidia1", "")
	told <- struct{}{}
	for len(n.Known().GPUs) != 2 {
		if t.Context().Err() != nil {
			t.Fatal("nothing was noticed")
		}
		runtime.Gosched()
	}
}

func TestConcerns(t *testing.T) {
	for event, want := range map[string]bool{
		"add@/module/nvidia\x00ACTION=add\x00DEVPATH=/module/nvidia\x00SUBSYSTEM=module\x00SEQNUM=1\x00": true,
		"remove@/devices/pci0000:00/0000:00:01.0\x00SUBSYSTEM=pci\x00":                                   true,
		"add@/devices/virtual/net/brg0\x00ACTION=add\x00SUBSYSTEM=net\x00INTERFACE=brg0\x00":             false,
		"add@/devices/virtual/net/brg0/queues/rx-0\x00SUBSYSTEM=queues\x00":                              false,
		"what is this": true,
	} {
		if got := concerns([]byte(event)); got != want {
			t.Errorf("%q: %v", event, got)
		}
	}
}

// TestEvents: the socket is one that the kernel gives to whoever is in the host's network
// namespace; elsewhere there is the glance.
func TestEvents(t *testing.T) {
	socket, err := openEvents()
	if err != nil {
		t.Fatal(err)
	}
	if err := socket.Close(); err != nil {
		t.Error(err)
	}
}
