package main

import (
	"context"
	"fmt"
)

// measuring is what a measure does.
type measuring func(context.Context, *session, options) ([]series, error)

// entry is a measure: what it is called, how often it is taken of every variant, what
// takes it, and what is claimed of it. To add one is to add it here.
type entry struct {
	name        string
	full, quick int // rounds
	run         measuring
	claims      []claim
}

// The names that claims and measures share.
const (
	created     = "create → first output"
	wholeLife   = "life through brigd"
	execed      = "exec round trip"
	execRate    = "exec rate, two at once for each core"
	overhead    = "exec: API overhead"
	stdout      = "exec: stdout throughput"
	lifeRate    = "create rate, two at once for each core"
	restored    = "Python holding 64 MiB → first output"
	answers     = "restart: API answers"
	reconciled  = "restart: reconciled"
	resident    = "restart: resident memory"
	tunnelIn    = "tunnel: throughput in"
	tunnelOut   = "tunnel: throughput out"
	tunnelAdded = "tunnel: added round trip"
)

// The variants that claims name.
const (
	raw         = "runsc run"
	gvisorShim  = "gVisor's shim"
	gvisorCNI   = "gVisor's shim, ptp + host-local"
	runcShim    = "runc shim"
	brigShim    = "brig shim"
	throughAPI  = "brigd: network, policy, journal"
	brigd       = "brigd"
	pooled      = "brigd, from the pool"
	pooledEmpty = "brigd, the pool is empty"

	brigdRestored = "brigd, restored"
	brigdHeld     = "brigd, restored from the pool"
	rawPipe       = "a raw pipe"
	dialled       = "dialled directly"
	throughTunnel = "through the tunnel"
	addDeny       = "brig-cni, deny"
	addPolicy     = "brig-cni with a policy"
	addUpstream   = "ptp, host-local, firewall"
	unruled       = "no rules"
)

// table of all measures, in the order in which they are taken and reported. A full run
// takes some 18 minutes; each report tells the seconds of each.
func table(o options) []entry {
	last := fmt.Sprintf("at %d", o.largest())
	return []entry{
		{name: created, full: 100, quick: 5, run: measureCreate, claims: []claim{
			{says: "cold create, through containerd", ours: brigShim, peer: gvisorShim, must: atMost(0.75)},
			{says: "cold create, through brigd with network and policy", ours: throughAPI, peer: gvisorCNI, must: atMost(0.6)},
			{says: "create from the pool, through brigd", ours: pooled, peer: gvisorShim, must: atMost(0.35)},
			{says: "create from the pool, through brigd", ours: pooled, peer: runcShim, must: atMost(1.0)},
			{says: "create, the pool is empty", ours: pooledEmpty, peer: throughAPI},
			{says: "cold create, through containerd", ours: brigShim, peer: runcShim},
			{says: "cold create, through containerd", ours: brigShim, peer: raw},
			{says: "cold create, through brigd with network and policy", ours: throughAPI, peer: runcShim},
		}},
		{name: wholeLife, full: 200, quick: 10, run: onNode(measureLife), claims: []claim{
			{says: "create one at a time, p99 / p50", of: lifeCreate, ours: brigd, stat: tailOverMedian, must: atMost(2.0)},
			{says: "delete returned → nothing left, p99", of: lifeGone, ours: brigd, stat: tail, unit: "ms", must: atMost(250)},
			{says: "delete, p99", of: lifeDelete, ours: brigd, stat: tail, unit: "ms"},
		}},
		{name: execed, full: 200, quick: 20, run: onNode(measureExec), claims: []claim{
			{says: "exec round trip", ours: brigd, peer: gvisorShim, must: atMost(0.4)},
			{says: "exec round trip", ours: brigd, peer: runcShim, must: atMost(0.6)},
		}},
		{name: execRate, full: 12, quick: 3, run: onNode(measureExecRate), claims: []claim{
			{says: "exec rate", ours: brigd, peer: gvisorShim, must: atLeast(4)},
			{says: "exec rate", ours: brigd, peer: runcShim},
		}},
		{name: overhead, full: 50, quick: 10, run: onNode(measureOverhead), claims: []claim{
			{says: "exec, what the API adds", of: overhead + ", added", ours: brigd, stat: middle, unit: "ms", must: atMost(3)},
		}},
		{name: stdout, full: 20, quick: 5, run: onNode(measureOutput), claims: []claim{
			{says: "an exec's stdout", ours: brigd, peer: rawPipe, must: atLeast(0.7)},
		}},
		{name: restored, full: 30, quick: 3, run: measureRestore, claims: []claim{
			{says: "restore → first output, against the cold start", ours: brigdHeld, peer: brigd, must: atMost(0.4)},
			{says: "restore → first output, none waits, against the cold start", ours: brigdRestored, peer: brigd},
		}},
		{name: lifeRate, full: 6, quick: 2, run: measureRate, claims: []claim{
			{says: "create rate at saturation", ours: throughAPI, peer: gvisorShim, must: atLeast(2)},
			{says: "create rate at saturation, without a network", ours: brigShim, peer: gvisorShim},
			{says: "create rate at saturation, from the pool and filling it", ours: pooled, peer: gvisorShim},
			{says: "create rate at saturation", ours: throughAPI, peer: runcShim},
		}},
		{name: "time to interactive", full: 1, quick: 1, run: measureInteractive, claims: []claim{
			{says: fmt.Sprintf("burst of %d, create → first command", o.burst), of: interactive("burst"), ours: throughAPI, peer: gvisorShim},
			{says: fmt.Sprintf("burst of %d, create → first command", o.burst), of: interactive("burst"), ours: throughAPI, peer: runcShim},
		}},
		{name: "idle sandboxes", full: 1, quick: 1, run: onNode(measureDensity), claims: densityClaims(o)},
		{name: "idle cost of the pool", full: 1, quick: 1, run: measurePoolCost, claims: []claim{
			{says: "what waits in the pool, each", of: poolCost("memory"), ours: pooled, stat: middle, unit: "MiB"},
		}},
		{name: "how cost grows", full: 20, quick: 4, run: onNode(measureGrowth), claims: append([]claim{
			{says: "restart, API answers, " + last, of: answers, ours: last, stat: middle, unit: "ms", must: atMost(1000)},
			{says: "restart, reconciled, " + last, of: reconciled, ours: last, stat: middle, unit: "ms", must: atMost(5000)},
			{says: "brigd's resident memory, " + last, of: resident, ours: last, stat: middle, unit: "MiB", must: atMost(60)},
		}, growthClaims(o)...)},
		{name: "how the store's cost grows", full: 50, quick: 10, run: measureRecords, claims: recordClaims(o)},
		{name: "tunnel: throughput", full: 20, quick: 3, run: onNode(measureTunnelThroughput), claims: []claim{
			{says: "raw tunnel, into the sandbox", of: tunnelIn, ours: throughTunnel, peer: dialled, must: atLeast(0.85)},
			{says: "raw tunnel, out of it", of: tunnelOut, ours: throughTunnel, peer: dialled, must: atLeast(0.85)},
		}},
		{name: "tunnel: round trip, and what it adds", full: 40, quick: 5, run: onNode(measureTunnelRoundTrip), claims: []claim{
			{says: "raw tunnel, added round trip", of: tunnelAdded, ours: "raw TCP", stat: middle, unit: "µs", must: atMost(80)},
		}},
		{name: "network: ADD beside upstream", full: 50, quick: 5, run: onNetworks(measureAdd), claims: []claim{
			{says: "ADD, deny", of: addName(o), ours: addDeny, peer: addUpstream, must: atMost(0.5)},
			{says: "ADD, deny", of: addName(o), ours: addDeny, stat: middle, unit: "ms", must: atMost(8)},
			{says: "ADD, deny, p99", of: addName(o), ours: addDeny, stat: tail, unit: "ms", must: atMost(15)},
			{says: "ADD with a policy", of: addName(o), ours: addPolicy, peer: addUpstream, must: atMost(0.5)},
		}},
		{name: "network: ADD as the node fills", full: 25, quick: 5, run: onNetworks(measureAddFull), claims: []claim{
			{says: fmt.Sprintf("ADD at %d attachments, against at %d", o.full, o.few), of: addFills, ours: fmt.Sprintf("at %d", o.full), peer: fmt.Sprintf("at %d", o.few), must: atMost(1.5)},
		}},
		{name: "network: bind", full: 25, quick: 5, run: onNetworks(measureBind), claims: []claim{
			{says: "bind an existing policy", of: bindName(o), ours: "bind, a list of 3", stat: middle, unit: "µs", must: atMost(1000)},
		}},
		{name: "network: load", full: 15, quick: 3, run: onNetworks(measureLoad), claims: []claim{
			{says: loadName(o), of: loadName(o), ours: loadWhat, stat: middle, unit: "ms", must: atMost(1000)},
		}},
		{name: "network: round trip", full: 50, quick: 5, run: onNetworks(measureRoundTrip), claims: []claim{
			{says: placements[0].name, of: placements[0].name, ours: ruled(o), peer: unruled, must: atMost(1.1)},
			{says: placements[1].name, of: placements[1].name, ours: ruled(o), peer: unruled, must: atMost(1.1)},
		}},
		{name: "network: TCP", full: 10, quick: 2, run: onNetworks(measureThroughput), claims: []claim{
			{says: directions[0].name, of: directions[0].name, ours: ruled(o), peer: unruled, must: atLeast(0.95)},
			{says: directions[1].name, of: directions[1].name, ours: ruled(o), peer: unruled, must: atLeast(0.95)},
		}},
		{name: "network: rule lines", full: 1, quick: 1, run: onNetworks(measureLines), claims: []claim{
			{says: fmt.Sprintf("rule lines, %d sandboxes against 1", o.full), of: ruleLines, ours: fmt.Sprintf("%d sandboxes", o.full), peer: "1 sandbox", must: atMost(1)},
		}},
	}
}
