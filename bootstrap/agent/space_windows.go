package agent

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// FreeSpace is how many bytes may still be written on the volume of dir.
func FreeSpace(dir string) (uint64, error) {
	root, err := windows.UTF16PtrFromString(filepath.VolumeName(dir) + `\`)
	if err != nil {
		return 0, err
	}
	var free uint64
	return free, windows.GetDiskFreeSpaceEx(root, &free, nil, nil)
}
