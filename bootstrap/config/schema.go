package config

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"go.yaml.in/yaml/v3"

	"azp-bootstrap/bootstrap/line"
	"azp-bootstrap/bootstrap/secret"
)

// A Value is one configured value and the place it was read from.
type Value struct {
	Any   any    // string, bool, time.Duration, Size, Percent, Count or []string
	Where string // "file:line", "environment AZP_BOOTSTRAP_URL", "default", …
}

// A Layer is one source: its values by key ("agent.name").
type Layer struct {
	Name   string
	Values map[string]Value
}

// schema maps every key to its type, read off Config so that the two cannot differ.
var schema = func() map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	var walk func(t reflect.Type, prefix string)
	walk = func(t reflect.Type, prefix string) {
		for f := range t.Fields() {
			name := f.Tag.Get("key")
			if name == "-" {
				continue
			}
			if as := f.Tag.Get("as"); as != "" { // as people write it
				name = as
			}
			ft := f.Type
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			if ft.Kind() == reflect.Struct {
				walk(ft, prefix+name+".")
				continue
			}
			keys[prefix+name] = ft
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return keys
}()

// Keys lists every configuration key in order.
func Keys() []string {
	keys := make([]string, 0, len(schema))
	for k := range schema {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// groups are the keys that hold others.
func groups() (all []string) {
	for _, k := range Keys() {
		for i := range k {
			if k[i] == '.' && !slices.Contains(all, k[:i]) {
				all = append(all, k[:i])
			}
		}
	}
	return all
}

func isGroup(key string) bool {
	for k := range schema {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// secretKeys are what people call a credential; none belongs into a file.
var secretKeys = []string{
	"token",
	"pat",
	"password",
	"accesstoken",
	"personalaccesstoken",
	"secretvalue",
	"clientsecret",
	"apikey",
}

func problemUnknown(where, key string) Problem {
	last := strings.ToLower(key[strings.LastIndex(key, ".")+1:])
	for _, s := range secretKeys {
		if last == s {
			return Problem{
				where,
				key,
				"a credential does not belong into the configuration",
				"Store the PAT in Key Vault and name it in credential.keyVault; delete this line, and revoke the " +
					"token if it was real.",
			}
		}
	}
	if last == "tags" {
		return Problem{where, key, "unknown key", "Tags stand in target.environment.tags or target.deploymentGroup.tags; a pool's agents have none."}
	}
	best, distance := "", 4
	for _, k := range append(Keys(), groups()...) {
		sameGroup := strings.Count(k, ".") == strings.Count(key, ".") && strings.HasPrefix(k, key[:strings.LastIndex(key, ".")+1])
		theirs, ours := strings.ToLower(key[strings.LastIndex(key, ".")+1:]), strings.ToLower(k[strings.LastIndex(k, ".")+1:])
		d := levenshtein.Distance(strings.ToLower(k), strings.ToLower(key), nil)
		if sameGroup && levenshtein.Distance(ours, theirs, nil) > (len(theirs)+1)/2 {
			continue // a sibling that is nothing alike
		}
		if d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return Problem{where, key, "unknown key", "Did you mean " + best + "?"}
	}
	return Problem{
		where,
		key,
		"unknown key",
		"Delete it; the keys are listed in docs/configuration.md and by azp-bootstrap config example.",
	}
}

// fromYAML reads a document into a layer, by hand: what decodes into a struct loses the line
// numbers and the distinction between types that a strict reading needs.
func fromYAML(name string, data []byte) (Layer, Problems) {
	l := Layer{Name: name, Values: map[string]Value{}}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return l, Problems{
			{
				name,
				"",
				"not valid YAML: " + strings.TrimPrefix(err.Error(), "yaml: "),
				"Fix the syntax (indentation with spaces, a space after each colon).",
			},
		}
	}
	if len(doc.Content) == 0 {
		return l, nil
	}
	return l, l.walk(doc.Content[0], "", 0)
}

func (l Layer) at(n *yaml.Node) string { return fmt.Sprintf("%s:%d", l.Name, n.Line) }

func (l Layer) walk(n *yaml.Node, key string, depth int) Problems {
	if n.Kind == yaml.AliasNode || depth > 8 {
		return Problems{{l.at(n), key, "aliases and deep nesting are not supported", "Write the value out."}}
	}
	if n.Kind != yaml.MappingNode {
		if key == "" {
			return Problems{
				{l.at(n), "", "the document is not a mapping of keys to values", "Begin with a key such as url:."},
			}
		}
		if n.Tag == "!!null" {
			return nil // "identity:" with nothing behind it
		}
		fix := "Indent its keys below it."
		if n.Kind == yaml.ScalarNode && schema[key+".name"] != nil {
			last := key[strings.LastIndex(key, ".")+1:]
			fix = fmt.Sprintf("Write %s: {name: %s}.", last, line.Shown(n.Value))
			if schema[key+".project"] != nil {
				fix = fmt.Sprintf("Write %s: {project: PROJECT, name: %s}.", last, line.Shown(n.Value))
			}
		}
		return Problems{{l.at(n), key, "is a group of keys, not a value", fix}}
	}
	var ps Problems
	if len(n.Content) == 0 && strings.HasPrefix(key, "target.") {
		l.Values[key+".name"] = Value{"", l.at(n)}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		full := k.Value
		if key != "" {
			full = key + "." + k.Value
		}
		t, leaf := schema[full]
		switch {
		case seen[full]:
			ps = append(ps, Problem{l.at(k), full, "is given twice", "Delete one of the two."})
		case leaf && isGroup(full) && v.Kind == yaml.MappingNode: // credential.entra is a word, or a group
			ps = append(ps, l.walk(v, full, depth+1)...)
		case leaf && v.Tag == "!!null":
			// "version:" with nothing behind it: not set
		case leaf:
			val, err := fromNode(t, v)
			if err != "" {
				ps = append(ps, Problem{l.at(v), full, err, wantedFix(t)})
				continue
			}
			if hasToken(val) {
				fix := "Store the PAT in Key Vault and name it in credential.keyVault. Revoke the token if it was real."
				if full == "network.proxy" {
					fix = "Name the proxy without user and password, and give them in the service's environment: systemctl edit " +
						"azp-bootstrap, [Service], Environment=HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT."
				}
				ps = append(ps, Problem{l.at(v), full, "a token or password is written here", fix})
				continue
			}
			l.Values[full] = Value{val, l.at(v)}
		case isGroup(full):
			ps = append(ps, l.walk(v, full, depth+1)...)
		default:
			ps = append(ps, problemUnknown(l.at(k), full))
		}
		seen[full] = true
	}
	return ps
}

// hasToken reports whether a value holds a credential: something shaped like a token, or the
// password part of a URL.
func hasToken(v any) bool {
	for _, s := range textOf(v) {
		_, rest, isURL := strings.Cut(s, "://")
		userinfo, _, at := strings.Cut(strings.SplitN(rest, "/", 2)[0], "@")
		if secret.LooksLikeToken(s) || isURL && at && userinfo != "" {
			return true
		}
	}
	return false
}

func textOf(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []string:
		return v
	}
	return nil
}

func wanted(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[time.Duration]():
		return "a duration"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "a list of texts"
	case t == reflect.TypeFor[Size]():
		return "a size"
	case t == reflect.TypeFor[Percent]():
		return "a percentage"
	case t == reflect.TypeFor[Count]():
		return "a whole number"
	}
	return "a text"
}

func wantedFix(t reflect.Type) string {
	switch wanted(t) {
	case "a duration":
		return "Write a number with a unit, such as 90s, 15m or 1h."
	case "true or false":
		return "Write true or false, without quotes."
	case "a list of texts":
		return "Write a list, such as [web, blue]."
	case "a size":
		return "Write a number with a unit, such as 5GiB or 500MB; 0 = off."
	case "a percentage":
		return "Write a whole number with %, such as 5%; 0 = off."
	case "a whole number":
		return "Write a whole number, such as 1; 0 = off."
	}
	return "Write a text; put quotes around it if it looks like a number or a date."
}

func fromNode(t reflect.Type, n *yaml.Node) (any, string) {
	wrong := func() (any, string) {
		got := map[string]string{
			"!!map": "a group of keys", "!!seq": "a list", "!!int": "a number", "!!float": "a number",
			"!!bool": "true or false", "!!timestamp": "a date", "!!str": "a text",
		}[n.Tag]
		if got == "" {
			got = n.Tag
		}
		return nil, "wrong type: got " + got + ", want " + wanted(t)
	}
	switch wanted(t) {
	case "a list of texts":
		if n.Kind != yaml.SequenceNode {
			return wrong()
		}
		list := []string{}
		for _, c := range n.Content {
			if c.Kind != yaml.ScalarNode || c.Tag != "!!str" {
				return nil, "wrong type: the list holds something else than texts"
			}
			list = append(list, c.Value)
		}
		return list, ""
	case "true or false":
		if n.Tag != "!!bool" {
			return wrong()
		}
		b, err := strconv.ParseBool(strings.ToLower(n.Value))
		if err != nil {
			return wrong()
		}
		return b, ""
	default:
		if f, err := strconv.ParseFloat(n.Value, 64); wanted(t) == "a whole number" && n.Tag == "!!float" && err == nil && f == math.Trunc(f) {
			return fromText(t, strconv.FormatFloat(f, 'f', 0, 64)) // 1e3
		}
		off := n.Tag == "!!int" && (n.Value == "0" && wanted(t) != "a text" || wanted(t) == "a whole number")
		if n.Kind != yaml.ScalarNode || n.Tag != "!!str" && !off {
			return wrong()
		}
		return fromText(t, n.Value)
	}
}

// fromText reads a value from the environment, a flag or a VM tag, where everything is text.
func fromText(t reflect.Type, s string) (any, string) {
	switch wanted(t) {
	case "a duration":
		d, err := time.ParseDuration(s)
		if err != nil || d < 0 {
			return nil, "not a duration: " + strconv.Quote(s)
		}
		return d, ""
	case "a size":
		if size, ok := sizeOf(s); ok {
			return size, ""
		}
		return nil, "not a size: " + strconv.Quote(s)
	case "a percentage":
		if percent, ok := percentOf(s); ok {
			return percent, ""
		}
		return nil, "not a percentage below 100: " + strconv.Quote(s)
	case "a whole number":
		if count, ok := countOf(s); ok {
			return count, ""
		}
		return nil, "not a whole number: " + strconv.Quote(s)
	case "true or false":
		b, err := strconv.ParseBool(s)
		if err != nil {
			return nil, "neither true nor false: " + strconv.Quote(s)
		}
		return b, ""
	case "a list of texts":
		list := []string{}
		for _, p := range strings.Split(s, ",") {
			if p = strings.TrimSpace(p); p != "" {
				list = append(list, p)
			}
		}
		return list, ""
	}
	return s, ""
}
