// Package compare asks a real Azure and the simulator the same questions, and tells where their
// answers differ in status, typeKey, or the names and types of what JSON holds. Names and values
// are in no report, so that it can be shown to others.
package compare

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// An Answer is what one request was answered, without names and values.
type Answer struct {
	Question string            // what the request is for
	Request  string            // method and route: GET /_apis/distributedtask/pools?actionFilter&poolName
	Status   int               // of HTTP
	Type     string            // media type; "" without a body
	Key      string            // typeKey of a refusal
	Shape    map[string]string // types by path: "value[].name" → "string"
}

// A recorder keeps the answers of an Azure. It is a transport of HTTP clients.
type recorder struct {
	http.RoundTripper
	base     *url.URL // of the addresses; left out of routes
	project  string   // likewise
	question string   // that the next requests are for; "" = they are not kept
	answers  []Answer
	version  string // of the API, the newest that it serves, if it has refused a newer one
}

// newRecorder keeps the answers to requests below base.
func newRecorder(t http.RoundTripper, base, project string) *recorder {
	u, err := url.Parse(base)
	if err != nil {
		u = &url.URL{} // nothing is below it
	}
	return &recorder{RoundTripper: t, base: u, project: project}
}

func (r *recorder) RoundTrip(q *http.Request) (*http.Response, error) {
	res, err := r.RoundTripper.RoundTrip(q)
	if err != nil || r.question == "" {
		return res, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // it was read to its end, or the error says more
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	a := Answer{Question: r.question, Request: q.Method + " " + r.route(q.URL), Status: res.StatusCode, Shape: map[string]string{}}
	if len(body) > 0 {
		a.Type, _, _ = mime.ParseMediaType(res.Header.Get("Content-Type"))
	}
	var value any
	if json.Unmarshal(body, &value) == nil {
		shape(value, "", a.Shape)
		if o, is := value.(map[string]any); is && res.StatusCode >= 300 {
			a.Key, _ = o["typeKey"].(string)
		}
	}
	r.answers = append(r.answers, a)
	if newest := newestVersion.FindSubmatch(body); newest != nil && a.Key == "VssVersionOutOfRangeException" {
		r.version = string(newest[1])
	}
	return res, nil
}

// newestVersion is in the refusal of a newer one (VssVersionOutOfRangeException).
var newestVersion = regexp.MustCompile(`latest REST API version this server supports is ([0-9]+\.[0-9]+)`)

var isID = regexp.MustCompile(`^(-?[0-9]+|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$`)

// route is an address without names: IDs, the project, and the values of the query are left out.
func (r *recorder) route(u *url.URL) string {
	path, below := strings.CutPrefix(u.Path, strings.TrimRight(r.base.Path, "/"))
	if !below || !strings.EqualFold(u.Host, r.base.Host) {
		return "{another address}"
	}
	parts := strings.Split(path, "/")
	for i, p := range parts {
		switch {
		case isID.MatchString(p):
			parts[i] = "{id}"
		case r.project != "" && strings.EqualFold(p, r.project):
			parts[i] = "{project}"
		}
	}
	names := slices.Sorted(maps.Keys(u.Query()))
	names = slices.DeleteFunc(names, func(n string) bool { return n == "api-version" })
	if len(names) == 0 {
		return strings.Join(parts, "/")
	}
	return strings.Join(parts, "/") + "?" + strings.Join(names, "&")
}

// opaque are objects whose keys are data: variables of a machine, names that users gave.
var opaque = map[string]bool{"systemCapabilities": true, "userCapabilities": true, "properties": true, "tagsObject": true}

// emptyList is the type of a list that holds nothing: what its items are is not known.
const emptyList = "an empty list"

// shape writes down the type of each part of a value. One that is of several types in a list is of
// all of them.
func shape(value any, path string, into map[string]string) {
	is := ""
	switch v := value.(type) {
	case nil:
		is = "null"
	case bool:
		is = "a boolean"
	case float64:
		is = "a number"
	case string:
		is = "a string"
	case []any:
		if is = "a list"; len(v) == 0 {
			is = emptyList
		}
		for _, item := range v {
			shape(item, path+"[]", into)
		}
		sometimes(v, path+"[]", into)
	case map[string]any:
		is = "an object"
		if opaque[path[strings.LastIndexAny(path, ".]")+1:]] {
			break
		}
		for key, item := range v {
			shape(item, strings.TrimPrefix(path+"."+key, "."), into)
		}
	}
	if before, known := into[path]; known && before != is {
		both := append(strings.Split(before, " or "), is)
		slices.Sort(both)
		is = strings.Join(slices.Compact(both), " or ")
	}
	into[path] = is
}

// sometimes notes the keys that only some of a list's items have.
func sometimes(items []any, path string, into map[string]string) {
	has := map[string]int{}
	objects := 0
	for _, item := range items {
		if o, is := item.(map[string]any); is {
			objects++
			for key := range o {
				has[key]++
			}
		}
	}
	for key, n := range has {
		if of := path + "." + key; n < objects && !opaque[key] && !strings.HasSuffix(into[of], " or nothing") {
			into[of] += " or nothing"
		}
	}
}

// A Difference is one answer of the simulator that is not like the real one.
type Difference struct {
	Question, Request string
	Lines             []string // what differs: the simulator is "here"
}

// Differences compares answers to the same questions, one question after the other.
func Differences(there, here []Answer) (all []Difference) {
	of := func(answers []Answer) (by map[string][]Answer, order []string) {
		by = map[string][]Answer{}
		for _, a := range answers {
			if _, known := by[a.Question]; !known {
				order = append(order, a.Question)
			}
			by[a.Question] = append(by[a.Question], a)
		}
		return by, order
	}
	real, order := of(there) // what could not be asked there is no difference
	ours, _ := of(here)
	for _, q := range order {
		all = append(all, sequence(q, real[q], ours[q])...)
	}
	return all
}

// sequence compares the requests of one question. They depend on each other's answers: from the
// first on that is another one there than here, there is nothing to compare.
func sequence(question string, there, here []Answer) (all []Difference) {
	for i := range max(len(there), len(here)) {
		switch {
		case i >= len(there):
			return append(all, Difference{question, here[i].Request, []string{"is asked here only"}})
		case i >= len(here):
			return append(all, Difference{question, there[i].Request, []string{"is asked there only"}})
		case there[i].Request != here[i].Request:
			return append(all, Difference{question, there[i].Request, []string{"here follows " + here[i].Request}})
		}
		if lines := differs(there[i], here[i]); len(lines) > 0 {
			all = append(all, Difference{question, there[i].Request, lines})
		}
	}
	return all
}

func differs(there, here Answer) (lines []string) {
	one := func(what, there, here string) {
		if there != here {
			lines = append(lines, fmt.Sprintf("%s: %s there, %s here", what, there, here))
		}
	}
	shown := func(s string) string {
		if s == "" {
			return "none"
		}
		return s
	}
	one("status", fmt.Sprint(there.Status), fmt.Sprint(here.Status))
	one("typeKey", shown(there.Key), shown(here.Key))
	one("media type", shown(there.Type), shown(here.Type))
	if there.Status != here.Status {
		return lines // the bodies say different things, then
	}
	for _, path := range slices.Sorted(maps.Keys(here.Shape)) {
		real, known := there.Shape[path]
		switch {
		case known && (real == emptyList) != (here.Shape[path] == emptyList) && mustHold(there.Question, path):
			lines = append(lines, fmt.Sprintf("%s: %s there, %s here", path, real, here.Shape[path]))
		case unknown(path, there.Shape):
		case !known:
			lines = append(lines, fmt.Sprintf("%s: %s here, nothing there", path, here.Shape[path]))
		case real != here.Shape[path] && real != emptyList && here.Shape[path] != emptyList:
			lines = append(lines, fmt.Sprintf("%s: %s there, %s here", shown(path), real, here.Shape[path]))
		}
	}
	var more []string
	for _, path := range slices.Sorted(maps.Keys(there.Shape)) {
		_, known := here.Shape[path]
		below := slices.ContainsFunc(more, func(m string) bool {
			return strings.HasPrefix(path, m+".") || strings.HasPrefix(path, m+"[")
		})
		if !known && !below && !unknown(path, here.Shape) {
			more = append(more, path)
		}
	}
	if len(more) > 0 {
		lines = append(lines, "there only: "+strings.Join(more, ", "))
	}
	return lines
}

// mustHold: what was asked for is in both, so that neither list may be empty: what a filter finds, and
// what was given to a scratch agent.
func mustHold(question, path string) bool {
	return path == "value" || strings.HasPrefix(question, "a scratch agent") && (path == "tags" || strings.HasSuffix(path, ".tags"))
}

// unknown: it lies in a list that is empty on the other side.
func unknown(path string, other map[string]string) bool {
	for i := range path {
		if strings.HasPrefix(path[i:], "[]") && other[path[:i]] == emptyList {
			return true
		}
	}
	return false
}
