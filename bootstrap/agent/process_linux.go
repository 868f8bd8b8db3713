package agent

import (
	"fmt"
	"os"
	"strings"
)

// startTime identifies a process beyond its number: field 22 of /proc/PID/stat (proc(5)); "" if
// there is no such process or it is a zombie.
func startTime(pid int) string {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The name in field 2 may hold spaces and parentheses; it ends at the last one.
	_, rest, ok := strings.Cut(string(data[strings.LastIndexByte(string(data), ')')+1:]), " ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}
