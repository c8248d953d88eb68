package stages

import (
	"bytes"
	"fmt"
)

// WithImages gives the Dockerfile up to the end of a stage, in which the
// stages before it that are in images are nothing but FROM that image: what
// they have built or, as scratch, what nothing needs. For engines that build
// every stage they meet. A stage with ONBUILD instructions must not be among
// them, as its triggers would run once too often.
func (f *File) WithImages(stage int, images map[int]string) []byte {
	source, _ := f.CutAfter(stage)
	replaced := map[int]string{} // by line
	for i, image := range images {
		if i >= stage {
			continue
		}
		s := f.Stages[i]
		for line := s.Lines.First; line <= s.Lines.Last; line++ {
			replaced[line] = ""
		}
		replaced[s.Head.First] = "FROM " + image
		if s.Name != "" {
			replaced[s.Head.First] += " AS " + s.Name
		}
	}
	var text []byte
	number := 0
	for line := range bytes.Lines(source) {
		number++
		if other, ok := replaced[number]; ok {
			line = fmt.Appendf(nil, "%s\n", other)
		}
		text = append(text, line...)
	}
	return text
}
