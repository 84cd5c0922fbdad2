package cni

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"brig/internal/attachment"
	"brig/internal/config"
	"brig/internal/netpolicy"
)

// Capability is the runtimeConfig key under which a caller gives the policy: its
// canonical JSON, as a string or as the object itself.
const Capability = "brig.network-policy"

// conf is the plugin's entry of a network list, as the runtime hands it over.
type conf struct {
	CNIVersion    string                     `json:"cniVersion"`
	Name          string                     `json:"name"`
	Type          string                     `json:"type"`
	Capabilities  map[string]bool            `json:"capabilities"`
	Config        string                     `json:"config"` // brig's configuration file
	RuntimeConfig map[string]json.RawMessage `json:"runtimeConfig"`
	IPAM          json.RawMessage            `json:"ipam"` // of the plugin that it names
	PrevResult    json.RawMessage            `json:"prevResult"`
	Args          json.RawMessage            `json:"args"` // of convention, for nobody in particular
	Valid         []types.GCAttachment       `json:"cni.dev/valid-attachments"`
	ValidOld      json.RawMessage            `json:"cni.dev/attachments"` // the same, for plugins of a draft
}

func invalid(format string, args ...any) error {
	return types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf(format, args...), "")
}

// parse is lenient: what removes must work under a list that was edited since.
func parse(data []byte) (conf, error) {
	var c conf
	if err := json.Unmarshal(data, &c); err != nil {
		return conf{}, types.NewError(types.ErrDecodingFailure, "parse the network configuration: "+err.Error(), "")
	}
	return c, nil
}

// parseAdd refuses everything that an ADD would not honour.
func parseAdd(data []byte) (conf, error) {
	var c conf
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return conf{}, types.NewError(types.ErrDecodingFailure, "parse the network configuration: "+err.Error(), "")
	}
	if len(c.PrevResult) > 0 && string(c.PrevResult) != "null" {
		return conf{}, invalid("brig-cni cannot be chained behind another plugin: the other's interface would go round its rules; make it the only plugin of its list")
	}
	for _, key := range slices.Sorted(maps.Keys(c.RuntimeConfig)) {
		if err := checkRuntime(key, c.RuntimeConfig[key]); err != nil {
			return conf{}, err
		}
	}
	return c, nil
}

func checkRuntime(key string, value json.RawMessage) error {
	switch {
	case key == Capability:
		return nil
	case slices.Contains([]string{"", "null", "[]", "{}", `""`}, string(value)):
		return nil // asks for nothing
	case key == "portMappings":
		return invalid("brig-cni publishes no ports on the host: open a tunnel with `brig tunnel open SANDBOX PORT` instead of mapping ports")
	}
	return invalid("brig-cni does not support the capability %q: remove it from the list's capabilities", key)
}

// policy that the caller brought; nil: none.
func (c conf) policy() (*netpolicy.Policy, error) {
	raw, ok := c.RuntimeConfig[Capability]
	if !ok {
		return nil, nil
	}
	var text string
	canonical := []byte(raw)
	if json.Unmarshal(raw, &text) == nil {
		canonical = []byte(text)
	}
	p, err := netpolicy.ParseCanonical(canonical)
	if err != nil {
		return nil, invalid("runtimeConfig %q: %v", Capability, err)
	}
	return &p, nil
}

func (c conf) load() (*config.Config, error) {
	cfg, err := config.Load(config.Path(c.Config))
	if err != nil {
		return nil, invalid("%v", err)
	}
	return &cfg, nil
}

// open reads the plugin's entry and brig's configuration, which it names.
func open(args *skel.CmdArgs, parse func([]byte) (conf, error)) (conf, *config.Config, error) {
	c, err := parse(args.StdinData)
	if err != nil {
		return conf{}, nil, err
	}
	cfg, err := c.load()
	return c, cfg, err
}

func (c conf) key(args *skel.CmdArgs) attachment.Key {
	return attachment.Key{Network: c.Name, ContainerID: args.ContainerID, IfName: args.IfName}
}

// checkCeiling refuses a policy that is wider than the operator permits: whoever
// compiled it read another configuration.
func checkCeiling(p netpolicy.Policy, cfg *config.Config) error {
	ceiling, err := cfg.Network.PolicyCeiling()
	if err != nil {
		return err
	}
	if ceiling.Max != nil && !p.Within(*ceiling.Max) {
		return invalid("the policy (%s) is wider than this node permits (%s; network.ceiling in the node's configuration)", p, *ceiling.Max)
	}
	var permitted []netpolicy.Range
	for _, prefix := range ceiling.AllowPrivate {
		permitted = append(permitted, netpolicy.RangeOf(prefix))
	}
	permitted = netpolicy.Normalise(permitted)
	for _, part := range p.Private() {
		if !slices.ContainsFunc(permitted, func(ok netpolicy.Range) bool { return !part.From.Less(ok.From) && !ok.To.Less(part.To) }) {
			return invalid("the policy names %s, which only the operator can permit (allow_private in the node's configuration)", part)
		}
	}
	return nil
}
