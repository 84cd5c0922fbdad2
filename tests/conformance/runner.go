package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// outcome of a test.
type outcome string

const (
	passed  outcome = "pass"
	failed  outcome = "FAIL"
	hung    outcome = "HANG"
	skipped outcome = "skip"
)

// result is what became of one test.
type result struct {
	name    string
	outcome outcome
	reached bool // the shim of the runtime under test
	took    time.Duration
	reason  []string // the first complaints
}

// runner runs tests of the suite, each in a cell.
type runner struct {
	suite    suite
	runtime  string
	bin      string
	patience time.Duration
	logs     string
	// exceptions are not worth patience.
	exceptions []exception
}

// brief is what an exception has to fail in, or not to end in.
const brief = 20 * time.Second

// runAll runs jobs tests at once and tells out of each as it ends. Results are in
// the order of names.
func (r runner) runAll(ctx context.Context, names []string, jobs int, out io.Writer) ([]result, error) {
	if err := errors.Join(os.RemoveAll(r.logs), os.MkdirAll(r.logs, 0o755)); err != nil {
		return nil, err
	}
	results, errs := make([]result, len(names)), make([]error, len(names))
	var mu sync.Mutex // guards out
	var wg sync.WaitGroup
	next := make(chan int)
	for range jobs {
		wg.Go(func() {
			runtime.LockOSThread() // a cell dies with the thread that made it
			for i := range next {
				results[i], errs[i] = r.run(ctx, names[i])
				mu.Lock()
				fmt.Fprintln(out, results[i])
				mu.Unlock()
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	wg.Wait()
	return results, errors.Join(append(errs, ctx.Err())...)
}

// run runs one test to its end or past patience.
func (r runner) run(ctx context.Context, name string) (result, error) {
	patience := r.patience
	if slices.ContainsFunc(r.exceptions, func(e exception) bool { return e.test == name }) {
		patience = min(patience, brief)
	}
	log, err := os.Create(filepath.Join(r.logs, name+".log"))
	if err != nil {
		return result{}, err
	}
	defer log.Close()
	reached, told, err := os.Pipe()
	if err != nil {
		return result{}, err
	}
	defer reached.Close()
	// The suite's own limit comes first, since it shows where the test hangs.
	ctx, cancel := context.WithTimeout(ctx, patience+10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", cellVerb, r.runtime, r.bin, r.suite.dir,
		"-test.v", "-test.root", "-test.parallel", "1", "-test.timeout", patience.String(), "-test.run", "^"+name+"$")
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = log, log, []*os.File{told}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	began := time.Now()
	err = cmd.Run()
	res := result{name: name, took: time.Since(began)}
	_ = told.Close()
	if n, _ := reached.Read(make([]byte, 1)); n > 0 {
		res.reached = true
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return res, fmt.Errorf("%s: %w", name, err)
	}
	text, errRead := os.ReadFile(log.Name())
	res.outcome, res.reason = judge(string(text), err == nil, ctx.Err() != nil)
	return res, errRead
}

var complaint = regexp.MustCompile(`^\s+(\w+_test\.go:\d+: .*|Error:.*|Messages:.*)`)

// judge reads what a test wrote.
func judge(text string, succeeded, killed bool) (outcome, []string) {
	var reasons []string
	o := failed
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "panic: test timed out"):
			return hung, reasons
		case succeeded && strings.HasPrefix(line, "--- PASS: "):
			return passed, nil
		case strings.HasPrefix(line, "--- SKIP: "):
			o = skipped
		case strings.HasPrefix(line, "cell: "), strings.HasPrefix(line, "panic: "):
			reasons = append(reasons, line)
		case complaint.MatchString(line):
			reasons = append(reasons, strings.TrimSpace(line))
		}
	}
	if killed {
		o = hung
	}
	return o, reasons[:min(len(reasons), 6)]
}

// String is one line, and the reasons below it.
func (r result) String() string {
	mark := " "
	if r.reached {
		mark = "*"
	}
	s := fmt.Sprintf("%s %s %-45s %6.1f s", r.outcome, mark, r.name, r.took.Seconds())
	for _, reason := range r.reason {
		s += "\n        " + reason
	}
	return s
}
