package config

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"go.yaml.in/yaml/v3"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/tree"
)

// A Loader holds the local sources. Remote ones (user data, tags) are added when IMDS has answered.
type Loader struct {
	PATGiven bool // by hand: no credential need be configured

	local []Layer // defaults, file, conf.d
	top   []Layer // environment, flags: stronger than the remote ones
}

// Load reads the local sources: the file (which may be missing if the rest is enough), conf.d
// beside it, the environment and --set flags. All problems are reported at once.
func Load(file string, environ, flags []string) (*Loader, error) {
	return LoadFrom(tree.Tree{}, file, environ, flags)
}

// LoadFrom is Load for an image: the file's name has the image's folder in front.
func LoadFrom(t tree.Tree, file string, environ, flags []string) (*Loader, error) {
	def := Layer{"default", map[string]Value{}}
	for k, v := range defaults {
		def.Values[k] = Value{v, "default"}
	}
	l := &Loader{local: []Layer{def}}
	dropIns := filepath.Join(filepath.Dir(file), "conf.d")
	names, err := t.Glob(filepath.Join(dropIns, "*.yaml"))
	if err != nil {
		return nil, Problems{{dropIns, "", err.Error(), "Use a folder name without wildcards."}}.Err()
	}
	sort.Strings(names)
	var ps Problems
	found := false
	for _, name := range append([]string{file}, names...) {
		data, err := t.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			ps = append(
				ps,
				Problem{
					name,
					"",
					"cannot be read: " + errors.Unwrap(err).Error(),
					"Check the file and its rights; run as root.",
				},
			)
			continue
		}
		if !found {
			ps = append(ps, checkOwner(t, filepath.Dir(file))...)
			ps = append(ps, checkOwner(t, dropIns)...)
		}
		found = true
		ps = append(ps, checkOwner(t, name)...)
		if name != file && len(data) == 0 {
			// What cloud-init wrote half a minute before a power cut is a name without content
			// (ext4's delayed allocation), and cloud-init does not write it again: the VM would
			// join what the image names.
			ps = append(
				ps,
				Problem{
					name,
					"",
					"is empty: what was written to it may have been lost in a power cut",
					"Write it again (cloud-init clean --reboot), or delete it.",
				},
			)
			continue
		}
		if isUTF16(data) {
			ps = append(ps, Problem{name, "", "is text in UTF-16, as Windows PowerShell writes it by itself",
				"Save it as UTF-8: in PowerShell, Out-File -Encoding utf8."})
			continue
		}
		layer, problems := fromYAML(name, data)
		l.local, ps = append(l.local, layer), append(ps, problems...)
	}
	env, problems := fromEnvironment(environ)
	ps = append(ps, problems...)
	set, problems := fromPairs("--set", flags)
	ps = append(ps, problems...)
	l.top = []Layer{env, set}
	if len(ps) > 0 {
		return nil, append(ps, l.further(ps)...).Err()
	}
	if !found && len(env.Values)+len(set.Values) == 0 {
		return nil, fault.New(fault.Config, "%s: no such file", file).
			Hint("Write the configuration there (azp-bootstrap config example prints one), or name another file with --config.")
	}
	return l, nil
}

// isUTF16 reports whether a text begins with the byte order mark of UTF-16, or is ASCII written so.
func isUTF16(data []byte) bool {
	if len(data) < 2 {
		return false
	}
	mark := string(data[:2])
	return mark == "\xff\xfe" || mark == "\xfe\xff" || data[0] == 0 && data[1] != 0 || data[0] != 0 && data[1] == 0
}

// further is what is wrong with the values that could be read, beside what could not: all is said at
// once. What is missing may stand where nothing could be read, and is no news yet.
func (l *Loader) further(known Problems) (more Problems) {
	c := &Config{Values: map[string]Value{}}
	for _, layer := range append(slices.Clone(l.local), l.top...) {
		maps.Copy(c.Values, layer.Values)
	}
	impliedEntra(c.Values)
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{Result: c, TagName: "key"})
	if err != nil || d.Decode(nested(c.Values)) != nil {
		return nil
	}
	for _, p := range c.check(true, false) {
		v, given := c.Values[p.Key]
		told := slices.ContainsFunc(known, func(k Problem) bool { return k.Key == p.Key && k.Where == p.Where })
		if given && v.Where != "default" && !told {
			more = append(more, p)
		}
	}
	return more
}

// Config merges the sources and checks the result. remote may be empty.
func (l *Loader) Config(remote ...Layer) (*Config, error) {
	values := map[string]Value{}
	layers := append(append(append([]Layer{}, l.local...), remote...), l.top...)
	for _, layer := range layers {
		if err := onlyOne(layer); err != nil {
			return nil, err
		}
		weaker := maps.Clone(values)
		for key := range layer.Values {
			maps.DeleteFunc(weaker, func(other string, _ Value) bool { return rivalsInEntra(key, other) })
			for _, g := range exclusive {
				if g.has(key) { // a stronger source's target or identity replaces the weaker one's whole
					maps.DeleteFunc(weaker, func(other string, _ Value) bool { return g.rivals(key, other) })
				}
			}
		}
		values = weaker
		maps.Copy(values, layer.Values)
	}
	impliedEntra(values)
	c := &Config{Values: values}
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{Result: c, TagName: "key", ErrorUnused: true})
	if err == nil {
		err = d.Decode(nested(values))
	}
	if err != nil {
		return nil, fault.New(fault.Config, "the configuration does not fit together").Because(err)
	}
	// The target may still come from user data or tags, once IMDS answers.
	awaited := len(remote) == 0 && (c.Sources.UserData || c.Sources.Tags)
	if err := c.check(awaited, l.PATGiven).Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// nested is values by key as the levels of the file.
func nested(values map[string]Value) map[string]any {
	tree := map[string]any{}
	for key, v := range values {
		levels := strings.Split(strings.Replace(key, entraKey+".", entraKey+"In.", 1), ".")
		at := tree
		for _, level := range levels[:len(levels)-1] {
			below, _ := at[level].(map[string]any)
			if below == nil {
				below = map[string]any{}
				at[level] = below
			}
			at = below
		}
		at[levels[len(levels)-1]] = v.Any
	}
	return tree
}

// exclusive groups of keys: of each, one member may be set.
type group struct {
	prefix  string
	members int // how many levels name the member
	fix     string
}

var exclusive = []group{
	{"target.", 2, "Keep exactly one of target.environment, target.deploymentGroup and target.pool."},
	{
		"credential.identity.",
		3,
		"Keep one of clientId, objectId and resourceId, or none for the system-assigned identity.",
	},
}

func (g group) has(key string) bool { return strings.HasPrefix(key, g.prefix) }

func (g group) member(key string) string {
	return strings.Join(strings.Split(key, ".")[:g.members], ".")
}

func (g group) rivals(a, b string) bool { return g.has(b) && g.member(a) != g.member(b) }

func onlyOne(l Layer) error {
	for _, g := range exclusive {
		first := map[string]string{}
		for key, v := range l.Values {
			if g.has(key) && !(v.Any == "" && g.members == 3) {
				if w, ok := first[g.member(key)]; !ok || v.Where < w {
					first[g.member(key)] = v.Where
				}
			}
		}
		if len(first) > 1 {
			var members, wheres []string
			for m, w := range first {
				members, wheres = append(members, m), append(wheres, w)
			}
			sort.Strings(members)
			sort.Strings(wheres)
			return Problems{
				{wheres[len(wheres)-1], strings.Join(members, " and "), "only one of them may be set", g.fix},
			}.Err()
		}
	}
	return nil
}

// remoteKeys are what user data and tags may set: their writers may be people who must not see the
// PAT, so nothing that decides where a token goes or what runs.
func remoteKey(key string) bool { return strings.HasPrefix(key, "target.") || key == "agent.name" }

// Remote makes layers of IMDS user data and VM tags, as far as base allows them. userData is as
// IMDS gives it (base64).
func (l *Loader) Remote(base *Config, userData string, tags map[string]string) ([]Layer, error) {
	var layers []Layer
	var ps Problems
	if base.Sources.UserData {
		data, err := base64.StdEncoding.DecodeString(userData)
		if err != nil {
			return nil, Problems{
				{"user data", "", "not base64", "Give user data as Azure wants it: az vmss update --user-data FILE."},
			}.Err()
		}
		layer, problems := fromYAML("user data", ownPart(data))
		layers, ps = append(layers, layer), append(ps, problems...)
	}
	if base.Sources.Tags {
		var pairs []string
		for k, v := range tags {
			const prefix = "azp-bootstrap." // the names of tags know no case
			if len(k) > len(prefix) && strings.EqualFold(k[:len(prefix)], prefix) {
				pairs = append(pairs, k[len(prefix):]+"="+v)
			}
		}
		sort.Strings(pairs)
		layer, problems := fromPairs("VM tag", pairs)
		layers, ps = append(layers, layer), append(ps, problems...)
	}
	if !base.Sources.TrustRemote {
		for _, layer := range layers {
			for key, v := range layer.Values {
				if !remoteKey(key) {
					ps = append(
						ps,
						Problem{
							v.Where,
							key,
							"may not be set from here",
							"User data and tags may set target and agent.name only; " +
								"set " + key + " in the file, or sources.trustRemote there if their writers are trusted with the PAT.",
						},
					)
				}
			}
		}
	}
	return layers, ps.Err()
}

// ownPart is the value of the top-level key azp-bootstrap where a document has one, so that user
// data can serve others (cloud-init) as well; else the whole document.
// Unread reports whether user data (in base64, as IMDS gives it) or tags have keys of azp-bootstrap, while the
// configuration does not read them.
func Unread(c *Config, userData string, tags map[string]string) (what string) {
	data, err := base64.StdEncoding.DecodeString(userData)
	var keys map[string]yaml.Node
	if err == nil && !c.Sources.UserData && len(data) <= 64<<10 && yaml.Unmarshal(ownPart(data), &keys) == nil {
		for key := range keys {
			if isGroup(key) || schema[key] != nil {
				return "user data has the key " + key + " of azp-bootstrap, and sources.userData is off: it is not read"
			}
		}
	}
	for tag := range tags {
		if !c.Sources.Tags && strings.HasPrefix(strings.ToLower(tag), "azp-bootstrap.") {
			return "the VM has the tag " + tag + ", and sources.tags is off: it is not read"
		}
	}
	return ""
}

func ownPart(doc []byte) []byte {
	var m map[string]yaml.Node
	if yaml.Unmarshal(doc, &m) == nil {
		if own, ok := m["azp-bootstrap"]; ok {
			if part, err := yaml.Marshal(&own); err == nil {
				return part
			}
		}
	}
	return doc
}
