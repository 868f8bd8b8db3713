package config

import (
	"strings"
	"testing"
	"unicode/utf16"
)

// What Windows PowerShell's > writes is told by its name; UTF-8 with a byte order mark and CRLF is read.
func TestUTF16(t *testing.T) {
	wide := func(s string, first, second int, mark bool) string {
		var b []byte
		if mark {
			s = "\ufeff" + s
		}
		for _, u := range utf16.Encode([]rune(s)) {
			b = append(b, byte(u>>first), byte(u>>second))
		}
		return string(b)
	}
	for name, text := range map[string]string{
		"little-endian":       wide(good, 0, 8, true),
		"big-endian":          wide(good, 8, 0, true),
		"without a mark":      wide(good, 0, 8, false),
		"big, without a mark": wide(good, 8, 0, false),
	} {
		_, err := load(t, map[string]string{"config.yaml": text}, nil, nil)
		if err == nil || !strings.Contains(err.Error(), "UTF-16") {
			t.Errorf("%s: %v", name, err)
		}
	}
	crlf := "\ufeff" + strings.ReplaceAll(good, "\n", "\r\n")
	if _, err := load(t, map[string]string{"config.yaml": crlf}, nil, nil); err != nil {
		t.Errorf("UTF-8 as Notepad writes it: %v", err)
	}
}
