package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// program is one that the node executed.
type program struct {
	name       string
	begin, end time.Time // end is zero while it runs
}

// programs are told by the kernel, which says when a process executes something and when
// it ends: what runsc does is seen by the programs that it starts.
type programs struct {
	bin    string // of this run's programs; others are somebody else's
	offset time.Duration
	done   chan struct{}

	mu   sync.Mutex // guards what follows
	list []*program
	runs map[uint32]*program
}

func watchPrograms(bin string) (*programs, error) {
	p := &programs{bin: bin, done: make(chan struct{}), runs: map[uint32]*program{}}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return nil, fmt.Errorf("read the clock: %w", err)
	}
	p.offset = time.Duration(time.Now().UnixNano() - now.Nano())
	events, failures := make(chan netlink.ProcEvent, 1024), make(chan error, 1)
	if err := netlink.ProcEventMonitor(events, p.done, failures); err != nil {
		return nil, fmt.Errorf("ask the kernel for the programs that start: %w", err)
	}
	go func() {
		for e := range events {
			p.take(e)
		}
	}()
	return p, nil
}

func (p *programs) take(e netlink.ProcEvent) {
	at := time.Unix(0, int64(e.Timestamp)).Add(p.offset)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case e.What == netlink.PROC_EVENT_EXEC:
		name, ours := p.name(e.Msg.Tgid())
		if !ours {
			return
		}
		p.runs[e.Msg.Tgid()] = &program{name: name, begin: at}
		p.list = append(p.list, p.runs[e.Msg.Tgid()])
	case e.What == netlink.PROC_EVENT_EXIT && e.Msg.Pid() == e.Msg.Tgid():
		if run := p.runs[e.Msg.Tgid()]; run != nil {
			run.end = at
			delete(p.runs, e.Msg.Tgid())
		}
	}
}

// verb of a program that does several things, in its arguments or its environment.
var verb = regexp.MustCompile(`\x00(?:CNI_COMMAND=)?(create|start|run|delete|kill|state|wait|boot|gofer|umount|restore|checkpoint|exec|ADD|DEL|GC)\x00`)

// awaited are the programs whose end somebody waits for before going on, and which are
// thus parts of what was asked.
var awaited = regexp.MustCompile(`^brig-cni|brig-v1 (start|delete)$|^runsc (start|delete|restore|checkpoint|kill|state)$`)

// name of the program and, where it has one, its verb. One that has ended when it is
// looked at is told by nothing but its being there, and left out.
func (p *programs) name(pid uint32) (name string, ours bool) {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || !strings.HasPrefix(exe, p.bin+"/") {
		return "", false
	}
	name = filepath.Base(exe)
	text := []byte{0}
	for _, of := range []string{"cmdline", "environ"} {
		data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, of))
		text = append(text, data...)
	}
	if found := verb.FindSubmatch(text); found != nil {
		name += " " + string(found[1])
	}
	return name, true
}

// spans of those that are awaited and have ended.
func (p *programs) spans() (list []span) {
	for _, run := range p.all() {
		if awaited.MatchString(run.name) && !run.end.IsZero() {
			list = append(list, span{name: "program: " + run.name, begin: run.begin, end: run.end})
		}
	}
	return list
}

func (p *programs) all() []program {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]program, len(p.list))
	for i, run := range p.list {
		list[i] = *run
	}
	return list
}

func (p *programs) close() { close(p.done) }
