package agent

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

// room is how many bytes may still be written on the volume of dir.
func room(dir string) (Room, error) {
	r := Room{Folder: dir}
	root, err := windows.UTF16PtrFromString(filepath.VolumeName(dir) + `\`)
	if err != nil {
		return r, err
	}
	return r, windows.GetDiskFreeSpaceEx(root, &r.Free, nil, nil)
}
