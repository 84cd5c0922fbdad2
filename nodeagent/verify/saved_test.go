package verify

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"brig/internal/sandbox"
	"brig/nodeagent/record"
)

// TestUnfinished: what lies there of a brigd that died is a difference, unless something
// is being saved; what is whole is none.
func TestUnfinished(t *testing.T) {
	n := &node{records: []record.Record{{ID: id, State: sandbox.Exited, Clean: true}}}
	p := n.parts(t)
	for _, path := range []string{
		filepath.Join(p.Config.CheckpointsDir(), "1000", ".123"),
		filepath.Join(p.Config.CheckpointsDir(), "1000", "whole"),
		filepath.Join(p.Config.SnapshotsDir(), string(id)+"-1"),
		filepath.Join(p.Config.JournalDir(string(id)), "execs", "half"),
		filepath.Join(p.Config.JournalDir(string(id)), "execs", "whole", "note"),
		filepath.Join(p.Config.BindsDir(), string(id), "0"),
		p.Config.PhasesFile(p.Config.Containerd.Namespace, string(id)+".next"),
		filepath.Join(p.Config.SecretsDir(), string(id)),
		filepath.Join(p.Config.SecretsDir(), "key"),
	} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	always := []string{
		"+ binds " + string(id) + " RUN/binds/" + string(id),
		"+ half-made exec " + string(id) + " half",
		"+ phases " + string(id) + " RUN/phases/" + p.Config.Containerd.Namespace + "/" + string(id) + ".next",
		"+ secrets " + string(id) + " RUN/secrets/" + string(id),
	}
	for _, c := range []struct {
		saving bool
		want   []string
	}{
		{true, always},
		{false, append(always,
			"+ unfinished checkpoint STATE/checkpoints/1000/.123",
			"+ unfinished snapshot "+string(id)+" STATE/snapshots/"+string(id)+"-1")},
	} {
		n.saving = c.saving
		r, err := Run(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		short := strings.NewReplacer(p.Config.RunDir, "RUN", p.Config.StateDir, "STATE")
		for i := range r.Differences {
			r.Differences[i] = short.Replace(r.Differences[i])
		}
		if diff := cmp.Diff(c.want, r.Differences); diff != "" {
			t.Errorf("saving is %v (-want +got):\n%s", c.saving, diff)
		}
	}
}
