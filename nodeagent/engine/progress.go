package engine

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// meterEvery is how often a pull tells how far it is.
const meterEvery = 200 * time.Millisecond

// meter measures a pull: what it has to fetch becomes known as its handler sees it,
// what has arrived is asked of the content store.
type meter struct {
	store  content.Store
	report func(done, total uint64)

	mu   sync.Mutex // guards seen
	seen map[digest.Digest]int64
}

func newMeter(store content.Store, report func(done, total uint64)) *meter {
	return &meter{store: store, report: report, seen: map[digest.Digest]int64{}}
}

// see is called for every part of the image before it is fetched.
func (m *meter) see(_ context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen[d.Digest] = d.Size
	return nil, nil
}

// run reports until the returned function is called, and once more then.
func (m *meter) run(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(meterEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				m.tell(ctx)
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
		m.tell(context.WithoutCancel(ctx))
	}
}

func (m *meter) tell(ctx context.Context) {
	active := map[int64]int64{} // by size: an ingest does not name its digest
	if list, err := m.store.ListStatuses(ctx); err == nil {
		for _, s := range list {
			active[s.Total] += s.Offset
		}
	}
	m.mu.Lock()
	seen := make(map[digest.Digest]int64, len(m.seen))
	for d, n := range m.seen {
		seen[d] = n
	}
	m.mu.Unlock()
	var done, total int64
	for d, n := range seen {
		total += n
		if _, err := m.store.Info(ctx, d); err == nil {
			done += n
		} else if errdefs.IsNotFound(err) {
			done += min(active[n], n)
			active[n] -= min(active[n], n)
		}
	}
	m.report(uint64(done), uint64(total))
}
