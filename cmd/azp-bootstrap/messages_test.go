//go:build unix

package main_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
)

// A message is a sentence that somebody may meet at 3 a.m., as the source has it, with … where names
// stand.
type message struct{ class, text, next string }

// docs/messages.md has each message of the product, and its next step, as the source has them. -update writes it.
func TestMessagesAreDocumented(t *testing.T) {
	found := messages(t)
	if len(found) < 150 {
		t.Fatalf("only %d messages were found: does the source look different by now?", len(found))
	}
	var page strings.Builder
	page.WriteString(`# Messages

Each message that ends an attempt or a command, or that it waits for, in its own words, by class and exit code; … stands for
names. Behind it, the next step that it gives. Read from the source, and held to it by a test.
What the classes are about: [troubleshooting](troubleshooting.md#exit-codes).
`)
	for _, c := range fault.Classes() {
		fmt.Fprintf(&page, "\n## %s (%d)\n\n", c.Code, c.Exit)
		for _, m := range found {
			if m.class != c.Code {
				continue
			}
			fmt.Fprintf(&page, "- **%s**\n", m.text)
			if m.next != "" && m.next != "…" {
				fmt.Fprintf(&page, "  %s\n", m.next)
			}
		}
	}
	file := filepath.Join("..", "..", "docs", "messages.md")
	if *update {
		if err := os.WriteFile(file, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if stands, err := os.ReadFile(file); err != nil || string(stands) != page.String() {
		t.Errorf("%s is not what the source says (%v): go test ./cmd/azp-bootstrap -run TestMessagesAreDocumented -update", file, err)
	}
}

// constants are the texts that have a name.
var constants = map[string]string{}

func learn(d *ast.GenDecl) {
	for _, s := range d.Specs {
		v, is := s.(*ast.ValueSpec)
		for i := 0; is && d.Tok == token.CONST && i < len(v.Values); i++ {
			if known := text(v.Values[i]); known != "" {
				constants[v.Names[i].Name] = known
			}
		}
	}
}

// messages reads the product's source.
func messages(t *testing.T) (all []message) {
	t.Helper()
	files := token.NewFileSet()
	for _, dir := range []string{filepath.Join("..", "..", "bootstrap"), "."} {
		if err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() && slices.Contains([]string{"sim", "membertest"}, d.Name()) {
				return cmp.Or(err, fs.SkipDir)
			}
			if d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for _, d := range f.Decls {
				if g, is := d.(*ast.GenDecl); is {
					learn(g)
				}
			}
			for _, d := range f.Decls {
				if fn, is := d.(*ast.FuncDecl); is && fn.Body != nil {
					all = append(all, messagesOf(fn)...)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortFunc(all, func(a, b message) int { return cmp.Or(cmp.Compare(a.class, b.class), cmp.Compare(a.text, b.text)) })
	return slices.CompactFunc(all, func(a, b message) bool { return a.class == b.class && a.text == b.text })
}

// messagesOf are those that a function makes: by fault.New, by a function of its own around it, and as
// problems of a configuration.
func messagesOf(fn *ast.FuncDecl) (all []message) {
	makers := map[string]message{} // local functions around fault.New: what they put in front
	hints, caused := map[ast.Expr]string{}, map[ast.Expr]bool{}
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			learn(n)
		case *ast.AssignStmt:
			lit, is := n.Rhs[0].(*ast.FuncLit)
			if name, named := n.Lhs[0].(*ast.Ident); is && named && len(n.Rhs) == 1 {
				if m, found := inner(lit, fn); found {
					makers[name.Name] = m
				}
			}
		case *ast.CallExpr: // a chain: fault.New(…).Because(…).Hint(…)
			sel, is := n.Fun.(*ast.SelectorExpr)
			if is && sel.Sel.Name == "Hint" && len(n.Args) > 0 {
				hints[root(n)] = text(n.Args[0])
			}
			if is && sel.Sel.Name == "Because" {
				caused[root(n)] = true
			}
		}
		return true
	})
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		if lit, is := n.(*ast.FuncLit); is {
			if m, found := inner(lit, fn); found && strings.Contains(m.text, "\x00") {
				return false // one of the makers
			}
		}
		switch n := n.(type) {
		case *ast.CallExpr:
			if class, format := made(n, fn); format != "" {
				if caused[n] {
					format += ": …"
				}
				all = append(all, message{class, shown(format), shown(hints[n])})
			} else if id, is := n.Fun.(*ast.Ident); is && len(n.Args) > 0 {
				if m, is := makers[id.Name]; is && text(n.Args[0]) != "" {
					hint := cmp.Or(hints[n], m.next)
					all = append(all, message{m.class, shown(strings.ReplaceAll(m.text, "\x00", text(n.Args[0]))), shown(hint)})
				}
			}
			if name := called(n); (name == "bad" || name == "f.bad") && len(n.Args) == 3 {
				all = append(all, message{"config", shown(strings.TrimPrefix(text(n.Args[0])+": "+text(n.Args[1]), ": ")), shown(text(n.Args[2]))})
			}
		case *ast.CompositeLit:
			if len(n.Elts) != 4 {
				return true
			}
			if id, is := n.Type.(*ast.Ident); n.Type == nil || is && id.Name == "Problem" {
				if wrong := text(n.Elts[2]); wrong != "" && wrong != "…" && !keyed(n) {
					all = append(all, message{"config", shown(wrong), shown(text(n.Elts[3]))})
				}
			}
		}
		return true
	})
	return slices.DeleteFunc(all, func(m message) bool {
		return !regexp.MustCompile(`\pL{3}`).MatchString(m.text) || strings.HasSuffix(m.text, ":") || strings.HasPrefix(m.text, "--existing …: …")
	})
}

func keyed(c *ast.CompositeLit) bool {
	_, is := c.Elts[0].(*ast.KeyValueExpr)
	return is
}

func called(c *ast.CallExpr) string {
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, is := f.X.(*ast.Ident); is {
			return x.Name + "." + f.Sel.Name
		}
	}
	return ""
}

// root is the first call of a chain of methods.
func root(e ast.Expr) ast.Expr {
	for {
		c, is := e.(*ast.CallExpr)
		if !is {
			return e
		}
		sel, is := c.Fun.(*ast.SelectorExpr)
		if !is {
			return c
		}
		if _, chained := sel.X.(*ast.CallExpr); !chained {
			return c
		}
		e = sel.X
	}
}

// made is what fault.New is called with; format is "" if it is another call.
func made(c *ast.CallExpr, fn *ast.FuncDecl) (class, format string) {
	if name := called(c); name != "fault.New" && name != "New" || len(c.Args) < 2 {
		return "", ""
	}
	switch of := c.Args[0].(type) {
	case *ast.SelectorExpr:
		class = of.Sel.Name
	case *ast.Ident:
		class = of.Name
	}
	codes := map[string]string{"c": "network"} // fault.Connection: the class of what is asked
	for n, c := range map[string]fault.Class{
		"Internal": fault.Internal, "Usage": fault.Usage, "Config": fault.Config, "IMDS": fault.IMDS, "Identity": fault.Identity,
		"Vault": fault.Vault, "PAT": fault.PAT, "Scope": fault.Scope, "Target": fault.Target, "Agent": fault.Agent,
		"Service": fault.Service, "Network": fault.Network, "State": fault.State, "Start": fault.Start, "Disk": fault.Disk,
	} {
		codes[n] = c.Code
	}
	if codes[class] == "" {
		return "", ""
	}
	return codes[class], text(c.Args[1])
}

// inner is what a local function around fault.New says, with \x00 where its caller's words stand.
func inner(lit *ast.FuncLit, fn *ast.FuncDecl) (m message, found bool) {
	params := map[string]bool{}
	for _, p := range lit.Type.Params.List {
		for _, n := range p.Names {
			params[n.Name] = true
		}
	}
	ast.Inspect(lit.Body, func(n ast.Node) bool {
		c, is := n.(*ast.CallExpr)
		if !is {
			return true
		}
		if sel, is := c.Fun.(*ast.SelectorExpr); is && sel.Sel.Name == "Hint" && len(c.Args) > 0 {
			m.next = text(c.Args[0])
		}
		class, format := made(c, fn)
		if format == "" {
			return true
		}
		verbs := regexp.MustCompile(`%[+#]?[a-z]`).FindAllStringIndex(format, -1)
		for i, arg := range c.Args[2:] {
			if i < len(verbs) && usesParam(arg, params) {
				m.class, found = class, true
				m.text = format[:verbs[i][0]] + "\x00" + format[verbs[i][1]:]
				return true
			}
		}
		return true
	})
	return m, found
}

func usesParam(e ast.Expr, params map[string]bool) (uses bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if id, is := n.(*ast.Ident); is && params[id.Name] {
			uses = true
		}
		return true
	})
	return uses
}

// text is a string as far as the source alone tells it.
func text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, err := strconv.Unquote(e.Value)
		if e.Kind != token.STRING || err != nil {
			return ""
		}
		return s
	case *ast.BinaryExpr:
		left, right := cmp.Or(text(e.X), "…"), cmp.Or(text(e.Y), "…")
		return left + right
	case *ast.CallExpr:
		if called(e) == "fmt.Sprintf" && len(e.Args) > 0 {
			return text(e.Args[0])
		}
	case *ast.ParenExpr:
		return text(e.X)
	case *ast.Ident:
		return constants[e.Name]
	}
	return ""
}

var verb = regexp.MustCompile(`%(\[\d\])?[-+#]?[\d.]*[a-zA-Z]`)

// shown is a format as a page shows it.
func shown(format string) string {
	s := verb.ReplaceAllString(format, "…")
	s = strings.NewReplacer("%%", "%", "\n", " ", "*", `\*`, "<", `\<`, "_", `\_`).Replace(s)
	return strings.TrimSpace(regexp.MustCompile(`…(…| …)*`).ReplaceAllString(s, "…"))
}
