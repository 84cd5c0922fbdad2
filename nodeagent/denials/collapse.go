package denials

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// window in which denials alike are one.
	window = time.Second
	// maxApart denials of one link within a window are told apart.
	maxApart = 16
	// maxLinks have a window at once; of further ones only the counts are kept.
	maxLinks = 4096
	// maxName is the longest that a DNS name can be.
	maxName = 253
)

// alike is what makes two denials one. The source port is not in it: each try has
// another one.
type alike struct {
	reason Reason
	flow   Flow
	name   string
}

// recent are the denials of one link in its present window.
type recent struct {
	// apart holds what came after the first of each kind, which was passed on at once.
	apart map[alike]*Denial
	more  Denial
}

// take collapses a denial, and passes it on if it is the first of its kind.
func (w *Watcher) take(d Denial) {
	if !slices.Contains(reasons, d.Reason) {
		d.Reason = Other
	}
	if w.cfg.Count != nil {
		w.cfg.Count(d.Reason)
	}
	if d.Name == "" && d.Dst.IsValid() {
		d.Name = w.names.Of(d.Link, d.Dst)
	}
	if w.isFirst(d) {
		w.cfg.Sink(d)
	}
}

func (w *Watcher) isFirst(d Denial) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count(d.Link, d.Reason)
	r := w.recent[d.Link]
	if r == nil {
		if len(w.recent) >= maxLinks {
			return false
		}
		r = &recent{apart: map[alike]*Denial{}}
		w.recent[d.Link] = r
	}
	key := alike{d.Reason, d.Flow, d.Name}
	key.flow.SrcPort = 0
	if same, ok := r.apart[key]; ok {
		d.Count += same.Count
		*same = d
		return false
	}
	if len(r.apart) >= maxApart {
		r.more = Denial{At: d.At, Link: d.Link, Reason: More, Count: r.more.Count + 1}
		return false
	}
	first := d
	first.Count = 0
	r.apart[key] = &first
	return true
}

// flush passes on what was held back, and begins new windows.
func (w *Watcher) flush() {
	w.mu.Lock()
	ended := w.recent
	w.recent = map[string]*recent{}
	w.mu.Unlock()
	for _, r := range ended {
		for _, d := range r.apart {
			if d.Count > 0 {
				w.cfg.Sink(*d)
			}
		}
		if r.more.Count > 0 {
			w.cfg.Sink(r.more)
		}
	}
}

// collapse flushes until ctx ends, and once more then.
func (w *Watcher) collapse(ctx context.Context) {
	tick := time.NewTicker(window)
	defer tick.Stop()
	defer w.flush()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.flush()
		}
	}
}

// printable keeps a sandbox's bytes on one line of bounded length.
func printable(name string) string {
	if len(name) > maxName {
		name = name[:maxName]
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || r == utf8.RuneError {
			return '?'
		}
		return r
	}, name)
}
