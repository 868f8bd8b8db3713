package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/config"
)

// pages are all pages of the documentation, by their path from the repository's root.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := filepath.Join("..", "..")
	read := func(name string) {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.ToSlash(name)] = string(text)
	}
	read("README.md")
	read("CHANGELOG.md")
	if err := filepath.WalkDir(filepath.Join(root, "docs"), func(name string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(name, ".md") {
			rel, _ := filepath.Rel(root, name)
			read(rel)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ (.*)$`)
	unslug   = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// No page leads to a page or a heading that is not there.
func TestLinksOfTheDocumentation(t *testing.T) {
	all := pages(t)
	anchors := func(page string) (slugs []string) {
		for _, h := range headings.FindAllStringSubmatch(all[page], -1) {
			slugs = append(slugs, strings.ReplaceAll(unslug.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-"))
		}
		return slugs
	}
	for page, text := range all {
		for _, m := range links.FindAllStringSubmatch(text, -1) {
			file, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(m[1], "://") {
				continue
			}
			to := page
			if file != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(page), file))
			}
			if _, err := os.Stat(filepath.Join("..", "..", to)); err != nil {
				t.Errorf("%s: %s is not there", page, m[1])
			} else if anchor != "" && !slices.Contains(anchors(to), anchor) {
				t.Errorf("%s: %s has no such heading", page, m[1])
			}
		}
	}
}

var blocks = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```")

// Each example of a configuration is taken: alone if it is whole, else beside what it leaves out.
func TestExamplesOfTheDocumentationAreTaken(t *testing.T) {
	here := regexp.MustCompile(`(?ms)^cat >/etc/azp-bootstrap/config.yaml <<'YAML'\n(.*?)^YAML$`)
	examples := 0
	for page, text := range pages(t) {
		var all []string
		for _, b := range blocks.FindAllStringSubmatch(text, -1) {
			if b[1] == "yaml" && !strings.HasPrefix(b[2], "#cloud-config") {
				all = append(all, b[2])
			}
			for _, h := range here.FindAllStringSubmatch(b[2], -1) {
				all = append(all, h[1])
			}
		}
		for _, example := range all {
			if !regexp.MustCompile(`(?m)^(url|target|agent|credential|network|sources|drain|health|deadline):`).MatchString(example) {
				continue
			}
			if runtime.GOOS == "windows" && regexp.MustCompile(`(?m)^(retire|start|hooks|disk):`).MatchString(example) {
				continue // of Linux
			}
			examples++
			dir := t.TempDir()
			ca := filepath.Join(dir, "ca.pem")
			example = strings.ReplaceAll(example, "/etc/azp-bootstrap/corp-ca.pem", ca)
			for name, content := range map[string]string{
				"config.yaml": example, "ca.pem": "",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var set []string
			for group, value := range map[string]string{
				"url": "url=https://dev.azure.com/contoso", "target": "target.pool.name=Default", "credential": "credential.entra=true",
			} {
				if !regexp.MustCompile(`(?m)^` + group + `:`).MatchString(example) {
					set = append(set, value)
				}
			}
			l, err := config.Load(filepath.Join(dir, "config.yaml"), nil, set)
			if err == nil {
				_, err = l.Config()
			}
			if err != nil {
				t.Errorf("%s: %v\n%s", page, err, example)
			}
		}
	}
	if examples < 6 {
		t.Errorf("%d examples were tried", examples)
	}
}

// Each command of the documentation exists, with its flags; and each command is on the page of commands.
func TestCommandsOfTheDocumentationExist(t *testing.T) {
	root := (&app{}).root()
	said := regexp.MustCompile("azp-bootstrap((?: +[^ `|;&<>)\n]+)*)")
	tried := 0
	for page, text := range pages(t) {
		var lines []string
		for _, b := range blocks.FindAllStringSubmatch(text, -1) {
			if b[1] == "sh" {
				lines = append(lines, strings.Split(regexp.MustCompile(`#[^\n]*`).ReplaceAllString(b[2], ""), "\n")...)
			}
		}
		for _, m := range regexp.MustCompile("`([^`\n]+)`").FindAllStringSubmatch(text, -1) {
			if strings.HasPrefix(m[1], "azp-bootstrap ") {
				lines = append(lines, m[1])
			}
		}
		for _, line := range lines {
			for _, m := range said.FindAllStringSubmatch(line, -1) {
				words := strings.Fields(m[1])
				if len(words) == 0 || !regexp.MustCompile(`^[a-z]+$`).MatchString(words[0]) {
					continue
				}
				c, rest, err := root.Find(words)
				if err != nil || c == root {
					t.Errorf("%s: there is no command: azp-bootstrap %s", page, strings.Join(words, " "))
					continue
				}
				tried++
				for _, word := range rest {
					name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
					if strings.HasPrefix(word, "--") && c.Flags().Lookup(name) == nil && c.InheritedFlags().Lookup(name) == nil && name != "help" {
						t.Errorf("%s: azp-bootstrap %s has no flag %s", page, c.Name(), word)
					}
				}
			}
		}
	}
	if tried < 40 {
		t.Errorf("%d commands were tried", tried)
	}
	commands := pages(t)["docs/commands.md"]
	for _, c := range root.Commands() {
		if !regexp.MustCompile("`[^`]*\\b"+c.Name()+"\\b").MatchString(commands) && c.IsAvailableCommand() {
			t.Errorf("docs/commands.md does not say what %s does", c.Name())
		}
	}
}
