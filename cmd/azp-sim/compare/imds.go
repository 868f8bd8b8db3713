package compare

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"

	"azp-bootstrap/bootstrap/devops"
)

// A Vault is a Key Vault with a secret that the VM's identity may read; without a URL it is left
// out.
type Vault struct {
	URL, Secret string
	Identity    string // client ID of the VM's identity that is asked with; "" = the system-assigned one
}

// A Machine is a VM's side of Azure that is asked: IMDS, and a vault by its identity.
type Machine struct {
	imds, vault *recorder
	of          Vault
}

// IMDS is where it is on every VM.
const IMDS = "http://169.254.169.254"

// NewMachine asks IMDS by one transport, which must use no proxy, and the vault by another one.
func NewMachine(imds, vault http.RoundTripper, v Vault) *Machine {
	return &Machine{
		imds:  newRecorder(imds, IMDS, ""),
		vault: newRecorder(vault, v.URL, v.Secret),
		of:    v,
	}
}

// Machine asks the mirror's VM.
func (m *Mirror) Machine() *Machine { return NewMachine(m.transport, m.transport, m.vault) }

// Answers are those so far.
func (m *Machine) Answers() []Answer {
	return append(append([]Answer{}, m.imds.answers...), m.vault.answers...)
}

// Ask sends the requests that azure.IMDS, azidentity and azsecrets send, and those that IMDS must
// refuse (learn.microsoft.com/azure/virtual-machines/instance-metadata-service). Asking for
// scheduled events switches them on for this VM, as the product does.
func (m *Machine) Ask(ctx context.Context, progress func(string)) error {
	ask := func(question, path string, bare bool) ([]byte, error) {
		progress(question)
		m.imds.question = question
		return get(ctx, m.imds, IMDS+path, func(h http.Header) {
			if !bare {
				h.Set("Metadata", "true")
			}
		})
	}
	which := ""
	if m.of.Identity != "" {
		which = "&client_id=" + url.QueryEscape(m.of.Identity)
	}
	token := func(resource string) string {
		return "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=" + url.QueryEscape(resource) + which
	}
	const instance = "/metadata/instance?api-version=2021-12-13"
	if _, err := ask("the instance", instance, false); err != nil {
		return err
	}
	for _, q := range []struct {
		question, path string
		bare           bool
	}{
		{"the instance, without the header Metadata", instance, true},
		{"a version that is none", "/metadata/instance?api-version=1999-01-01", false},
		{"a path that is none", "/metadata/azp-compare?api-version=2021-12-13", false},
		{"scheduled events", "/metadata/scheduledevents?api-version=2020-07-01", false},
		{"a token for Azure DevOps", token(devops.Resource), false},
		{"a token of an identity that is none", "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=" +
			devops.Resource + "&client_id=00000000-0000-4000-8000-000000000000", false},
	} {
		if _, err := ask(q.question, q.path, q.bare); err != nil {
			return err
		}
	}
	if m.of.URL == "" {
		return nil
	}
	data, err := ask("a token for the vault", token("https://"+domain(m.of.URL)), false)
	if err != nil {
		return err
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	_ = json.Unmarshal(data, &answer) // without one the vault refuses: an answer, too
	for _, q := range []struct{ question, token, secret string }{
		{"a secret, without a token", "", m.of.Secret},
		{"a secret", answer.Token, m.of.Secret},
		{"a secret that does not exist", answer.Token, nobody},
	} {
		progress(q.question)
		m.vault.question = q.question
		_, err := get(ctx, m.vault, strings.TrimRight(m.of.URL, "/")+"/secrets/"+url.PathEscape(q.secret)+"?api-version=7.4",
			func(h http.Header) {
				if q.token != "" {
					h.Set("Authorization", "Bearer "+q.token)
				}
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// domain is the resource of a vault: its host without the vault's own name.
func domain(vault string) string {
	u, err := url.Parse(vault)
	if err != nil {
		return ""
	}
	_, domain, _ := strings.Cut(u.Host, ".")
	return domain
}

func get(ctx context.Context, t http.RoundTripper, address string, with func(http.Header)) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	with(req.Header)
	res, err := (&http.Client{Transport: t, CheckRedirect: lastResponse}).Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	return io.ReadAll(res.Body)
}
