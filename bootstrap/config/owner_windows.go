package config

import "io/fs"

// Windows keeps rights in access control lists, which Go's mode bits do not show; ProgramData's own
// are inherited there.
func writableByOthers(fs.FileInfo) bool { return false }
