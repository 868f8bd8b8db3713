package config

import (
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// Disk is how much room the disk of the work folder must have for a job; 0 = nobody looks.
type Disk struct {
	Min       Size    `key:"min"`
	MinInodes Percent `key:"minInodes"`
}

// Watched reports whether anything is asked of the disk.
func (d Disk) Watched() bool { return d.Min > 0 || d.MinInodes > 0 }

// A Size is a number of bytes.
type Size uint64

func (s Size) String() string {
	if s == 0 {
		return "0"
	}
	number, unit, _ := strings.Cut(humanize.IBytes(uint64(s)), " ")
	text := strings.TrimSuffix(number, ".0") + unit
	if n, err := humanize.ParseBytes(text); err != nil || n != uint64(s) { // it was rounded
		return strconv.FormatUint(uint64(s), 10) + "B"
	}
	return text
}

// A Percent is a part of a hundred.
type Percent int

func (p Percent) String() string {
	if p == 0 {
		return "0"
	}
	return strconv.Itoa(int(p)) + "%"
}

// sizeOf reads a size with its unit; ok is false if it is none.
func sizeOf(text string) (s Size, ok bool) {
	if text = strings.TrimSpace(text); text == "0" {
		return 0, true
	}
	if text == "" || text[0] < '0' || text[0] > '9' || strings.Trim(text, "0123456789.,") == "" { // without a unit
		return 0, false
	}
	n, err := humanize.ParseBytes(text)
	return Size(n), err == nil
}

// percentOf reads a percentage with its sign; ok is false if it is none.
func percentOf(text string) (p Percent, ok bool) {
	if text = strings.TrimSpace(text); text == "0" {
		return 0, true
	}
	number, signed := strings.CutSuffix(text, "%")
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 8)
	return Percent(n), err == nil && signed && n < 100 //nolint:gosec // below 100
}
