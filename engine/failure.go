package engine

import (
	"regexp"
	"strconv"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/stages"
	"github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/solver/pb"
)

// withLine adds the failing instruction to an error that does not name one.
func withLine(err error, line int, file *stages.File) error {
	_, in, ok := instructionAt(file, line)
	if !ok || len(errdefs.Sources(err)) > 0 {
		return err
	}
	position := func(line int) *pb.Position { return &pb.Position{Line: int32(line)} }
	return errdefs.WithSource(err, &errdefs.Source{
		Info:   &pb.SourceInfo{Filename: dockerfileName, Data: file.Source},
		Ranges: []*pb.Range{{Start: position(in.Lines.First), End: position(in.Lines.Last)}},
	})
}

// parseErrorLine finds the line in the error of an engine whose parser turns a
// Dockerfile down that ours took.
var parseErrorLine = regexp.MustCompile(`parse error (?:on )?line (\d{1,9})\b`)

func lineInText(err error) int {
	match := parseErrorLine.FindStringSubmatch(err.Error())
	if match == nil {
		return 0
	}
	line, _ := strconv.Atoi(match[1]) // digits
	return line
}
