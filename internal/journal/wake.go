package journal

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// look is how often a file is looked at for which the kernel has no watch left
// (fs.inotify.max_user_instances, max_user_watches).
const look = 20 * time.Millisecond

// waker wakes those who wait for a change of a file. It is one inotify instance, open
// while anybody uses it: a user's instances are few. A watch is for one event: writes that
// nobody waits for cost nothing, and nobody is told of a change twice.
type waker struct {
	mu      sync.Mutex
	users   int
	inotify *os.File                         // nil: not open
	waiting map[int32]map[chan struct{}]bool // by watch descriptor
}

// wakes is the process's.
var wakes waker

// user is one who waits now and then. The zero value has not waited yet.
type user struct{ using, closed bool } // guarded by wakes.mu

// arm returns a channel that is closed at the next change of f, or somewhat later, or
// for no reason. What is to be waited for is looked at after arming. disarm must be called.
func (u *user) arm(f *os.File) (wake <-chan struct{}, disarm func()) {
	wakes.mu.Lock()
	defer wakes.mu.Unlock()
	if !u.using && !u.closed {
		u.using = true
		wakes.users++
	}
	return wakes.arm(f)
}

// close is the end of waiting.
func (u *user) close() {
	wakes.mu.Lock()
	defer wakes.mu.Unlock()
	u.closed = true
	if !u.using {
		return
	}
	u.using = false
	if wakes.users--; wakes.users == 0 && wakes.inotify != nil {
		wakes.inotify.Close()
		wakes.inotify = nil
	}
}

// arm is called with the lock.
func (w *waker) arm(f *os.File) (<-chan struct{}, func()) {
	wake := make(chan struct{})
	wd, err := w.watch(f)
	if err != nil {
		timer := time.AfterFunc(look, func() { close(wake) })
		return wake, func() { timer.Stop() }
	}
	if w.waiting[wd] == nil {
		w.waiting[wd] = map[chan struct{}]bool{}
	}
	w.waiting[wd][wake] = true
	return wake, func() { w.disarm(wd, wake) }
}

// watch is called with the lock, so that no event is handled before its waiter is known.
func (w *waker) watch(f *os.File) (wd int32, err error) {
	if w.users == 0 {
		return 0, os.ErrClosed
	}
	if w.inotify == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return 0, err
		}
		w.inotify = os.NewFile(uintptr(fd), "inotify")
		w.waiting = map[int32]map[chan struct{}]bool{}
		go w.listen(w.inotify)
	}
	err = control(w.inotify, func(inotify int) error {
		return control(f, func(fd int) error {
			// By descriptor: the path may name another file by now.
			n, err := unix.InotifyAddWatch(inotify, fmt.Sprintf("/proc/self/fd/%d", fd), unix.IN_MODIFY|unix.IN_ATTRIB|unix.IN_ONESHOT)
			wd = int32(n)
			return err
		})
	})
	return wd, err
}

func (w *waker) disarm(wd int32, wake chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.waiting[wd][wake] {
		return // it was woken
	}
	delete(w.waiting[wd], wake)
	if len(w.waiting[wd]) > 0 || w.inotify == nil {
		return
	}
	delete(w.waiting, wd)
	_ = control(w.inotify, func(inotify int) error { // an error: the event is on its way
		_, err := unix.InotifyRmWatch(inotify, uint32(wd))
		return err
	})
}

// listen hands on what one instance tells until it is closed.
func (w *waker) listen(inotify *os.File) {
	buf := make([]byte, 64*unix.SizeofInotifyEvent)
	for {
		n, err := inotify.Read(buf)
		if err != nil {
			return
		}
		w.mu.Lock()
		for p := buf[:n]; len(p) >= unix.SizeofInotifyEvent; p = p[unix.SizeofInotifyEvent:] { // watches of files have no names
			w.tell(int32(binary.NativeEndian.Uint32(p)), binary.NativeEndian.Uint32(p[4:]))
		}
		w.mu.Unlock()
	}
}

// tell wakes the waiters of a watch. That it is gone (IN_IGNORED) wakes them too: an arm
// may have met it between its event and its end. Those of a queue that overflowed are
// unknown, so all are woken.
func (w *waker) tell(wd int32, mask uint32) {
	if mask&unix.IN_Q_OVERFLOW != 0 {
		for wd := range w.waiting {
			w.tell(wd, 0)
		}
		return
	}
	for wake := range w.waiting[wd] {
		close(wake)
	}
	delete(w.waiting, wd)
}
