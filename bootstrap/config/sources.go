package config

import (
	"io/fs"
	"strings"

	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/tree"
)

// fromEnvironment reads AZP_BOOTSTRAP_<KEY>, "__" between levels, case ignored.
func fromEnvironment(environ []string) (Layer, Problems) {
	l := Layer{Name: "environment", Values: map[string]Value{}}
	var ps Problems
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		rest, ours := strings.CutPrefix(strings.ToUpper(name), "AZP_BOOTSTRAP_")
		if !ours || notKeys[rest] {
			continue
		}
		where := "environment " + name
		key, ok := canonical(strings.ReplaceAll(rest, "__", "."))
		if !ok {
			ps = append(ps, problemUnknown(where, strings.ToLower(strings.ReplaceAll(rest, "__", "."))))
			continue
		}
		ps = append(ps, l.setText(key, value, where)...)
	}
	return l, ps
}

// notKeys are variables with our prefix that are not configuration: the global flags, the marks
// that every agent of ours carries (a job that runs this command inherits them), and what start
// scripts are told.
var notKeys = map[string]bool{"CONFIG": true, "STATE_DIR": true, "LOG_LEVEL": true, "LOG_FORMAT": true,
	"INSTANCE_ID": true, "SCALE_SET": true, "RESOURCE_GROUP": true, "SUBSCRIPTION_ID": true, "REGISTERED": true,
	"VM": true, "LOCATION": true, "TARGET_KIND": true, "TARGET_PROJECT": true, "TARGET_NAME": true}

func canonical(key string) (string, bool) {
	for k := range schema {
		if strings.EqualFold(k, key) {
			return k, true
		}
	}
	return key, false
}

func (l Layer) setText(key, text, where string) Problems {
	v, err := fromText(schema[key], text)
	if err != "" {
		return Problems{{where, key, err, wantedFix(schema[key])}}
	}
	for _, s := range textOf(v) {
		if secret.LooksLikeToken(s) {
			return Problems{
				{
					where,
					key,
					"a token is written here",
					"Store the PAT in Key Vault and name it in credential.keyVault.",
				},
			}
		}
	}
	l.Values[key] = Value{v, where}
	return nil
}

// fromPairs reads key=value pairs: --set flags and VM tags.
func fromPairs(name string, pairs []string) (Layer, Problems) {
	l := Layer{Name: name, Values: map[string]Value{}}
	var ps Problems
	for _, p := range pairs {
		given, value, found := strings.Cut(p, "=")
		where := name + " " + given
		key, ok := canonical(strings.TrimSpace(given))
		switch {
		case !found:
			ps = append(ps, Problem{where, "", "not KEY=VALUE", "Write for example " + name + " agent.name=web-1."})
		case !ok:
			ps = append(ps, problemUnknown(where, key))
		default:
			ps = append(ps, l.setText(key, value, where)...)
		}
	}
	return l, ps
}

// WritableByOthers says who besides root and the caller may write a file, and what mends it; "" if
// nobody. On Windows the folders' access lists decide; nothing is said here.
func WritableByOthers(fi fs.FileInfo) (who, fix string) { return writableByOthers(fi) }

// checkOwner refuses what others could have written.
func checkOwner(t tree.Tree, path string) Problems {
	fi, err := t.Stat(path)
	if err != nil {
		return nil // the reader reports it
	}
	if who, fix := writableByOthers(fi); who != "" {
		return Problems{{path, "", who, "Run: " + fix + " " + path}}
	}
	if who, fix := listedWriter(path); who != "" {
		return Problems{{path, "", who, fix}}
	}
	return nil
}
