package agent

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestShortOfRoom(t *testing.T) {
	const gib = 1 << 30
	for name, c := range map[string]struct {
		room    Room
		bytes   uint64
		percent int
		want    string
	}{
		"nothing is asked":           {Room{}, 0, 0, ""},
		"enough":                     {Room{Free: 5 * gib, Inodes: 5, All: 100}, 5 * gib, 5, ""},
		"too few bytes":              {Room{Folder: "/w", Free: 5*gib - 1, Inodes: 100, All: 100}, 5 * gib, 5, "/w has 5.0 GiB free"},
		"too few inodes":             {Room{Folder: "/w", Free: 9 * gib, Inodes: 49, All: 1000}, 5 * gib, 5, "/w has 4.9% of its inodes free, less than 5%"},
		"inodes are not counted":     {Room{Free: 9 * gib}, 5 * gib, 5, ""},
		"only bytes are asked about": {Room{Free: 9 * gib, Inodes: 0, All: 1000}, 5 * gib, 0, ""},
	} {
		if got := c.room.Short(c.bytes, c.percent); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// A folder that is not there yet has the room of the one above; each is named as it is looked at.
func TestRoomOfAFolder(t *testing.T) {
	h := Home{Dir: filepath.Join(t.TempDir(), "agent")}
	for name, want := range map[string]string{"": h.Dir, "_work": h.path("_work"), h.Dir + "/../w/x": filepath.Join(filepath.Dir(h.Dir), "w/x")} {
		if r, err := h.Room(name); err != nil || r.Folder != want || r.Free == 0 {
			t.Errorf("%q: %+v, %v", name, r, err)
		}
	}
}
