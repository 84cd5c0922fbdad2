package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
)

// ruleLines are of the whole rule set.
const ruleLines = "rule lines"

// measureLines counts the lines of the rule set, without the elements of its sets, with
// one sandbox and with o.full that all have the same policy.
func measureLines(ctx context.Context, n *networks, o options, _ *rand.Rand, _ io.Writer) ([]series, error) {
	if _, err := n.full(ctx); err != nil {
		return nil, err
	}
	return []series{
		{measure: ruleLines, variant: "1 sandbox", samples: []float64{float64(n.linesOfOne)}},
		{measure: ruleLines, variant: fmt.Sprintf("%d sandboxes", o.full), ours: true, samples: []float64{float64(n.linesOfAll)}},
	}, nil
}

// lines of everything that nft has in the node's transit namespace.
func (w *world) lines(ctx context.Context) (int, error) {
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", w.cfg.TransitName(), "nft", "--terse", "list", "ruleset")
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("list the rule set: %w", err)
	}
	return bytes.Count(out, []byte("\n")), nil
}
