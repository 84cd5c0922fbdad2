// Brig-probe runs inside a sandbox that the doctor made, as its only program, and
// tries there what the doctor tells it:
//
//	brig-probe try PLAN          makes the tries of a plan (JSON) and prints the outcomes
//	brig-probe flow PLAN         holds one connection for a while and prints what it saw
//	brig-probe serve ADDR WORD   greets whoever connects, for ever
//
// See brig/nodeagent/doctor/probe. It belongs to no user: `brig doctor net` runs it.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"brig/nodeagent/doctor/probe"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "brig-probe:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "try":
		var plan probe.Plan
		if err := json.Unmarshal([]byte(args[1]), &plan); err != nil {
			return fmt.Errorf("read the plan: %w", err)
		}
		return probe.Run(plan, out)
	case len(args) == 2 && args[0] == "flow":
		var plan probe.FlowPlan
		if err := json.Unmarshal([]byte(args[1]), &plan); err != nil {
			return fmt.Errorf("read the plan: %w", err)
		}
		return probe.Flow(plan, out)
	case len(args) == 3 && args[0] == "serve":
		return probe.Serve(args[1], args[2])
	}
	return fmt.Errorf("usage: brig-probe try PLAN | flow PLAN | serve ADDRESS WORD")
}
