package names

import (
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"brig/internal/netpolicy/nft"
	"brig/nodeagent/resolver"
)

// seats are the policies in force, from the node's book. A page is read when it is
// another file than before: a list of 100,000 ranges is not parsed for every question.
type seats struct {
	book nft.Book
	now  func() time.Duration

	mu    sync.Mutex // guards what follows
	pages map[netip.Addr]page
	prune int // at how many pages to look for those that are gone
}

type page struct {
	file fileID
	seat nft.Seat
}

// fileID differs between any two versions of a page, which is replaced as a whole.
type fileID struct {
	inode, device uint64
	size          int64
	modified      syscall.Timespec
}

const minPrune = 64

func newSeats(book nft.Book, now func() time.Duration) *seats {
	return &seats{book: book, now: now, pages: map[netip.Addr]page{}, prune: minPrune}
}

// Of returns the sandbox that has the address, under the policy in force. Whatever
// cannot be read is no policy.
func (s *seats) Of(source netip.Addr) (resolver.Sandbox, bool) {
	seat, ok := s.seat(source.Unmap())
	if !ok {
		return resolver.Sandbox{}, false
	}
	now := s.now()
	grant := seat.InForce(now)
	if grant == nil {
		return resolver.Sandbox{}, false
	}
	sandbox := resolver.Sandbox{Link: seat.Link, Policy: grant.Policy, Generation: grant.Generation}
	if seat.Lease != nil && grant.Generation == seat.Lease.Generation {
		sandbox.Lasts = seat.Lease.Until - now
	}
	return sandbox, true
}

func (s *seats) seat(source netip.Addr) (nft.Seat, bool) {
	file, err := s.look(source)
	s.mu.Lock()
	known, ok := s.pages[source]
	if err != nil {
		delete(s.pages, source)
	}
	s.mu.Unlock()
	if err != nil {
		return nft.Seat{}, false
	}
	if ok && known.file == file {
		return known.seat, true
	}
	// Looked at before it is read: at worst it is read once more.
	seat, err := s.book.ByAddress(source)
	if err != nil {
		return nft.Seat{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pages[source] = (page{file, seat}); len(s.pages) > s.prune {
		for a := range s.pages {
			if _, err := s.look(a); err != nil {
				delete(s.pages, a)
			}
		}
		s.prune = max(minPrune, 2*len(s.pages))
	}
	return seat, true
}

func (s *seats) look(source netip.Addr) (fileID, error) {
	var st syscall.Stat_t
	if !source.IsValid() {
		return fileID{}, os.ErrNotExist
	}
	if err := syscall.Stat(filepath.Join(string(s.book), source.String()), &st); err != nil {
		return fileID{}, err
	}
	return fileID{st.Ino, st.Dev, st.Size, st.Mtim}, nil
}
