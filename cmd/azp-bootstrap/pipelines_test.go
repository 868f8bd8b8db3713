package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// The pipelines of docs/deploy use what there is: files, make targets, variables of packer/azure, and their own.
func TestPipelinesUseWhatThereIs(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	variables := read("packer/azure/variables.pkr.hcl")
	makefile := read("Makefile")
	if !strings.Contains(read("scripts/image/generalize.sh"), "azp-bootstrap seal --check") {
		t.Error("an image is built without seal --check")
	}
	given := map[string][]string{}
	for _, name := range []string{"docs/deploy/azure-pipelines.yaml", "docs/deploy/github-actions.yaml", ".github/workflows/release.yml"} {
		text := read(name)
		var parsed struct {
			Variables map[string]string
			Env       map[string]string
		}
		if err := yaml.Unmarshal([]byte(text), &parsed); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, m := range regexp.MustCompile(`\b(?:docs|packer|scripts)/[\w./-]*[\w-]`).FindAllString(text, -1) {
			if _, err := os.Stat(filepath.Join("..", "..", m)); err != nil {
				t.Errorf("%s: %s is not there", name, m)
			}
		}
		for _, m := range regexp.MustCompile(`make ([a-z-]+)`).FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s: there is no make %s", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`-var "?([a-z_]+)=|PKR_VAR_([a-z_]+):`).FindAllStringSubmatch(text, -1) {
			given[name] = append(given[name], m[1]+m[2])
			if !strings.Contains(variables, `variable "`+m[1]+m[2]+`" {`) {
				t.Errorf("%s: packer/azure has no variable %s", name, m[1]+m[2])
			}
		}
		for _, m := range regexp.MustCompile(`\$\(([a-zA-Z]+)\)`).FindAllStringSubmatch(text, -1) {
			if _, ok := parsed.Variables[m[1]]; !ok {
				t.Errorf("%s: $(%s) is not among its variables", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`\$\{?([A-Z]+_[A-Z_]+)\}?`).FindAllStringSubmatch(text, -1) {
			_, ok := parsed.Env[m[1]]
			if !ok && !strings.HasPrefix(m[1], "GITHUB_") && !strings.Contains(text, "\n          "+m[1]+":") {
				t.Errorf("%s: $%s is not in its environment", name, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`uses: (\S+)( #.*)?`).FindAllStringSubmatch(text, -1) {
			if !regexp.MustCompile(`@[0-9a-f]{40}$`).MatchString(m[1]) || !strings.HasPrefix(m[2], " # v") {
				t.Errorf("%s: %s is not pinned to a commit, with its version behind", name, m[1])
			}
		}
	}
	for _, each := range []string{"sign_in", "config", "package", "image_version", "agent_version", "daemon_version"} {
		for _, name := range []string{"docs/deploy/azure-pipelines.yaml", "docs/deploy/github-actions.yaml"} {
			if !slices.Contains(given[name], each) {
				t.Errorf("%s does not give %s to Packer", name, each)
			}
		}
	}
}
