package view

import (
	"fmt"
	"net"
	"strconv"
	"time"

	brigv1 "brig/nodeagent/api/brig/v1"
)

// Event is one line of brig events --json. Of the fields after sandbox one is set,
// that of the kind.
type Event struct {
	At      *time.Time `json:"at"`
	Kind    string     `json:"kind"` // created, exited, paused, resumed, policy_changed, denied, oom, missed
	Sandbox string     `json:"sandbox,omitempty"`

	Created *Created       `json:"created,omitempty"`
	Exited  *Exit          `json:"exited,omitempty"`
	Policy  *PolicyChanged `json:"policy_changed,omitempty"`
	Denied  *Denied        `json:"denied,omitempty"`
	// Missed counts events that came faster than they were read.
	Missed uint64 `json:"missed,omitempty"`
}

// Created is a sandbox that runs.
type Created struct {
	Name  string `json:"name,omitempty"`
	Image string `json:"image"`
}

// PolicyChanged is another network policy.
type PolicyChanged struct {
	Generation uint64     `json:"generation"`
	Until      *time.Time `json:"until,omitempty"`
	Reverted   bool       `json:"reverted,omitempty"`
}

// Denied is something refused, or several alike.
type Denied struct {
	Reason          string `json:"reason"`
	Protocol        string `json:"protocol,omitempty"`
	Source          string `json:"source,omitempty"`
	SourcePort      uint32 `json:"source_port,omitempty"`
	Destination     string `json:"destination,omitempty"`
	DestinationPort uint32 `json:"destination_port,omitempty"`
	Name            string `json:"name,omitempty"`
	Generation      uint64 `json:"generation"`
	Count           uint64 `json:"count"`
	Link            string `json:"link,omitempty"`
}

// OfEvent converts an event. One of a later version has the kind unknown.
func OfEvent(e *brigv1.Event) Event {
	v := Event{At: moment(e.GetAt()), Sandbox: e.GetSandbox(), Kind: "unknown"}
	switch k := e.GetKind().(type) {
	case *brigv1.Event_Created:
		v.Kind, v.Created = "created", &Created{Name: k.Created.GetName(), Image: k.Created.GetImage()}
	case *brigv1.Event_Exited:
		exit := OfExit(k.Exited)
		v.Kind, v.Exited = "exited", &exit
	case *brigv1.Event_PolicyChanged:
		p := k.PolicyChanged
		v.Kind, v.Policy = "policy_changed", &PolicyChanged{Generation: p.GetGeneration(), Until: moment(p.GetUntil()), Reverted: p.GetReverted()}
	case *brigv1.Event_Denied:
		d := k.Denied
		v.Kind, v.Denied = "denied", &Denied{
			Reason: d.GetReason(), Protocol: d.GetProtocol(), Source: d.GetSource(), SourcePort: d.GetSourcePort(),
			Destination: d.GetDestination(), DestinationPort: d.GetDestinationPort(), Name: d.GetName(),
			Generation: d.GetGeneration(), Count: d.GetCount(), Link: d.GetLink(),
		}
	case *brigv1.Event_Oom:
		v.Kind = "oom"
	case *brigv1.Event_Paused:
		v.Kind = "paused"
	case *brigv1.Event_Resumed:
		v.Kind = "resumed"
	case *brigv1.Event_Missed:
		v.Kind, v.Missed = "missed", k.Missed.GetCount()
	}
	return v
}

// EventLine is an event in words.
func EventLine(e Event) string {
	at := "-"
	if e.At != nil {
		at = e.At.Format(time.RFC3339)
	}
	return fmt.Sprintf("%s %s %s", at, dash(e.Sandbox), eventWords(e))
}

func eventWords(e Event) string {
	switch {
	case e.Created != nil:
		words := "created from " + e.Created.Image
		if e.Created.Name != "" {
			words = "created as " + e.Created.Name + " from " + e.Created.Image
		}
		return words
	case e.Exited != nil:
		return fmt.Sprintf("exited %d (%s)", e.Exited.Code, e.Exited.Reason)
	case e.Policy != nil && e.Policy.Reverted:
		return fmt.Sprintf("policy generation %d is in force again", e.Policy.Generation)
	case e.Policy != nil && e.Policy.Until != nil:
		return fmt.Sprintf("policy generation %d is in force until %s", e.Policy.Generation, e.Policy.Until.Format(time.RFC3339))
	case e.Policy != nil:
		return fmt.Sprintf("policy generation %d is in force", e.Policy.Generation)
	case e.Denied != nil:
		return deniedWords(e.Denied)
	case e.Kind == "oom":
		return "reached its memory limit, and something in it was killed"
	case e.Missed > 0:
		return fmt.Sprintf("%d events came faster than they were read and are lost", e.Missed)
	}
	return e.Kind
}

func deniedWords(d *Denied) string {
	words := "denied"
	if d.Protocol != "" {
		words += " " + d.Protocol
	}
	switch {
	case d.DestinationPort > 0:
		words += " " + net.JoinHostPort(d.Destination, strconv.Itoa(int(d.DestinationPort)))
	case d.Destination != "":
		words += " " + d.Destination
	}
	if d.Name != "" {
		words += " " + d.Name
	}
	words += fmt.Sprintf(" (%s, generation %d)", d.Reason, d.Generation)
	if d.Count > 1 {
		words += fmt.Sprintf(" x%d", d.Count)
	}
	return words
}
