package gpu

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"brig/tests/node"
)

func minor(n int) string { return strconv.Itoa(n) }

// TestVectorAdd: a CUDA program computes inside what it computes outside.
func TestVectorAdd(t *testing.T) {
	f := use(t)
	if r := f.outside(t, "add"); r.Code != 0 {
		t.Fatalf("outside: %s", r)
	}
	for _, g := range f.gpus {
		if r := f.Try(t, "run", "--gpu", g.UUID, image, "--", "cuda-check", "add"); r.Code != 0 || r.Stdout != "1048576 sums are right\n" {
			t.Errorf("GPU %s: %s", g.UUID, r)
		}
	}
}

// returned is how soon a GPU must be another's.
const returned = 5 * time.Second

// TestKilledInMidKernel: a sandbox that dies while its kernel runs gives the GPU back, to
// brigd and to the driver, whoever has killed it.
func TestKilledInMidKernel(t *testing.T) {
	f := use(t)
	gpu := f.gpus[0].UUID
	for name, kill := range map[string]func(*testing.T, string){
		"removed":       func(t *testing.T, id string) { f.Brig(t, "rm", "--force", id) },
		"sentry killed": func(t *testing.T, id string) { killSentry(t, id) },
	} {
		t.Run(name, func(t *testing.T) {
			id := f.Create(t, "--gpu", gpu, image, "--", "cuda-check", "spin")
			eventually(t, time.Minute, func() error {
				if r := f.Try(t, "logs", id); !strings.Contains(r.Stdout, "spinning") {
					return fmt.Errorf("the kernel does not run: %s", r)
				}
				return nil
			})
			begun := time.Now()
			kill(t, id)
			var next string
			eventually(t, returned, func() error {
				r := f.Try(t, "create", "--gpu", gpu, image)
				if r.Code != 0 {
					return errors.New(r.String())
				}
				next = r.Stdout[strings.LastIndex(strings.TrimSpace(r.Stdout), "\n")+1:]
				return nil
			})
			next = strings.TrimSpace(next)
			t.Cleanup(func() { f.Try(t, "rm", "--force", next) })
			if took := time.Since(begun); took > returned {
				t.Errorf("another sandbox had the GPU after %v, want %v", took, returned)
			} else {
				t.Logf("another sandbox had the GPU after %v", took.Round(time.Millisecond))
			}
			if r := f.Try(t, "exec", next, "--", "cuda-check", "add"); r.Code != 0 {
				t.Errorf("and it does not work: %s", r)
			}
		})
	}
}

// killSentry ends the process in which the sandbox's kernel is.
func killSentry(t *testing.T, id string) {
	t.Helper()
	found, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range found {
		text, _ := os.ReadFile(path)
		args := bytes.Split(text, []byte{0})
		has := func(word string) bool {
			return slices.ContainsFunc(args, func(a []byte) bool { return string(a) == word })
		}
		if has("boot") && has(id) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("found no sentry")
}

// Of the matrix product, and how much of the host's speed a sandbox must have.
const (
	size, times, rounds = "4096", "20", 5
	fraction            = 0.97
)

// TestProduct compares the same program inside and outside, by turns, so that both meet
// the same clocks. The medians count.
func TestProduct(t *testing.T) {
	f := use(t)
	id := f.Create(t, "--gpu", f.gpus[0].UUID, image)
	var inside, outside []float64
	for range rounds {
		outside = append(outside, speed(t, f.outside(t, "product", size, times)))
		inside = append(inside, speed(t, f.Try(t, "exec", id, "--", "cuda-check", "product", size, times)))
	}
	slices.Sort(inside)
	slices.Sort(outside)
	in, out := inside[rounds/2], outside[rounds/2]
	t.Logf("inside %.0f GFLOP/s (%v), outside %.0f (%v): %.3f", in, inside, out, outside, in/out)
	if in < fraction*out {
		t.Errorf("inside %.0f GFLOP/s, outside %.0f: want %.2f of it", in, out, fraction)
	}
}

func speed(t *testing.T, r node.Result) float64 {
	t.Helper()
	n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(r.Stdout), " GFLOP/s"), 64)
	if err != nil || r.Code != 0 || n <= 0 {
		t.Fatal(r)
	}
	return n
}

// TestCheckpointIsRefused: by name, and the sandbox goes on computing.
func TestCheckpointIsRefused(t *testing.T) {
	f := use(t)
	id := f.Create(t, "--gpu", f.gpus[0].UUID, image)
	r := f.Try(t, "checkpoint", id, "gpu-check")
	if r.Code == 0 || !strings.Contains(r.Stderr, "GPU") {
		t.Errorf("want a refusal: %s", r)
	}
	if r := f.Try(t, "exec", id, "--", "cuda-check", "add"); r.Code != 0 {
		t.Errorf("afterwards: %s", r)
	}
	if r := f.Try(t, "snapshot", id, "brig.test/gpu-snapshot:1"); r.Code != 0 {
		t.Errorf("of its files there can be a snapshot: %s", r)
	}
	f.Try(t, "image", "rm", "brig.test/gpu-snapshot:1")
}
