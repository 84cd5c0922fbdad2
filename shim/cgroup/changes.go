package cgroup

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// changeable are the fields that Update changes, by their sections.
var changeable = map[string][]string{
	"cpu":    {"shares", "quota", "period", "cpus", "mems"},
	"memory": {"limit", "swap", "reservation", "checkBeforeUpdate"},
	"unified": {
		"cpu.weight", "cpu.max", "cpuset.cpus", "cpuset.mems",
		"memory.min", "memory.low", "memory.high", "memory.max", "memory.swap.max",
	},
}

// Unchangeable refuses what wanted asks of a running sandbox and Update would not do.
// Callers send whole specs (CRI) and zeros for what they do not mean (docker), so what
// is empty, and what the sandbox was made with, is no request.
func Unchangeable(made, wanted *specs.LinuxResources) error {
	return changes(made, wanted, func(change string, changeable bool) error {
		if !changeable {
			return fmt.Errorf("change %s: of a running sandbox only limits of processor and memory can be changed: %w",
				change, errdefs.ErrNotImplemented)
		}
		return nil
	})
}

// Unchanged refuses a change of those limits that Update would change.
func Unchanged(made, wanted *specs.LinuxResources) error {
	return changes(made, wanted, func(change string, changeable bool) error {
		if changeable {
			return fmt.Errorf("change %s: %w", change, errdefs.ErrNotImplemented)
		}
		return nil
	})
}

// changes calls f for each field of wanted that differs from made.
func changes(made, wanted *specs.LinuxResources, f func(change string, changeable bool) error) error {
	was, err := fields(made)
	if err != nil {
		return err
	}
	is, err := fields(wanted)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if is[name] == was[name] {
			continue
		}
		section, field, _ := strings.Cut(name, "/")
		if err := f(strings.TrimSuffix(name, "/"), slices.Contains(changeable[section], field)); err != nil {
			return err
		}
	}
	return nil
}

// fields of r as "section/field", without those that ask for nothing.
func fields(r *specs.LinuxResources) (map[string]string, error) {
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(data, &sections); err != nil {
		return nil, err
	}
	out := make(map[string]string)
	for section, data := range sections {
		var in map[string]json.RawMessage
		if json.Unmarshal(data, &in) != nil { // a list, such as that of devices
			in = map[string]json.RawMessage{"": data}
		}
		for field, data := range in {
			value := string(data)
			nothing := []string{"null", "0", "false", `""`, "[]", "{}"}
			if section == "pids" {
				nothing = append(nothing, "-1") // no limit, which is what every sandbox has
			}
			if !slices.Contains(nothing, value) {
				out[section+"/"+field] = value
			}
		}
	}
	return out, nil
}
