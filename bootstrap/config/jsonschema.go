package config

import (
	"reflect"
	"regexp"
	"strings"
	"time"
)

// choices are the words that a key takes; of a list, each of its texts.
var choices = map[string][]string{
	"agent.service":      {"auto", "process"},
	"agent.replace":      {"offline", "always", "never"},
	"agent.metadata":     {Deny, Allow},
	"cloud":              {"auto", "public", "usgovernment", "china"},
	"start.after":        {CloudInit},
	"start.hold":         {"auto", "never"},
	"agent.registration": {ByScript, ByRest},
	"retire.then":        {ThenDelete, ThenReimage, ThenPowerOff, ThenNone},
}

// JSONSchema is the configuration's schema (JSON Schema draft 7, which editors' YAML servers read), made from the keys, types,
// words and defaults that the program itself uses. example is a configuration with every key: its comments explain the keys.
// A file may hold any part of the configuration, so nothing is required.
func JSONSchema(example string) map[string]any {
	about := comments(example)
	root := object(about[""])
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "azp-bootstrap: how a VM joins Azure Pipelines"
	inside := map[string]map[string]any{"": root["properties"].(map[string]any)} // the properties of each group
	for _, group := range groups() {
		g, above, name := object(about[group]), "", group
		if i := strings.LastIndex(group, "."); i >= 0 {
			above, name = group[:i], group[i+1:]
		}
		if group == "target" {
			g["maxProperties"] = 1
		}
		inside[group] = g["properties"].(map[string]any)
		inside[above][name] = g
	}
	for _, key := range Keys() {
		above, name := "", key
		if i := strings.LastIndex(key, "."); i >= 0 {
			above, name = key[:i], key[i+1:]
		}
		l := leaf(key, about[key])
		if g := inside[above][name]; g != nil { // a word, or a group
			l = map[string]any{"anyOf": []any{l, g}}
		}
		inside[above][name] = l
	}
	return root
}

// object is a group of keys. "identity:" with nothing behind it is one as well.
func object(about string) map[string]any {
	o := map[string]any{"type": []string{"object", "null"}, "additionalProperties": false, "properties": map[string]any{}}
	if about != "" {
		o["description"] = about
	}
	return o
}

// The forms of texts, as fromText reads them.
const (
	durationForm = `^\+?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$`
	sizeForm     = `^\s*(0|[0-9][0-9,]*(\.[0-9]*)?\s*([KkMmGgTtPpEe][Ii]?[Bb]?|[Bb]))\s*$`
	countForm    = `^0*[0-9]{1,6}$`
	percentForm  = `^\s*(0|0*[0-9]{1,2}\s*%)\s*$`
)

func leaf(key, about string) map[string]any {
	t, l := schema[key], map[string]any{}
	switch wanted(t) {
	case "a duration":
		l["type"], l["pattern"] = []string{"string", "integer", "null"}, durationForm
		l["minimum"], l["maximum"] = 0, 0
	case "a whole number":
		l["type"], l["pattern"] = []string{"string", "integer", "null"}, countForm
		l["minimum"], l["maximum"] = 0, mostCounted
	case "a size":
		l["type"], l["pattern"] = []string{"string", "integer", "null"}, sizeForm
		l["minimum"], l["maximum"] = 0, 0 // of numbers only 0, which switches off
	case "a percentage":
		l["type"], l["pattern"] = []string{"string", "integer", "null"}, percentForm
		l["minimum"], l["maximum"] = 0, 0
	case "true or false":
		l["type"] = []string{"boolean", "null"}
	case "a list of texts":
		items := map[string]any{"type": "string"}
		if c := choices[key]; c != nil {
			items["enum"] = c
		}
		l["type"], l["items"] = []string{"array", "null"}, items
	default:
		l["type"] = []string{"string", "null"}
		if c := choices[key]; c != nil {
			l["enum"] = append(anys(c), nil)
		}
	}
	if about != "" {
		l["description"] = about
	}
	if d, ok := defaults[key]; ok {
		l["default"] = plainDefault(t, d)
	}
	return l
}

func anys(all []string) []any {
	out := make([]any, len(all))
	for i, s := range all {
		out[i] = s
	}
	return out
}

// plainDefault is a default as somebody would write it.
func plainDefault(t reflect.Type, d any) any {
	switch v := d.(type) {
	case time.Duration:
		return ShowValue(v)
	case bool, string, []string:
		return v
	}
	if text := ShowValue(d); text != "0" || wanted(t) == "a text" {
		return text
	}
	return 0
}

var keyLine = regexp.MustCompile(`^#?( *)([A-Za-z]+):`)

// comments are the lines behind ## above each key of the example, and above the first of them ("").
func comments(example string) map[string]string {
	about, path := map[string]string{}, []string{}
	var above []string
	for _, text := range strings.Split(example, "\n") {
		if c, ok := strings.CutPrefix(strings.TrimSpace(text), "##"); ok {
			above = append(above, strings.TrimSpace(c))
			continue
		}
		m := keyLine.FindStringSubmatch(text)
		if m == nil {
			if len(path) == 0 && len(above) > 0 && about[""] == "" {
				about[""] = strings.Join(above, " ")
			}
			above = nil
			continue
		}
		path = append(path[:min(len(m[1])/2, len(path))], m[2])
		if len(above) > 0 {
			about[strings.Join(path, ".")] = strings.Join(above, " ")
		}
		above = nil
	}
	return about
}
