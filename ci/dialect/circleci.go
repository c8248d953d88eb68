package dialect

import (
	"fmt"
	"os"
	"path/filepath"
)

// circleci has no commands in its log; its jobs keep files. People read the
// log, which shows what is failing as on any terminal.
type circleci struct {
	plain
	artifacts string
}

// Summary is a file among the artifacts.
// https://circleci.com/docs/guides/optimize/artifacts/
func (c circleci) Summary(markdown string) error {
	if c.artifacts == "" {
		return nil
	}
	if err := os.MkdirAll(c.artifacts, 0o755); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	if err := os.WriteFile(filepath.Join(c.artifacts, "summary.md"), []byte(markdown), 0o644); err != nil {
		return fmt.Errorf("write summary: %w", err)
	}
	return nil
}
