package bench

import (
	"os"
	"os/exec"
	"testing"
)

func TestProcessorTimeCountsChildren(t *testing.T) {
	before, err := processorTime(os.Getpid())
	if err != nil {
		t.Skip("no /proc")
	}
	cmd := exec.Command("sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	after, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// Ticks are coarser than what the kernel tells of the child.
	if used := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); after-before < used-2*clockTick || used == 0 {
		t.Errorf("counted %v, and a child alone used %v", after-before, used)
	}
	all, err := namespaceTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if all < after {
		t.Errorf("the namespace has used %v, one process of it %v", all, after)
	}
}
