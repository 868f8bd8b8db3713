package secret

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v3"
)

const token = "abcdefgh234567abcdefgh234567abcdefgh234567abcdefgh23"

func pat(t testing.TB, value string) PAT {
	p, err := NewPAT(value)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPATCannotBePrinted(t *testing.T) {
	p := pat(t, token+"\n")
	holder := struct {
		P  PAT
		PP *PAT
		M  map[string]PAT
		p  PAT
	}{p, &p, map[string]PAT{"x": p}, p}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10s", "%-80v", "%b", "%c"} {
		fmt.Fprintf(&out, verb+verb, p, holder)
	}
	fmt.Fprintln(&out, p, holder, &holder)
	fmt.Fprint(&out, fmt.Errorf("failed with %v: %w", p, errors.New("x")))
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		b, _ := marshal(holder.P)
		out.Write(b)
		b, _ = marshal(map[string]any{"h": holder.M})
		out.Write(b)
	}
	log := logrus.New()
	log.SetOutput(&out)
	log.WithField("p", p).WithField("h", holder).Warnf("%v", p)
	log.SetFormatter(&logrus.JSONFormatter{})
	log.WithField("p", p).WithField("h", holder.M).Warnf("%+v", holder)
	text := out.String()
	if strings.Contains(text, token) || strings.Contains(text, fmt.Sprintf("%x", token)) ||
		strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(token))) {
		t.Errorf("the token was printed: %s", text)
	}
	if reflect.TypeFor[PAT]().Comparable() {
		t.Error("PATs can be compared")
	}
	if p.Reveal() != token {
		t.Error("the token itself is lost")
	}
	p.Drop()
	if holder.p.Reveal() != "" {
		t.Error("a copy outlives Drop")
	}
}

// A core file, or who reads this process's memory, must not find a token that is held no more.
func TestDropOverwrites(t *testing.T) {
	p := pat(t, token)
	held := p.value.text
	p.Drop()
	for _, b := range held {
		if b != 0 {
			t.Fatal("the token is still in memory")
		}
	}
	p.Drop() // again is no harm
}

func TestNewPATRefuses(t *testing.T) {
	for _, v := range []string{"", " \n", "two words", "caf\u00e9", "a\x00b", strings.Repeat("a", maxToken+1)} {
		if _, err := NewPAT(v); err == nil {
			t.Errorf("%q was taken", v)
		} else if v != "" && len(strings.TrimSpace(v)) > 2 && strings.Contains(err.Error(), v) {
			t.Error("the error repeats the value")
		}
	}
}

func TestRedactorForms(t *testing.T) {
	r := &Redactor{}
	p := pat(t, "opaque/Token+value=1")
	r.Add(p)
	v := p.Reveal()
	for _, text := range []string{v, "x" + v + "y", url.QueryEscape(v), base64.StdEncoding.EncodeToString([]byte(":" + v)), base64.StdEncoding.EncodeToString([]byte(v))} {
		if got := r.Redact("a " + text + " b"); strings.Contains(got, text) || !strings.Contains(got, "[redacted]") {
			t.Errorf("%q became %q", text, got)
		}
	}
	// in base64 it is found whatever stands around it
	for _, around := range [][2]string{{"", ""}, {"u:", ""}, {"PAT:", "\n"}, {"x", "yz"}, {"ab", "c"}, {"abc", "d"}} {
		text := base64.StdEncoding.EncodeToString([]byte(around[0] + v + around[1]))
		if got := r.Redact(text); !strings.Contains(got, "[redacted]") || len(got) > len("[redacted]")+12 {
			t.Errorf("%q in base64 became %q", around, got)
		}
	}
	// shapes are redacted even when nobody told of them
	jwt := "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJl"
	long := strings.Repeat("A1b2", 19) + "AZDO" + "Zz09"
	for _, text := range []string{token, jwt, long} {
		if got := (&Redactor{}).Redact("<" + text + ">"); strings.Contains(got, text) {
			t.Errorf("the shape of %q is not known", text)
		}
	}
	// what operators need to read stays
	for _, text := range []string{"5c7a1b1e-0001-4d3a-9a00-000000000001", "SHA-256 is 3f0cabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdefabcdef0", "vsts.agent.contoso.production.web-000001.service"} {
		if got := (&Redactor{}).Redact(text); got != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

// The token is found wherever reads split it and wherever it stands on the line.
// Redact looks only at what is as long as the token at least.
func TestNoFormIsShorterThanTheToken(t *testing.T) {
	for n := 1; n <= 100; n++ {
		p := pat(t, strings.Repeat("x", n))
		for _, form := range p.Forms() {
			if len(form) < p.length() {
				t.Errorf("%d characters: %q", n, form)
			}
		}
	}
}

func TestLinesSplitReads(t *testing.T) {
	r := &Redactor{}
	r.Add(pat(t, "opaque/Token+value=1"))
	for _, before := range []int{0, 1, 100, maxLine - 25, maxLine - 10, maxLine - 1, maxLine, maxLine + overlap - 21, maxLine + overlap - 10, maxLine + overlap, 3 * maxLine} {
		text := strings.Repeat("x", before) + "opaque/Token+value=1 end\nnext opaque/Token+value=1\r\nlast"
		for name, reader := range map[string]io.Reader{"whole": strings.NewReader(text), "byte by byte": iotest.OneByteReader(strings.NewReader(text)), "halves": iotest.HalfReader(strings.NewReader(text))} {
			var lines []string
			if err := r.Lines(reader, func(s string) { lines = append(lines, s) }); err != nil {
				t.Fatal(err)
			}
			all := strings.Join(lines, "\n")
			for cut := 8; cut <= 20; cut++ {
				if strings.Contains(all, "opaque/Token+value=1"[:cut]) {
					t.Fatalf("%s, %d before: %d characters of the token got out", name, before, cut)
				}
			}
			if len(lines) != 3 || lines[2] != "last" || len(lines[0]) > maxLine+100 {
				t.Fatalf("%s, %d before: got %d lines", name, before, len(lines))
			}
		}
	}
}

func TestHook(t *testing.T) {
	r := &Redactor{}
	r.Add(pat(t, "opaque/Token+value=1"))
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	log.AddHook(Hook{r})
	u, _ := url.Parse("https://x/?t=opaque/Token+value=1")
	log.WithError(errors.New("opaque/Token+value=1")).
		WithFields(logrus.Fields{"a": "opaque/Token+value=1", "u": u, "l": []string{"opaque/Token+value=1"}, "b": []byte("x")}).
		Error("m opaque/Token+value=1")
	if strings.Contains(out.String(), "opaque") {
		t.Errorf("got %s", out.String())
	}
}

func FuzzRedact(f *testing.F) {
	f.Add("before", "opaque-token-value", "after", uint8(3))
	f.Fuzz(func(t *testing.T, before, value, after string, every uint8) {
		p, err := NewPAT(value)
		if err != nil || len(p.Reveal()) < 8 || strings.Contains("[redacted] … [line cut]", p.Reveal()) {
			return
		}
		v := p.Reveal()
		r := &Redactor{}
		r.Add(p)
		_ = r.Lines(iotest.OneByteReader(strings.NewReader(before+v+after)), func(s string) {
			// Taking one occurrence out may join its neighbours into another only if it was spelt
			// out by the text itself, in pieces; then it is not the token that was written.
			if strings.Contains(s, v) && !strings.Contains(strings.ReplaceAll(before+v+after, v, hidden), v) {
				t.Errorf("%q got out in %q", v, s)
			}
		})
	})
}

// What people store in place of the token alone is named, and no part of it is shown.
func TestUnlike(t *testing.T) {
	token, long := strings.Repeat("abcdefghijkl2", 4), strings.Repeat("A1b2", 21)
	for value, want := range map[string]string{
		token: "", long: "", "\ufeff" + token + "\r\n": "",
		`{"pat":"` + token + `"}`: "JSON", `"` + token + `"`: "quotes", "'" + token + "'": "quotes", token + `\n`: `\n`,
		"agents:" + token: "colon", base64.StdEncoding.EncodeToString([]byte(token)): "base64",
		base64.StdEncoding.EncodeToString([]byte(":" + token)): "base64", "eyJ0eXAiOiJKV1Qi.x.y": "access token",
		token[:51]: "51 characters", token[:51] + "!": "characters that no PAT has",
	} {
		p, err := NewPAT(value)
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		got := p.Unlike()
		if !strings.Contains(got, want) || (got == "") != (want == "") || strings.Contains(got, token[:8]) {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}
