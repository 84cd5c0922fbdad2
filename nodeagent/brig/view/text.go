package view

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Table writes rows as left-aligned columns two blanks apart.
func Table(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// SandboxRows is the table of brig ls as of now.
func SandboxRows(in []Sandbox, now time.Time) [][]string {
	rows := [][]string{{"ID", "NAME", "STATE", "CREATED", "ENDS", "IMAGE", "COMMAND"}}
	for _, s := range in {
		rows = append(rows, []string{
			s.ID, dash(s.Name), Status(s), dash(ago(s.CreatedAt, now)), dash(ends(s, now)), s.Image, dash(command(s.Argv)),
		})
	}
	return rows
}

// TunnelRows is the table of brig tunnels: the sandbox's port and the URL, and why
// nobody is led there at present, if so.
func TunnelRows(in []Tunnel) [][]string {
	var rows [][]string
	for _, t := range in {
		row := []string{fmt.Sprint(t.SandboxPort), t.URL}
		if t.Fault != "" {
			row = append(row, "not at present: "+t.Fault)
		}
		rows = append(rows, row)
	}
	return rows
}

// ImageRows is the table of brig image ls.
func ImageRows(in []Image, now time.Time) [][]string {
	rows := [][]string{{"NAME", "DIGEST", "SIZE", "CREATED"}}
	for _, i := range in {
		digest := i.Digest
		if len(digest) > 19 {
			digest = digest[:19] // sha256: and 12 digits
		}
		rows = append(rows, []string{i.Name, digest, Bytes(i.Size), dash(ago(i.CreatedAt, now))})
	}
	return rows
}

// Status is a sandbox's state in a word or two: running, exited 0, exited 137 (oom).
func Status(s Sandbox) string {
	switch {
	case s.Paused:
		return "paused"
	case s.Exit == nil:
		return s.State
	case s.Exit.Reason == "exited":
		return fmt.Sprintf("exited %d", s.Exit.Code)
	}
	return fmt.Sprintf("exited %d (%s)", s.Exit.Code, s.Exit.Reason)
}

// Bytes is a size with a decimal unit: 999 B, 1.2 kB, 34.5 MB.
func Bytes(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1000, 0
	for ; v >= 999.95 && unit < 4; unit++ {
		v /= 1000
	}
	return fmt.Sprintf("%.1f %cB", v, "kMGTP"[unit])
}

// Span is a duration in its largest unit: 59s, 12m, 3h, 2d.
func Span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

func ago(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return Span(max(now.Sub(*t), 0)) + " ago"
}

func ends(s Sandbox, now time.Time) string {
	if s.Deadline == nil || s.Exit != nil {
		return ""
	}
	return "in " + Span(max(s.Deadline.Sub(now), 0))
}

// command is an argv shortened to one cell; control characters are quoted, so
// that a tenant's argv cannot steer the terminal of whoever lists it.
func command(argv []string) string {
	const widest = 40
	var out []string
	for _, a := range argv {
		if q := fmt.Sprintf("%q", a); a == "" || strings.Contains(a, " ") || q != `"`+a+`"` {
			a = q
		}
		out = append(out, a)
	}
	runes := []rune(strings.Join(out, " "))
	if len(runes) > widest {
		return string(runes[:widest-1]) + "…"
	}
	return string(runes)
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
