package crash

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"

	brigv1 "brig/nodeagent/api/brig/v1"
	testnode "brig/tests/node"
)

// TestBrigdStoreRefused: of a store that is cut short, damaged or of a later brig's,
// brigd says what to do and does nothing; what runs goes on; and a rebuild brings back
// every sandbox as it was.
func TestBrigdStoreRefused(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{})
	bystander := a.bystander(t)
	ended := a.made(t, &brigv1.CreateRequest{RequestId: "ended", Argv: []string{"sh", "-c", "exit 3"}})
	if err := doAwaitEnd(ask(t), a, ended, ""); err != nil {
		t.Fatal(err)
	}
	if err := doPolicy(ask(t), a, bystander, ""); err != nil {
		t.Fatal(err)
	}
	config, err := a.Config()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(config.StateDir, "brig.db")
	for name, c := range map[string]struct {
		damage func(t *testing.T)
		want   string
	}{
		"truncated": {func(t *testing.T) { truncate(t, path) }, "--rebuild-store"},
		"corrupt":   {func(t *testing.T) { scribble(t, path) }, "--rebuild-store"},
		"later":     {func(t *testing.T) { makeLater(t, path) }, "start that brig"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := a.Kill(); err != nil {
				t.Fatal(err)
			}
			c.damage(t)
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			r := testnode.Run(t, exec.CommandContext(t.Context(), filepath.Join(a.Bin, "brigd"), "--standalone", a.Dir))
			if r.Code != 78 || !strings.Contains(r.Stderr, c.want) || !strings.Contains(r.Stderr, "running sandboxes go on") || strings.Contains(r.Stdout, "ready") {
				t.Errorf("brigd on a store that is %s: %s", name, r)
			}
			if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
				t.Errorf("the store was changed (%v)", err)
			}
			a.rebuild(t)
			a.restart(t)
			a.unharmed(t, bystander)
			policyIsNew(t, a, bystander, "")
			endedBy(brigv1.Reason_REASON_EXITED, 3)(t, a, ended, "")
			again, err := a.make(ask(t), &brigv1.CreateRequest{RequestId: "ended", Argv: []string{"sh", "-c", "exit 3"}})
			if err != nil || again.GetId() != ended.GetId() {
				t.Errorf("the same request again: %v, %v", again, err)
			}
		})
	}
}

func (a *agent) rebuild(t *testing.T) {
	t.Helper()
	r := testnode.Run(t, exec.CommandContext(t.Context(), filepath.Join(a.Bin, "brigd"), "--config", filepath.Join(a.Dir, "config.toml"), "--rebuild-store"))
	if r.Code != 0 || !strings.Contains(r.Stdout, "records: 2\n") {
		t.Fatal(r)
	}
}

func truncate(t *testing.T, path string) {
	if err := os.Truncate(path, 10_000); err != nil {
		t.Fatal(err)
	}
}

// scribble over the middle of every value.
func scribble(t *testing.T, path string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = bytes.ReplaceAll(data, []byte(`"owner":0`), []byte(`"owner":9`))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func makeLater(t *testing.T, path string) {
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("meta")).Put([]byte("version"), []byte("3")) })
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}
