package whole

import "path/filepath"

// Spares are the files that keep room beside a file for WriteSpared. Two, because the first that is used is
// exchanged for the file itself, which is short: from then on the other one and the file alternate. Their names end
// in no digit: else Clear would not know them half written.
func Spares(name string) []string {
	dir, base := filepath.Split(name)
	return []string{dir + "." + base + ".spare-a", dir + "." + base + ".spare-b"}
}
