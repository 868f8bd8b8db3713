package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// A test makes the manual pages, so that the program does not carry what they are made with.
var manual = flag.String("man", "", "folder to write the manual pages to (scripts/package.sh)")

// TestManPages makes a manual page of each command. SOURCE_DATE_EPOCH is the date that they bear.
func TestManPages(t *testing.T) {
	dir := *manual
	if dir == "" {
		dir = t.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // pages for everybody
		t.Fatal(err)
	}
	seconds, _ := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64)
	date := time.Unix(seconds, 0).UTC()
	root := (&app{}).root()
	root.DisableAutoGenTag = true
	for _, name := range []string{"config", "state-dir"} { // where this machine's environment may say something else
		f := root.PersistentFlags().Lookup(name)
		f.DefValue = map[string]string{"config": "/etc/azp-bootstrap/config.yaml", "state-dir": "/var/lib/azp-bootstrap"}[name]
	}
	if err := doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "azp-bootstrap", Manual: "System Manager's Manual", Date: &date}, dir); err != nil {
		t.Fatal(err)
	}
	var each func(c *cobra.Command)
	each = func(c *cobra.Command) {
		if !c.IsAvailableCommand() && c != root {
			return
		}
		page, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".8"))
		if err != nil {
			t.Error(err)
			return
		}
		for _, part := range []string{".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", strings.ReplaceAll(c.Short, "-", `\-`)} {
			if !bytes.Contains(page, []byte(part)) && !bytes.Contains(page, []byte(strings.ReplaceAll(part, `\-`, "-"))) {
				t.Errorf("%s has no %q", c.CommandPath(), part)
			}
		}
		for _, sub := range c.Commands() {
			each(sub)
		}
	}
	each(root)
}
