package report

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// column numbers of the table.
const (
	columnStage = iota
	columnFrom
	columnLevel
	columnCached
	columnRan
	columnTime
	columnSaved
	columns
)

var titles = row{cells: [columns][]string{
	{"STAGE"}, {"IMPORTED FROM"}, {"LEVEL"}, {"CACHED"}, {"RAN"}, {"TIME"}, {"SAVED"},
}, style: bold}

const (
	gap = "  "
	// With more stages than mostRows those whose steps are all cached share
	// a line; with more lines, each stage has one.
	mostRows = 20
	// Least widths of the columns whose texts may have any length: with them
	// 80 are enough.
	leastStage, leastFrom, leastSaved = 10, 13, 9
	mostLevel                         = len("unprefixed")
)

// row is one stage. A cell holds several texts where there are several refs.
type row struct {
	cells [columns][]string
	style style
}

// table prints a row for each stage.
func (p *printer) table(r Report) {
	if len(r.Stages) == 0 {
		return
	}
	var rows []row
	var folded tally
	foldedStages, lines := 0, 0
	for _, stage := range r.Stages {
		t := tallyOf(stage.Steps)
		if len(r.Stages) > mostRows && t.cached == t.steps && len(stage.Saved) == 0 {
			foldedStages++
			folded.add(stage.Steps)
			continue
		}
		rows = append(rows, stageRow(stage, t, r.Lineages))
		lines += len(rows[len(rows)-1].cells[columnFrom])
	}
	if lines > mostRows {
		for i := range rows {
			rows[i].fold(columnFrom)
			rows[i].fold(columnLevel)
		}
	}
	if len(rows) > 0 {
		rows = slices.Insert(rows, 0, titles)
	}
	widths := p.widths(rows)
	for _, r := range rows {
		p.row(r, widths)
	}
	if foldedStages > 0 {
		p.line(plain, "%s all cached (%s)", plural(foldedStages, "stage"), plural(folded.steps, "step"))
	}
	p.blank()
}

func stageRow(stage Stage, t tally, lineages []Lineage) row {
	var r row
	r.cells[columnStage] = []string{clean(stage.Name)}
	r.cells[columnFrom], r.cells[columnLevel] = sources(stage, lineages)
	r.cells[columnCached] = []string{fmt.Sprintf("%d/%d", t.cached, t.steps)}
	r.cells[columnRan] = []string{fmt.Sprint(t.ran)}
	r.cells[columnTime] = []string{"-"}
	if t.ran+t.failed+t.canceled > 0 {
		r.cells[columnTime] = []string{duration(t.seconds)}
	}
	r.cells[columnSaved] = saved(stage, t)
	switch {
	case t.failed > 0:
		r.style = red
		r.cells[columnRan][0] += ", failed"
	case t.canceled > 0:
		r.style = red
		r.cells[columnRan][0] += ", canceled"
	case t.steps > 0 && t.pending == t.steps:
		r.style = dim
	}
	return r
}

// sources are the tags and levels of what was imported for a stage: all
// lineages of it that were merged, else the one that was chosen.
func sources(stage Stage, lineages []Lineage) (tags, levels []string) {
	for _, l := range lineages {
		if l.Stage == stage.Name {
			tags = append(tags, tag(l.Ref))
			levels = append(levels, cut(clean(l.Level), mostLevel))
		}
	}
	switch {
	case tags != nil:
		return tags, levels
	case stage.Imported != nil:
		return []string{tag(stage.Imported.Ref)}, []string{cut(clean(stage.Imported.Level), mostLevel)}
	}
	return []string{fromNothing}, []string{noLevel}
}

// What stands for a stage for which nothing was imported.
const (
	fromNothing = "nothing"
	noLevel     = "-"
)

// saved are the tags a stage was saved to, or why there are none.
func saved(stage Stage, t tally) []string {
	var tags []string
	for _, s := range stage.Saved {
		if s.Error == "" {
			tags = append(tags, tag(s.Ref))
		}
	}
	switch {
	case len(tags) > 0:
		return tags
	case len(stage.Saved) > 0:
		return []string{"lost"}
	case t.pending == t.steps:
		return []string{"-"}
	case t.saved == t.steps:
		return []string{"unchanged"}
	}
	return []string{"no"}
}

// fold keeps the first of several texts, and how many more there are.
func (r *row) fold(column int) {
	if n := len(r.cells[column]); n > 1 {
		r.cells[column] = []string{fmt.Sprintf("%s +%d", r.cells[column][0], n-1)}
	}
}

// fit tells the tags, or as much of them as there is room for.
func fit(tags []string, width int) string {
	all := strings.Join(tags, ", ")
	if len(tags) == 1 || utf8.RuneCountInString(all) <= width {
		return all
	}
	if first := fmt.Sprintf("%s +%d", tags[0], len(tags)-1); utf8.RuneCountInString(first) <= width {
		return first
	}
	return plural(len(tags), "tag")
}

// widths fits the columns into the line: at the expense of the refs first,
// whose tags mostly repeat the branch and the stage.
func (p *printer) widths(rows []row) [columns]int {
	var widths [columns]int
	excess := len(gap)*(columns-1) - p.Width
	for c := range columns {
		for _, r := range rows {
			texts := r.cells[c]
			if c == columnSaved {
				texts = []string{strings.Join(texts, ", ")}
			}
			for _, text := range texts {
				widths[c] = max(widths[c], utf8.RuneCountInString(text))
			}
		}
		excess += widths[c]
	}
	for ; excess > 0; excess-- {
		switch {
		case widths[columnSaved] > max(leastSaved, widths[columnFrom]):
			widths[columnSaved]--
		case widths[columnFrom] > leastFrom:
			widths[columnFrom]--
		case widths[columnSaved] > leastSaved:
			widths[columnSaved]--
		case widths[columnStage] > leastStage:
			widths[columnStage]--
		}
	}
	return widths
}

// row prints one row, on as many lines as the import has refs.
func (p *printer) row(r row, widths [columns]int) {
	r.cells[columnSaved] = []string{fit(r.cells[columnSaved], widths[columnSaved])}
	for i := range max(1, len(r.cells[columnFrom])) {
		var line strings.Builder
		for c, texts := range r.cells {
			var text string
			if i < len(texts) {
				text = shorten(texts[i], widths[c])
			}
			fill := strings.Repeat(" ", max(0, widths[c]-utf8.RuneCountInString(text)))
			if c == columnCached || c == columnRan || c == columnTime {
				text = fill + text
			} else {
				text += fill
			}
			line.WriteString(text + gap)
		}
		p.line(r.style, "%s", strings.TrimRight(line.String(), " "))
	}
}
