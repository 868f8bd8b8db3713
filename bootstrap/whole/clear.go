package whole

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// halfWritten is the hidden name of a file that is being written: renameio puts a dot before the
// file's own name and a random number of 63 bits behind it. (One in ten thousand million has fewer
// than ten digits and is left lying: a person's .state.json2 must not be taken for one.)
var halfWritten = regexp.MustCompile(`^\.(.+?)\d{10,19}$`)

// Scratch is the pattern of os.CreateTemp for a file that Clear knows as well.
const Scratch = ".azp-bootstrap-scratch-*"

var scratch = regexp.MustCompile(`^\.azp-bootstrap-scratch-\d+$`)

// Clear removes what runs that were killed while they wrote one of these files left behind in a
// folder, and their scratch files. The folder may be a person's: nothing else there is touched.
func Clear(dir string, names ...string) {
	entries, _ := os.ReadDir(dir) // no folder: nothing in it
	for _, e := range entries {
		of := halfWritten.FindStringSubmatch(e.Name())
		ours := of != nil && slices.Contains(names, of[1]) || scratch.MatchString(e.Name())
		if ours && e.Type().IsRegular() {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}
