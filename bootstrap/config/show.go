package config

import (
	"fmt"
	"strings"
)

// Show renders the effective values, one per line, each with its source.
func (c *Config) Show() string {
	var b strings.Builder
	width := 0
	for k := range c.Values {
		width = max(width, len(k))
	}
	for _, k := range Keys() {
		if v, ok := c.Values[k]; ok {
			fmt.Fprintf(&b, "%-*s = %-34s # %s\n", width, k, ShowValue(v.Any), v.Where)
		}
	}
	return b.String()
}

// ShowValue writes a value as the file would.
func ShowValue(v any) string {
	switch v := v.(type) {
	case []string:
		return "[" + strings.Join(v, ", ") + "]"
	case string:
		if v == "" {
			return `""`
		}
		return v
	}
	return fmt.Sprint(v)
}
