//go:build linux

package bench

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"
	"text/tabwriter"
)

// row is what was measured of one thing: by the limit, the application, and its other binary, in this order.
type row struct {
	name       string
	ratio      bool // it is judged beside the limit, and not by itself
	must, goal float64
	reached    float64      // where must is not reached yet: a change may not make it much worse than this
	got        [3][]float64 // by round
}

func (r *row) add(program int, value float64) { r.got[program] = append(r.got[program], value) }

// beside returns a program's figures divided by those that another one had in the same round.
func (r *row) beside(program, other int) []float64 {
	var ratios []float64
	for i := range min(len(r.got[program]), len(r.got[other])) {
		ratios = append(ratios, r.got[program][i]/r.got[other][i])
	}
	return ratios
}

// judged returns what must be as small as must.
func (r *row) judged() []float64 {
	if r.ratio {
		return r.beside(1, 0)
	}
	return r.got[1]
}

// spread is the median, the smallest and the largest.
func spread(values []float64) []float64 {
	if len(values) == 0 {
		return []float64{math.NaN(), math.NaN(), math.NaN()}
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return []float64{(sorted[(n-1)/2] + sorted[n/2]) / 2, sorted[0], sorted[n-1]}
}

// report logs the rows as a table. It fails at a median that is more than so many times what it must be, or what was reached.
func report(t *testing.T, tolerance float64, rows []*row) {
	t.Helper()
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "limit\tours\tmedian\tmin\tmax\tmust be\tgoal\tbefore\tours ÷ before\tmin\tmax\t")
	for _, r := range rows {
		figures := slices.Concat(spread(r.got[0])[:1], spread(r.got[1])[:1], spread(r.judged()), []float64{r.must, r.goal},
			spread(r.got[2])[:1], spread(r.beside(1, 2)))
		for _, figure := range figures {
			fmt.Fprintf(w, "%s\t", number(figure))
		}
		fmt.Fprintf(w, " %s\n", r.name)
		if got := spread(r.judged())[0]; r.must > 0 && !(got <= tolerance*max(r.must, r.reached)) {
			t.Errorf("%s: %s, and must be %s, or %s at least", r.name, number(got), number(r.must), number(max(r.must, r.reached)))
		}
	}
	_ = w.Flush() // to memory
	t.Logf("median, min and max are of ours ÷ limit where a row says so, else of ours\n\n%s", &text)
}

// number shows three digits, or all before the point; what was not measured is a dash.
func number(value float64) string {
	switch {
	case math.IsNaN(value):
		return "–"
	case value >= 100:
		return fmt.Sprintf("%.0f", value)
	case value >= 10:
		return fmt.Sprintf("%.1f", value)
	}
	return fmt.Sprintf("%.2f", value)
}
