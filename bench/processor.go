package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of times in /proc: USER_HZ, which is 100 on every
// architecture that Go runs on (proc_pid_stat(5)).
const clockTick = 10 * time.Millisecond

// processorTime is what a process and the children that it has waited for have
// used of the processors.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field, the command, may hold spaces and parentheses.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 15 {
		return 0, fmt.Errorf("process %d: %d fields in stat", pid, len(fields))
	}
	total := 0
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		ticks, err := strconv.Atoi(field)
		if err != nil {
			return 0, fmt.Errorf("process %d: %w", pid, err)
		}
		total += ticks
	}
	return time.Duration(total) * clockTick, nil
}

// namespaceTime is what all processes of a PID namespace have used, those that
// have ended included: a parent within has waited for each.
func namespaceTime(init int) (total time.Duration, err error) {
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return 0, err
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, process := range processes {
		if its, err := os.Readlink(process + "/ns/pid"); err != nil || its != namespace {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(process))
		if err != nil {
			continue
		}
		if used, err := processorTime(pid); err == nil { // else it has just ended
			total += used
		}
	}
	return total, nil
}
