package main

import (
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// The plot's measures, in pixels.
const (
	plotWidth, plotHeight = 640, 280
	plotLeft, plotTop     = 46, 34
	lineHeight            = 16
)

// colours of lines, in the order of the variants; they can be told apart on a white and
// on a black page, and by most who see few colours.
var colours = []string{"#3b78c3", "#d9822b", "#3a9d5d", "#c2477f", "#8a6fd1", "#7a8791", "#b0a030", "#2aa5b0"}

// writeCDF draws what share of each series' samples is at most how much. The colours of
// text and axes are the reader's, light or dark.
func writeCDF(w io.Writer, title string, all []series) error {
	low, high := rangeOf(all)
	marks := ticks(low, high)
	low, high = min(low, marks[0]), max(high, marks[len(marks)-1])
	x := func(v float64) float64 { return plotLeft + (v-low)/(high-low)*(plotWidth-plotLeft-16) }
	y := func(share float64) float64 { return plotTop + (1-share)*(plotHeight-plotTop) }
	height := plotHeight + 40 + lineHeight*len(all)
	p := &strings.Builder{}
	fmt.Fprintf(p, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600; font-size: 13px }
.grid { stroke: #8886; stroke-width: 1 }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round }
@media (prefers-color-scheme: dark) { text { fill: #d7dde3 } }
</style>
<text class="title" x="%d" y="18">%s</text>
`, plotWidth, height, plotWidth, height, escape(title), plotLeft, escape(title))
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		fmt.Fprintf(p, `<path class="grid" d="M%d %.1fH%d"/><text x="%d" y="%.1f" text-anchor="end">%.0f %%</text>`+"\n",
			plotLeft, y(share), plotWidth-16, plotLeft-6, y(share)+4, 100*share)
	}
	for _, m := range marks {
		fmt.Fprintf(p, `<path class="grid" d="M%.1f %dV%d"/><text x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n",
			x(m), plotTop, plotHeight, x(m), plotHeight+16, m)
	}
	fmt.Fprintf(p, `<text x="%d" y="%d" text-anchor="end">%s</text>`+"\n", plotWidth-16, plotHeight+32, escape(all[0].unit))
	for i, s := range all {
		drawCDF(p, s, style(i), x, y)
		at := plotHeight + 40 + lineHeight*i
		fmt.Fprintf(p, `<path class="line" %s d="M%d %dh18"/><text x="%d" y="%d">%s, n = %d</text>`+"\n",
			style(i), plotLeft, at-4, plotLeft+24, at, escape(s.String()), len(s.samples))
	}
	fmt.Fprintln(p, "</svg>")
	_, err := io.WriteString(w, p.String())
	return err
}

// style of the nth line; when there are no more colours, lines are broken.
func style(n int) string {
	text := fmt.Sprintf("stroke=%q", colours[n%len(colours)])
	if n >= len(colours) {
		text += ` stroke-dasharray="5 3"`
	}
	return text
}

// drawCDF draws steps; those less than half a pixel apart are one.
func drawCDF(p *strings.Builder, s series, style string, x, y func(float64) float64) {
	sorted := slices.Sorted(slices.Values(s.samples))
	path := &strings.Builder{}
	fmt.Fprintf(path, "M%.1f %.1f", x(sorted[0]), y(0))
	for i, v := range sorted {
		if i+1 < len(sorted) && x(sorted[i+1])-x(v) < 0.5 {
			continue
		}
		fmt.Fprintf(path, "H%.1fV%.1f", x(v), y(float64(i+1)/float64(len(sorted))))
	}
	fmt.Fprintf(p, `<path class="line" %s d="%s"/>`+"\n", style, path)
}

func rangeOf(all []series) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, s := range all {
		low, high = min(low, slices.Min(s.samples)), max(high, slices.Max(s.samples))
	}
	if low > 0 && low < high/2 {
		low = 0
	}
	if high-low < 1e-9*math.Abs(high)+1e-9 {
		high = low + 1
	}
	return low, high
}

// ticks are four to nine round numbers from low or below to high.
func ticks(low, high float64) (marks []float64) {
	step := math.Pow(10, math.Floor(math.Log10(high-low)))
	for _, times := range []float64{0.1, 0.2, 0.5, 1} {
		if (high-low)/(step*times) <= 8 {
			step *= times
			break
		}
	}
	for i := math.Floor(low / step); i*step <= high; i++ {
		marks = append(marks, math.Round(i*step/step)*step)
	}
	return marks
}

func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
