package join

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The table of docs/decisions/joining.md, from top to bottom; the first row that fits counts.
func joiningTable(t *testing.T) (rows [][]string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/decisions/joining.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || strings.HasPrefix(cells[0], " ---") || strings.Contains(line, "agent.replace") {
			continue
		}
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}

func TestEverySituationIsInTheTable(t *testing.T) {
	rows := joiningTable(t)
	fits := func(cell, value string) bool {
		return cell == "any" || slices.Contains(strings.Split(cell, ", "), value)
	}
	used := map[int]bool{}
	for _, there := range []string{nobodyThere, oursThere, offlineThere, onlineThere} {
		for _, here := range []string{wholeHere, otherHere} {
			for _, known := range []string{newJournal, hereJournal, unseenJournal, elsewhereJournal, cutOffJournal} {
				for _, replace := range []string{"offline", "always", "never"} {
					s := situation{there, here, known}
					row := slices.IndexFunc(rows, func(r []string) bool {
						return fits(r[0], there) && fits(r[1], here) && fits(r[2], known) && fits(r[3], replace)
					})
					if row < 0 {
						t.Errorf("%v, %s: no row", s, replace)
						continue
					}
					used[row] = true
					if got := s.decide(replace); string(got) != rows[row][4] {
						t.Errorf("%v, %s: %s, but the table says %s", s, replace, got, rows[row][4])
					}
				}
			}
		}
	}
	if len(used) != len(rows) {
		t.Errorf("%d of %d rows are ever reached", len(used), len(rows))
	}
}
