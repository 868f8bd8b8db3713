package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// mounted refuses a folder that lies on a disk that is not there: what is written below the empty
// mount point fills another disk, and is hidden when the disk comes. The fault passes: a disk may
// be late.
//
// A folder below the agent's own is looked at by its name alone: a job may have put a link there.
func (h Home) mounted(name string) error {
	folder := h.folder(name)
	ways := []string{folder}
	through := folder
	if !filepath.IsAbs(name) || strings.HasPrefix(folder, h.Dir+"/") {
		through = h.Dir
	}
	if err := h.Tree.Above(filepath.Join(through, "x"), func(step string, _ fs.FileInfo) {
		ways = append(ways, step)
	}); err != nil {
		return diskFault(err, folder)
	}
	fstab, err := os.ReadFile("/etc/fstab")
	if err != nil {
		return nil // nothing is said of any disk
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	point := unmounted(string(fstab), string(mounts), ways)
	if point == "" {
		return nil
	}
	return fault.New(fault.Disk, "%s lies on %s, which /etc/fstab names and which is not mounted", folder, point).
		Passing().
		Hint("Attach that disk, or look why it is not mounted: mount %s. It is waited for. A VM that has no such disk "+
			"needs another agent.work (agent.dir), or no such line in /etc/fstab.", point)
}

// unmounted is the mount point of fstab(5) on which one of the names lies, the longest but for /,
// if nothing is mounted there by mountinfo (proc(5)); else "".
func unmounted(fstab, mountinfo string, names []string) string {
	longest := ""
	for _, point := range fields(fstab, 1) {
		on := func(name string) bool { return name == point || strings.HasPrefix(name, point+"/") }
		if len(point) > len(longest) && point != "/" && slices.ContainsFunc(names, on) {
			longest = point
		}
	}
	mounted := fields(mountinfo, 4)
	if slices.Contains(mounted, longest) {
		return ""
	}
	if real, err := filepath.EvalSymlinks(longest); err == nil && slices.Contains(mounted, real) { // as mount(8) does
		return ""
	}
	return longest
}

// fields are the paths in one field of each line. Both files write a blank as \040.
func fields(text string, n int) (paths []string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) <= n || strings.HasPrefix(f[0], "#") || !strings.HasPrefix(f[n], "/") {
			continue
		}
		paths = append(paths, filepath.Clean(unescaped(f[n])))
	}
	return paths
}

// unescaped is a text without its octal escapes.
func unescaped(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
