// Package census tells what brig, its programs and the kernel hold on a machine,
// as lines of text, so that a suite can compare before with after and fail when
// it left something behind. It reads only, and only what brig or its tests could
// have made: a line that is not brig's is there because brig could have changed
// it (a route, a sysctl).
//
// The kernel takes network namespaces and their links away in the background, so
// Settle waits a few seconds for what should go.
package census

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// Census is a set of lines such as "netns brig-1a2b3c4d".
type Census map[string]bool

// parts lists what is counted; each adds its lines.
var parts = []func(Census) error{
	processes, namespaces, links, routes, tables, mounts, cgroups, sockets, files, sysctls,
}

// Take counts everything. It needs root.
func Take() (Census, error) {
	awaitReapers()
	c := Census{}
	for _, part := range parts {
		if err := part(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c Census) add(kind string, words ...string) {
	c[kind+" "+strings.Join(words, " ")] = true
}

// String is the census as text, sorted.
func (c Census) String() string {
	return strings.Join(slices.Sorted(maps.Keys(c)), "\n") + "\n"
}

// Diff lists what after has more ("+ ") and less ("- ") than before; empty if
// they are equal.
func Diff(before, after Census) string {
	var lines []string
	for line := range after {
		if !before[line] {
			lines = append(lines, "+ "+line+"\n")
		}
	}
	for line := range before {
		if !after[line] {
			lines = append(lines, "- "+line+"\n")
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return strings.Join(lines, "")
}

// Settle takes the census until it equals before or patience is over, and
// returns what differs then.
func Settle(ctx context.Context, before Census, patience time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		after, err := Take()
		if err != nil {
			return "", err
		}
		diff := Diff(before, after)
		if diff == "" {
			return "", nil
		}
		select {
		case <-ctx.Done():
			return diff, nil
		case <-tick.C:
		}
	}
}

// Patience is how long a suite waits for the kernel and for processes that end.
const Patience = 10 * time.Second

// Around runs a suite between two censuses and returns its exit status, which is
// not zero if something is left. run is m.Run of a TestMain, followed by whatever
// takes down what the suite's tests share. Without root it only runs.
func Around(run func() int) int {
	if os.Geteuid() != 0 {
		return run()
	}
	before, err := Take()
	if err != nil {
		fmt.Fprintln(os.Stderr, "census before:", err)
		return 1
	}
	code := run()
	diff, err := Settle(context.Background(), before, Patience)
	if err != nil {
		fmt.Fprintln(os.Stderr, "census after:", err)
		return 1
	}
	if diff != "" {
		fmt.Fprintf(os.Stderr, "the suite left the machine different:\n%s", diff)
		return max(code, 1)
	}
	return code
}
