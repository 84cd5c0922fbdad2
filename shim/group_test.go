package shim

import (
	"os"
	"path/filepath"
	"testing"

	"brig/shim/bundle"
)

func TestPodOf(t *testing.T) {
	for _, c := range []struct {
		config, pod string
		bad         bool
	}{
		{config: `{}`},
		{config: `{"annotations":{"io.kubernetes.cri.container-type":"sandbox","io.kubernetes.cri.sandbox-id":"p"}}`},
		{config: `{"annotations":{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"p"}}`, pod: "p"},
		{config: `{"annotations":{"io.kubernetes.cri.sandbox-id":"p"}}`},
		{config: `{"annotations":{"io.kubernetes.cri.container-type":"container"}}`}, // refused by its create
		{config: `{"annotations":7}`, bad: true},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(c.config), 0o600); err != nil {
			t.Fatal(err)
		}
		if pod, err := podOf(bundle.Bundle(dir)); pod != c.pod || (err != nil) != c.bad {
			t.Errorf("%s: %q, %v", c.config, pod, err)
		}
	}
	if pod, err := podOf(bundle.Bundle(t.TempDir())); pod != "" || err != nil {
		t.Errorf("without a spec: %q, %v", pod, err)
	}
}
