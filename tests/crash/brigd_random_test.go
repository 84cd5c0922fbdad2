package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	brigv1 "brig/nodeagent/api/brig/v1"
	testnode "brig/tests/node"
)

// deaths of brigd under churn.
func deaths() int {
	if *long {
		return 1000
	}
	return *died
}

// TestBrigdKilledUnderChurn kills brigd at random moments while clients make, use and
// remove sandboxes. Whatever was acknowledged is there, once; nothing else is.
func TestBrigdKilledUnderChurn(t *testing.T) {
	t.Parallel()
	a := launchAgent(t, testnode.Options{Failpoints: true})
	bystander := a.bystander(t)
	c := &churn{a: a, made: map[string]string{}, stop: make(chan struct{})}
	rng := chance(t.Name())
	var clients sync.WaitGroup
	for i := range 3 {
		clients.Go(func() { c.client(i, chance(fmt.Sprint(t.Name(), i))) })
	}
	for range deaths() {
		time.Sleep(time.Duration(20+rng.IntN(1500)) * time.Millisecond)
		if err := a.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
	}
	close(c.stop)
	clients.Wait()
	for _, fault := range c.faults {
		t.Error(fault)
	}
	a.converges(t, patience)
	a.unharmed(t, bystander)
	c.settle(t)
	t.Logf("%d sandboxes made under %d deaths, %d of them there at the end", c.total, deaths(), len(c.made))
	if c.total == 0 {
		t.Error("no sandbox was made: brigd was hardly there")
	}
}

// churn is what the clients know.
type churn struct {
	a    *agent
	stop chan struct{}

	mu     sync.Mutex        // guards what follows
	made   map[string]string // acknowledged and not asked to be removed: key → id
	total  int
	faults []string
}

func (c *churn) fault(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// client makes sandboxes, uses each and removes most, with the patience of one whose
// node dies all the time: everything is asked for again until it is answered.
func (c *churn) client(i int, rng *rand.Rand) {
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		key := fmt.Sprintf("c%d-%d", i, n)
		id, ok := c.create(key)
		if !ok {
			return
		}
		if rng.IntN(2) == 0 {
			_ = c.a.runs(context.Background(), id) // it may be cut off
		}
		if rng.IntN(8) == 0 {
			c.mu.Lock()
			c.made[key] = id
			c.mu.Unlock()
			continue
		}
		if !c.again(func(ctx context.Context) error { return c.a.remove(ctx, id) }) {
			return
		}
	}
}

func (c *churn) create(key string) (id string, ok bool) {
	ok = c.again(func(ctx context.Context) error {
		s, err := c.a.make(ctx, &brigv1.CreateRequest{RequestId: key, Name: key})
		if err != nil {
			return err
		}
		if s.GetState() != brigv1.State_STATE_RUNNING {
			c.fault("create of %s answered with state %v: %v", key, s.GetState(), s.GetExit())
		}
		if id != "" && id != s.GetId() {
			c.fault("%s is both %s and %s", key, id, s.GetId())
		}
		id = s.GetId()
		return nil
	})
	if ok {
		c.mu.Lock()
		c.total++
		c.mu.Unlock()
	}
	return id, ok
}

// again until it succeeds; false: it never does.
func (c *churn) again(do func(context.Context) error) bool {
	var err error
	for deadline := time.Now().Add(3 * patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err = do(ctx)
		cancel()
		if err == nil {
			return true
		}
	}
	c.fault("asked for again and again: %v", err)
	return false
}

// settle compares what the clients know with what brigd says, and removes it.
func (c *churn) settle(t *testing.T) {
	t.Helper()
	res, err := c.a.Sandboxes.List(ask(t), connect.NewRequest(&brigv1.ListRequest{All: true}))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, s := range res.Msg.GetSandboxes() {
		listed[s.GetId()] = true
	}
	for key, id := range c.made {
		if !listed[id] {
			t.Errorf("%s (%s) was acknowledged and is lost", id, key)
		}
		delete(listed, id)
		if err := c.a.runs(ask(t), id); err != nil {
			t.Errorf("%s: %v", id, err)
		}
		if err := c.a.remove(ask(t), id); err != nil {
			t.Errorf("remove %s: %v", id, err)
		}
	}
	if len(listed) != 1 { // the bystander
		t.Errorf("%d sandboxes are listed beside those that clients know, want one: %v", len(listed), listed)
	}
	c.a.converges(t, patience)
}
