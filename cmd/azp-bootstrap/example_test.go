package main

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/config"
)

// What config example prints is a good configuration as it stands; and with every line that shows
// something put in force it has every key, at its default where it has one.
func TestTheExampleHasEveryKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	load := func(text string, set ...string) *config.Config {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := config.Load(file, nil, set)
		if err != nil {
			t.Fatal(err)
		}
		c, err := l.Config()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	asItIs := load(string(exampleConfig))
	if asItIs.Target.Kind() != "environment" || !asItIs.Credential.Entra {
		t.Errorf("%+v", asItIs)
	}
	if runtime.GOOS == "windows" {
		t.Skip("what Windows refuses stands in it as well, commented out")
	}
	named := map[string]bool{}
	for _, variant := range []string{"environment", "deploymentGroup", "pool"} {
		for _, vault := range []bool{false, true} {
			text := regexp.MustCompile(`(?m)^#([^#])`).ReplaceAllString(string(exampleConfig), "$1")
			for _, other := range []string{"environment", "deploymentGroup", "pool"} {
				if other != variant {
					text = regexp.MustCompile(`(?m)^  `+other+`: \{.*\n`).ReplaceAllString(text, "")
				}
			}
			group := regexp.MustCompile(`(?m)^  entra: \{.*\n`)
			if vault || variant != "pool" {
				text = group.ReplaceAllString(text, "")
			} else {
				text = strings.Replace(text, "  entra: true\n", "", 1)
			}
			if vault {
				text = strings.Replace(text, "  entra: true\n", "  entra: false\n", 1)
			} else {
				text = regexp.MustCompile(`(?m)^  keyVault:\n(    .*\n)+`).ReplaceAllString(text, "")
			}
			c := load(text)
			for key, v := range c.Values {
				named[key] = named[key] || strings.HasPrefix(v.Where, file)
				if was, ok := asItIs.Values[key]; ok && was.Where == "default" && config.ShowValue(was.Any) != config.ShowValue(v.Any) {
					t.Errorf("%s: the example says %v, the default is %v", key, v.Any, was.Any)
				}
			}
		}
	}
	for _, key := range config.Keys() {
		if !named[key] {
			t.Errorf("%s is not in the example", key)
		}
	}
}
