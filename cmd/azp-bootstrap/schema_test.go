package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"azp-bootstrap/bootstrap/config"
)

// asJSON is a document as a validator of JSON Schema takes it.
func asJSON(t *testing.T, v any) any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	if err := c.AddResource("config.json", asJSON(t, config.JSONSchema(string(exampleConfig)))); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("config.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The schema refuses what the program refuses for its type or word, and nothing else.
func TestTheSchemaAgreesWithTheProgram(t *testing.T) {
	schema, file := compiledSchema(t), filepath.Join(t.TempDir(), "config.yaml")
	values := []string{`text`, `""`, `"0"`, `5m`, `1h30m`, `.5s`, `-5m`, `+5m`, `1e3`, `5x`, `5GiB`, `500 MB`, `"1,000kb"`, `5`, `0`, `7.5`, `50%`, `"7 %"`, `100%`,
		`true`, `"true"`, `[a]`, `[1]`, `[]`, `{}`, `{a: b}`, `null`, `auto`, `process`, `never`, `public`, `[cloudInit]`, `"012%"`, `00m`, `0m5`}
	typed := regexp.MustCompile(`wrong type|not a (duration|size|percentage|whole number)|is a group|unknown (key|value)`)
	for _, key := range config.Keys() {
		for _, value := range values {
			parts := strings.Split(key, ".")
			text := strings.Join(parts, ": {") + ": " + value + strings.Repeat("}", len(parts)-1) + "\n"
			var doc any
			if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
				t.Fatal(text, err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			said := ""
			l, err := config.Load(file, nil, nil)
			if err == nil {
				_, err = l.Config()
			}
			if err != nil {
				for _, line := range strings.Split(err.Error(), "\n") {
					if strings.Contains(line, key+":") || strings.Contains(line, key+" ") || strings.Contains(line, key+".") {
						said += line + "\n"
					}
				}
			}
			program, editor := typed.MatchString(said), schema.Validate(asJSON(t, doc)) != nil
			if program != editor {
				t.Errorf("%s: the program refuses: %v, the schema: %v\n%s", strings.TrimSpace(text), program, editor, err)
			}
		}
	}
	for _, text := range []string{"targget: {}", "target: {pool: {name: a}, environment: {name: b}}", "agent: {nam: a}", "url: [a]", "- a", "pat: x"} {
		var doc any
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if schema.Validate(asJSON(t, doc)) == nil {
			t.Errorf("the schema takes %s", text)
		}
	}
}

// Each configuration in the documentation and in this tree is what the schema takes.
func TestTheSchemaTakesTheDocumentation(t *testing.T) {
	schema, keys, seen := compiledSchema(t), map[string]bool{}, 0
	for _, k := range config.Keys() {
		keys[strings.Split(k, ".")[0]] = true
	}
	takes := func(where, text string) {
		var doc map[string]any
		if yaml.Unmarshal([]byte(text), &doc) != nil {
			return // of something else
		}
		if own, ok := doc["azp-bootstrap"].(map[string]any); ok { // user data
			doc = own
		}
		for k := range doc {
			if !keys[k] {
				return
			}
		}
		if len(doc) == 0 {
			return
		}
		seen++
		if err := schema.Validate(asJSON(t, doc)); err != nil {
			t.Errorf("%s:\n%s\n%s", where, text, err)
		}
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, _ := filepath.Glob("../../docs/*/*.md")
	for _, page := range append(append(pages, more...), "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?s)```yaml[^\n]*\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
			takes(page, m[1])
		}
	}
	for _, file := range []string{"example.yaml", "../../packer/config.yaml", "../../scripts/package/config.yaml"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		takes(file, string(text))
	}
	if seen < 8 {
		t.Errorf("only %d configurations were found", seen)
	}
}
