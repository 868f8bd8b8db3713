package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"

	"azp-bootstrap/bootstrap/line"
)

// Facts are what templates in agent.name and tags may use: the VM as IMDS describes it.
type Facts struct {
	ComputerName   string
	VMID           string
	VMName         string
	ScaleSet       string
	Location       string
	Zone           string
	ResourceGroup  string
	SubscriptionID string
	InstanceIndex  string
	Tags           map[string]string
}

// Expand fills a template in. A field that does not exist, or a tag that the VM does not have, is
// an error.
func Expand(text string, f Facts) (string, error) { return expand(text, f, "missingkey=error") }

// Templates may come from user data and tags, so whoever writes those must not be able to make them
// run for ever or fill the memory: no loops, no templates that call themselves, short texts only.
const (
	maxTemplate = 1 << 10 // bytes of a template
	maxExpanded = 4 << 10 // bytes of all that it makes on the way
)

func expand(text string, f Facts, missing string) (string, error) {
	if len(text) > maxTemplate {
		return "", fmt.Errorf("the template is %d bytes long, at most %d are possible", len(text), maxTemplate)
	}
	left := maxExpanded
	// In place of the functions that can make a short text long.
	bounded := func(make func(...any) string) func(...any) (string, error) {
		return func(args ...any) (string, error) {
			s := make(args...)
			if left -= len(s); left < 0 {
				return "", errors.New("the template makes too long a text")
			}
			return s, nil
		}
	}
	print := bounded(func(args ...any) string { return fmt.Sprint(args...) })
	t, err := template.New("").Option(missing).Funcs(template.FuncMap{
		"print": print, "println": print, "html": refused, "js": refused, "urlquery": refused,
		"printf": func(format string, args ...any) (string, error) {
			if wide.MatchString(format) {
				return "", errors.New("printf with a width of more than two digits, or a width from an argument")
			}
			return bounded(func(...any) string { return fmt.Sprintf(format, args...) })()
		},
	}).Parse(text)
	if err != nil {
		return "", fmt.Errorf("not a template: %s", strings.TrimPrefix(err.Error(), "template: :"))
	}
	if len(t.Templates()) > 1 || t.Tree != nil && loops(t.Root) {
		return "", errors.New("a template here may not use range, define, block or template")
	}
	if t.Tree != nil {
		foldTags(t.Root, f.Tags)
	}
	var b strings.Builder
	if err := t.Execute(&b, f); err != nil {
		msg := err.Error()
		if i := strings.Index(msg, "<"); i >= 0 {
			msg = msg[i:]
		}
		if m := noField.FindStringSubmatch(msg); m != nil {
			return "", fmt.Errorf("there is no field %s", m[1])
		}
		return "", fmt.Errorf("%s", msg)
	}
	return strings.TrimSpace(b.String()), nil
}

// noField is what text/template says of a field that Facts does not have.
var noField = regexp.MustCompile(`can't evaluate field (\w+) in type config\.Facts`)

func refused(...any) (string, error) { return "", errors.New("html, js and urlquery have no use here") }

// wide widths and precisions would make megabytes of a few letters.
var wide = regexp.MustCompile(`%[^a-zA-Z%]*(\d{3,}|\*)`)

// loops reports whether a node repeats or calls.
func loops(n parse.Node) bool {
	branches := func(b parse.BranchNode) bool {
		return loops(b.List) || b.ElseList != nil && loops(b.ElseList)
	}
	switch n := n.(type) {
	case *parse.ListNode:
		return slices.ContainsFunc(n.Nodes, loops)
	case *parse.IfNode:
		return branches(n.BranchNode)
	case *parse.WithNode:
		return branches(n.BranchNode)
	case *parse.RangeNode, *parse.TemplateNode:
		return true
	}
	return false
}

// foldTags lets {{.Tags.role}} find the tag Role: the names of tags know no case
// (learn.microsoft.com, "Use tags to organize your Azure resources").
func foldTags(n parse.Node, tags map[string]string) {
	switch n := n.(type) {
	case *parse.ListNode:
		if n != nil {
			for _, each := range n.Nodes {
				foldTags(each, tags)
			}
		}
	case *parse.ActionNode:
		foldTags(n.Pipe, tags)
	case *parse.IfNode:
		foldBranch(n.BranchNode, tags)
	case *parse.WithNode:
		foldBranch(n.BranchNode, tags)
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			for _, arg := range c.Args {
				foldTags(arg, tags)
			}
		}
	case *parse.FieldNode:
		if len(n.Ident) == 2 && n.Ident[0] == "Tags" {
			n.Ident[1] = tagNamed(n.Ident[1], tags)
		}
	}
}

func foldBranch(b parse.BranchNode, tags map[string]string) {
	foldTags(b.Pipe, tags)
	foldTags(b.List, tags)
	foldTags(b.ElseList, tags)
}

// tagNamed is the name as the VM's tags write it.
func tagNamed(name string, tags map[string]string) string {
	if _, exact := tags[name]; exact {
		return name
	}
	for _, is := range slices.Sorted(maps.Keys(tags)) {
		if strings.EqualFold(is, name) {
			return is
		}
	}
	return name
}

const fields = "ComputerName VMID VMName ScaleSet Location Zone ResourceGroup SubscriptionID InstanceIndex Tags"

// checkTemplate tries a template on made-up facts, so that `config check` finds it without Azure.
func checkTemplate(where, key, text string) Problems {
	_, err := expand(
		text,
		Facts{
			ComputerName:   "web-000001",
			VMID:           "0",
			VMName:         "web_1",
			ScaleSet:       "web",
			Location:       "westeurope",
			Zone:           "1",
			ResourceGroup:  "rg",
			SubscriptionID: "0",
			InstanceIndex:  "1",
			Tags:           map[string]string{},
		},
		"missingkey=zero",
	)
	if err != nil {
		return Problems{
			{
				where,
				key,
				err.Error(),
				"Use the fields " + fields + ", for example {{.ComputerName}} or {{.Tags.role}}.",
			},
		}
	}
	return nil
}

// refusedInNames are refused by Azure DevOps in names of pools and other resources
// (learn.microsoft.com, "Naming restrictions and conventions"); the agent's own service name and
// query strings suffer from them as well.
const refusedInNames = `"/\[]:|<>+=;,?*`

// checkName says what Azure DevOps would refuse in the name of an agent; "" if nothing.
func checkName(name string) string {
	switch {
	case name == "":
		return "the name is empty"
	case len([]rune(name)) > 64:
		return fmt.Sprintf("the name %q has %d characters, at most 64 are possible", name, len([]rune(name)))
	case strings.ContainsAny(name, refusedInNames):
		return fmt.Sprintf("the name %q has a character that Azure DevOps refuses (one of %s)", name, refusedInNames)
	case line.Wrong(name, line.Longest) != "":
		return fmt.Sprintf("the name %q %s", name, line.Wrong(name, line.Longest))
	case strings.HasPrefix(name, "-"), strings.HasPrefix(name, "."), strings.HasSuffix(name, "."):
		return fmt.Sprintf("the name %q begins with - or . or ends with .", name)
	}
	return ""
}

// Names fills in the agent's name and tags for this VM, and refuses what Azure DevOps would refuse.
func (c *Config) Names(f Facts) (name string, tags []string, err error) {
	where := c.Values["agent.name"].Where
	name, err = Expand(c.Agent.Name, f)
	if err != nil {
		return "", nil, Problems{
			{
				where,
				"agent.name",
				err.Error(),
				"This VM does not have what the template asks for: add it to the VM or change the template.",
			},
		}.Err()
	}
	if p := checkName(name); p != "" {
		return "", nil, Problems{
			{where, "agent.name", p, fmt.Sprintf("Change agent.name; the template is %q.", c.Agent.Name)},
		}.Err()
	}
	key := "target." + c.Target.Kind() + ".tags"
	seen := map[string]bool{}
	for _, t := range c.Target.Tags() {
		tag, err := Expand(t, f)
		if err != nil {
			return "", nil, Problems{
				{
					c.Values[key].Where,
					key,
					err.Error(),
					"This VM does not have what the template asks for: add it to the VM or change the template.",
				},
			}.Err()
		}
		if p := checkTag(tag); p != "" {
			return "", nil, Problems{
				{c.Values[key].Where, key, p, fmt.Sprintf("Change the tag; the template is %q.", t)},
			}.Err()
		}
		if tag != "" && !seen[strings.ToLower(tag)] { // the agent drops these as well
			seen[strings.ToLower(tag)] = true
			tags = append(tags, tag)
		}
	}
	return name, tags, nil
}

// Capabilities fills in agent.capabilities for this VM. One whose value is empty is left out, as a tag is.
func (c *Config) Capabilities(f Facts) (all []string, err error) {
	const key = "agent.capabilities"
	for _, text := range c.Agent.Capabilities {
		name, template, _ := strings.Cut(text, "=")
		value, err := Expand(template, f)
		if err == nil {
			if wrong := line.Wrong(value, line.Longest); wrong != "" {
				err = fmt.Errorf("the value of %s %s", name, wrong)
			}
		}
		if err != nil {
			return nil, Problems{{c.Values[key].Where, key, err.Error(), "Change the template, or what it asks for on the VM."}}.Err()
		}
		if value != "" {
			all = append(all, name+"="+value)
		}
	}
	return all, nil
}

func checkTag(tag string) string {
	switch {
	case strings.Contains(tag, ","):
		return fmt.Sprintf("the tag %q contains a comma, where the agent would split it", tag)
	case len([]rune(tag)) > 256:
		return fmt.Sprintf("a tag has %d characters, at most 256 are possible", len([]rune(tag)))
	case strings.HasPrefix(tag, "-"):
		return fmt.Sprintf("the tag %q begins with -, as an option of the agent's would", tag)
	case line.Wrong(tag, line.Longest) != "":
		return fmt.Sprintf("the tag %q %s", tag, line.Wrong(tag, line.Longest))
	}
	return ""
}
