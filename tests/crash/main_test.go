// Package crash is hostile to the shim: it kills its parts at any moment, takes
// containerd away, asks for everything at once, goes away while output flows, sends
// what no client would send, and gives it disks that are full and a runsc that hangs.
//
// Whatever happened, four things are asked afterwards: did every call end in time,
// does containerd tell the true status, can what is left be deleted, and is nothing
// of it on the machine then (processes, mounts, cgroups, sockets, runsc's state).
//
// Moments are random; the seed is printed and can be given again with -seed. With
// -long, what is stepped is stepped more finely and what is waited for takes longer.
package crash

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"brig/internal/require"
	"brig/tests/census"
)

var (
	long = flag.Bool("long", false, "more moments, longer absences")
	died = flag.Int("deaths", 20, "of brigd under churn; -long: a thousand")
	seed = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the random moments")
)

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "6") // most of them wait most of the time; the command line may say otherwise
	flag.Parse()
	os.Exit(census.Around(func() int {
		fmt.Printf("moments from -seed %d\n", *seed)
		code := m.Run()
		if err := shared.close(); err != nil {
			fmt.Fprintln(os.Stderr, "end of the shared node:", err)
			code = max(code, 1)
		}
		return code
	}))
}

// shared is the node that most tests use.
var shared struct {
	once sync.Once
	*node
	err error
}

func (n *node) close() error {
	if n == nil {
		return nil
	}
	return n.stop()
}

// use returns the shared node, started by the first who asks.
func use(t *testing.T) *node {
	t.Helper()
	require.Net(t)
	require.Runsc(t)
	shared.once.Do(func() { shared.node, shared.err = newNode() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.node
}

// launch starts a node of the test's own.
func launch(t *testing.T) *node {
	t.Helper()
	require.Net(t)
	require.Runsc(t)
	n, err := newNode()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("containerd's last words:\n%s", n.log(60))
		}
		if err := n.stop(); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// chance is a source of moments of its own for each name.
func chance(name string) *rand.Rand {
	var sum uint64
	for _, c := range []byte(name) {
		sum = sum*131 + uint64(c)
	}
	return rand.New(rand.NewPCG(*seed, sum))
}
