package engine

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// What is remembered is bounded, and nobody who gets it changes it for the next.
func TestPrograms(t *testing.T) {
	e := &Engine{programs: map[digest.Digest]imageProgram{}}
	of := func(i int) digest.Digest { return digest.FromString(fmt.Sprint(i)) }
	for i := range 3 * maxPrograms {
		e.remember(of(i), func(p *imageProgram) { p.parent = fmt.Sprint(i) })
		e.remember(of(i), func(p *imageProgram) { p.process = &specs.Process{Env: []string{"A=1"}} })
		if p := e.program(of(i)); p.parent != fmt.Sprint(i) || p.process == nil {
			t.Fatalf("%d is remembered as %+v", i, p)
		}
	}
	if n := len(e.programs); n > maxPrograms {
		t.Errorf("%d are remembered; want at most %d", n, maxPrograms)
	}
	last := e.program(of(3*maxPrograms - 1)).process
	mine := copied(last)
	mine.Env = append(mine.Env[:0], "A=2")
	if last.Env[0] != "A=1" {
		t.Error("what one sandbox changes is another's")
	}
}
