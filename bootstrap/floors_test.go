package bootstrap

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// floors are the rooms of docs/contributing.md, from the ground up; those of one floor may know each other only as far as
// the compiler lets them.
var floors = [][]string{
	{"fault", "secret", "line", "tree", "whole", "retry", "scm", "acl"},
	{"azure", "devops", "config", "agent", "scripts"},
	{"journal", "health", "access", "vm", "gate"},
	{"phase", "member", "member/membertest"},
	{"join", "leave"},
	{"fleet", "image", "doctor", "."},
}

func TestImportsRunDownwards(t *testing.T) {
	const prefix = "azp-bootstrap/bootstrap/"
	floor := map[string]int{}
	for i, rooms := range floors {
		for _, room := range rooms {
			floor[room] = i
		}
	}
	files, err := filepath.Glob("*.go")
	for _, pattern := range []string{"*/*.go", "*/*/*.go"} {
		more, e := filepath.Glob(pattern)
		files, err = append(files, more...), e
	}
	if err != nil || len(files) < 100 {
		t.Fatal(len(files), err)
	}
	for _, file := range files {
		room := filepath.ToSlash(filepath.Dir(file))
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			other, ours := strings.CutPrefix(path, prefix)
			if !ours {
				continue
			}
			if strings.HasPrefix(room, "sim") {
				if !strings.HasPrefix(other, "sim") {
					t.Errorf("%s: the simulator shares %s with the product", file, other)
				}
				continue
			}
			above, known := floor[other]
			if here, ok := floor[room]; !ok || !known || above > here {
				t.Errorf("%s imports %s, which is above it or on no floor", file, other)
			}
			both := map[string]bool{room: true, other: true}
			if both["join"] && both["leave"] {
				t.Errorf("%s: the ways up and out know each other", file)
			}
		}
	}
}
