//go:build race

package e2e

// raceEnabled says whether the command is built as this test is.
const raceEnabled = true
