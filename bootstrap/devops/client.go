// Package devops speaks to Azure DevOps over REST: who is the PAT, may it do the job, where is the
// target, which agent stands under a name. Six small calls over azcore's pipeline, which brings
// request IDs, bodies that are read whole, and errors with the answer at hand; the client library
// microsoft/azure-devops-go-api asks for its routes first and knows no VM resources
// (docs/decisions/azure-devops-client.md).
package devops

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// A Credential opens Azure DevOps: a PAT, or with Entra a managed identity's access token for
// Resource.
type Credential struct {
	secret.PAT
	Entra bool
	// Application is the ID of an application whose token it is in place of the identity's own; "" = none.
	Application string
}

// Resource is Azure DevOps Services in Microsoft Entra: what access tokens for it are asked for
// (learn.microsoft.com/azure/devops/integrate/get-started/authentication/service-principal-managed-identity).
const Resource = "499b84ac-1321-427f-aa17-267ca6975798"

// kind names the kind of credential, for messages.
func (c Credential) kind() string {
	switch {
	case c.Application != "":
		return "the token of the application " + c.Application
	case c.Entra:
		return "the managed identity's token"
	}
	return "the PAT"
}

// hint is what it, and whom it stands for, need for a target.
func (c Credential) hint(t Target, hosted bool) string {
	return t.scopeHint(c.Entra, c.Application, hosted)
}

// A Client speaks to one organization or collection with one credential.
type Client struct {
	base     string // without trailing slash
	name     string // for messages: "organization contoso"
	host     string
	with     Credential
	pipeline runtime.Pipeline
	version  int             // index into versions
	previews map[string]bool // addresses that were in preview still in that version, their IDs aside
	pools    map[int]int     // the pool behind an environment, which does not tell by itself
	area     string          // of the addresses of environments on this server; "" = not known yet
	until    time.Time       // Azure DevOps wants to be left alone
	ahead    time.Duration   // how far its clock is ahead of this machine's; 0 = it has not told
}

// MaxSkew is what Azure DevOps bears between an agent's clock and its own (the agent's message
// LocalClockSkewed).
const MaxSkew = 5 * time.Minute

// versions of the REST API, newest first: Services and Server 2022.1, Server 2020, Server 2019,
// TFS 2018 (learn.microsoft.com/rest/api/azure/devops, "API and TFS version mapping").
var versions = []string{"7.1", "6.0", "5.1", "4.1"}

// TellsOfJobs reports whether the server, as far as it is known, tells of the last job that an agent has
// finished: since 5.1 (Microsoft/azure-devops-python-api, get_agent of v5_1; that of v4_1 has no such question).
func (c *Client) TellsOfJobs() bool { return versions[c.version] != "4.1" }

// Skewed reports whether this machine's clock differs from that of the server, as it answered last, by more
// than that bears.
func (c *Client) Skewed() bool { return c.ahead.Abs() > MaxSkew }

// New makes a client for the organization or collection at base. The credential is used until the
// client is dropped.
func New(base, name string, client *http.Client, with Credential) *Client {
	u, _ := url.Parse(base)
	return &Client{
		base:     strings.TrimRight(base, "/"),
		name:     name,
		host:     u.Host,
		with:     with,
		pools:    map[int]int{},
		previews: map[string]bool{},
		pipeline: runtime.NewPipeline(
			"azp-bootstrap",
			"",
			runtime.PipelineOptions{PerRetry: []policy.Policy{authorization{with}}},
			&policy.ClientOptions{Transport: client, Retry: policy.RetryOptions{MaxRetries: -1}},
		),
	}
}

// Aside is a client for what is good to know and not needed: that Azure DevOps wants to be left alone is
// not held against c. Two of them may be used at once if but one of them asks for pools, which both know.
func (c *Client) Aside() *Client {
	aside := *c
	aside.previews = maps.Clone(c.previews)
	return &aside
}

type authorization struct{ with Credential }

func (a authorization) Do(r *policy.Request) (*http.Response, error) {
	header := "Bearer " + a.with.Reveal()
	if !a.with.Entra {
		header = "Basic " + base64.StdEncoding.EncodeToString([]byte(":"+a.with.Reveal()))
	}
	r.Raw().Header.Set("Authorization", header)
	// Without this header Services answers a browser's redirect in place of a status.
	r.Raw().Header.Set("X-TFS-FedAuthRedirect", "Suppress")
	r.Raw().Header.Set("Accept", "application/json")
	return r.Next()
}

// An answer that is not success, as Azure DevOps words it.
type refusal struct {
	Status  int
	Type    string // typeKey
	Message string
	Sign    bool // a sign-in page or a redirect to one
	Header  http.Header
}

func (r *refusal) Error() string {
	s := fmt.Sprintf("Azure DevOps answered %d %s", r.Status, http.StatusText(r.Status))
	if r.Type != "" {
		s += " " + r.Type
	}
	if r.Message != "" {
		s += ": " + r.Message
	}
	return s
}

// A reader reads an answer as it comes, in place of one that is held whole.
type reader func(io.Reader) error

// identifiers are what differs between addresses of one kind.
var identifiers = regexp.MustCompile(`/[0-9]+(/|$)`)

// call does one request below base. into is where the answer goes: a value, a reader, nil =
// nowhere. preview: the resource was never released, in any version; one that was not released yet in
// a server's version is found out. in is the body, as JSON; nil =
// none.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, preview bool, in, into any) error {
	if query == nil {
		query = url.Values{}
	}
	kind := identifiers.ReplaceAllString(path, "/#$1")
	for {
		v := versions[c.version]
		if preview || c.previews[kind] {
			v += "-preview"
		}
		query.Set("api-version", v)
		err := c.once(ctx, method, c.base+path+"?"+query.Encode(), in, into)
		r, refused := err.(*refusal)
		switch {
		case refused && r.Type == "VssVersionOutOfRangeException" && c.version+1 < len(versions):
			c.version++ // an older server
			clear(c.previews)
		case refused && r.Type == "VssInvalidPreviewVersionException" && !preview && !c.previews[kind]:
			c.previews[kind] = true
		default:
			return err
		}
	}
}

func (c *Client) once(ctx context.Context, method, address string, in, into any) error {
	req, err := runtime.NewRequest(ctx, method, address)
	if err == nil && in != nil {
		err = runtime.MarshalAsJSON(req, in)
	}
	if err != nil {
		return err
	}
	reads, _ := into.(reader)
	if reads != nil {
		runtime.SkipBodyDownload(req)
	}
	res, err := c.pipeline.Do(req)
	if err != nil {
		return fault.Connection(fault.Network, c.name, c.host, err)
	}
	if reads != nil && res.StatusCode == http.StatusOK && strings.Contains(res.Header.Get("Content-Type"), "json") {
		defer res.Body.Close() //nolint:errcheck // only read
		return c.understood(address, reads(res.Body))
	}
	if at, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		c.ahead = time.Until(at)
	}
	body, err := runtime.Payload(res)
	if err != nil {
		return fault.Connection(fault.Network, c.name, c.host, err)
	}
	if wish := fault.RetryAfter(res.Header); wish > 0 {
		c.until = time.Now().Add(wish)
	}
	html := strings.Contains(res.Header.Get("Content-Type"), "html") ||
		strings.HasPrefix(strings.TrimSpace(string(body[:min(len(body), 64)])), "<")
	done := res.StatusCode == http.StatusCreated || res.StatusCode == http.StatusNoContent // for the agent, both are success
	if res.StatusCode == http.StatusOK || done && method != http.MethodGet {
		if into == nil && !html {
			return nil
		}
		if html {
			return &refusal{
				Status:  res.StatusCode,
				Message: "a web page in place of an answer",
				Sign:    true,
				Header:  res.Header,
			}
		}
		if len(body) == 0 {
			return c.understood(address, io.ErrUnexpectedEOF)
		}
		if reads != nil {
			return c.understood(address, reads(bytes.NewReader(body)))
		}
		return c.understood(address, json.Unmarshal(body, into))
	}
	r := &refusal{Status: res.StatusCode, Header: res.Header}
	r.Sign = res.StatusCode == http.StatusNonAuthoritativeInfo || res.StatusCode/100 == 3
	if loc := res.Header.Get("Location"); loc != "" {
		r.Message = "redirect to " + path(loc)
	}
	var parsed struct{ Message, TypeKey string }
	if json.Unmarshal(body, &parsed) == nil {
		r.Type, r.Message = parsed.TypeKey, oneLine(parsed.Message)
	} else if r.Message == "" && html {
		r.Message = "a web page"
	}
	return r
}

// understood is the fault of an answer that could not be read; nil if it could.
func (c *Client) understood(address string, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "unexpected end"):
		return fault.Connection(fault.Network, c.name, c.host, io.ErrUnexpectedEOF)
	case errors.As(err, &syntax), errors.As(err, &kind), errors.Is(err, errNoList):
		return fault.New(fault.Network, "%s: the answer to %s is not what Azure DevOps sends", c.name, path(address)).
			Because(err).
			Hint("Something between this VM and %s answers in its place: check the URL, DNS and the proxy.", c.host)
	}
	return fault.Connection(fault.Network, c.name, c.host, err)
}

// path is an address without its query, which may hold names but is noise in a message.
func path(address string) string { return strings.SplitN(address, "?", 2)[0] }

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	return s[:min(len(s), 400)]
}

// explain turns a refusal into a fault. known: what to say of refusals that mean something here.
func (c *Client) explain(err error, what string, known func(*refusal) *fault.Error) error {
	r, ok := err.(*refusal)
	if !ok {
		return err
	}
	if r.Type == "VssVersionOutOfRangeException" { // of the oldest of versions, too
		return fault.New(fault.Target, "%s is too old: it does not speak version %s of the "+
			"REST API", c.name, versions[len(versions)-1]).
			Because(err).
			Hint("azp-bootstrap needs TFS 2018 Update 2 (REST API 4.1) or newer, or Azure DevOps Server: upgrade " +
				"the server.")
	}
	if r.Type != "" { // before the status: some refusals that last come with 500
		if f := known(r); f != nil {
			return f.Because(err)
		}
	}
	if fault.PassingStatus(r.Status) {
		return fault.New(fault.Network, "%s: %s", c.name, what).
			Because(err).
			Passing().
			Retry(fault.RetryAfter(r.Header)).
			Hint("Azure DevOps is throttling or has a fault (status.dev.azure.com); it is asked again by itself.")
	}
	if f := known(r); f != nil {
		return f.Because(err)
	}
	return fault.New(fault.Network, "%s: %s", c.name, what).Because(err).
		Hint("An answer this version does not know: please report it, with the log.")
}

// Crowded says that Azure DevOps, which answered, wants to be left alone for a while: answers to a
// user who asks too much come late, and with Retry-After, before they are refused
// (learn.microsoft.com/azure/devops/integrate/concepts/rate-limits, "API client experience"). nil =
// it does not.
func (c *Client) Crowded() error {
	left := time.Until(c.until)
	if left <= 0 {
		return nil
	}
	return fault.New(fault.Network, "%s answers, but late: the user of %s asks too much", c.name, c.with.kind()).
		Passing().
		Retry(left).
		Hint("Azure DevOps asks to wait, which is done. If it lasts, let fewer VMs share a PAT's user (docs/evidence/scale.md).")
}

// WhoAmI asks whose the credential is (GET _apis/connectionData) and so whether it is accepted at
// all.
func (c *Client) WhoAmI(ctx context.Context) (string, error) {
	var data struct {
		AuthenticatedUser struct {
			ID          string `json:"id"`
			DisplayName string `json:"providerDisplayName"`
		} `json:"authenticatedUser"`
		InstanceID string `json:"instanceId"`
	}
	err := c.call(ctx, http.MethodGet, "/_apis/connectionData", nil, true, nil, &data)
	if err == nil && strings.EqualFold(data.AuthenticatedUser.DisplayName, "Anonymous") {
		err = &refusal{Status: http.StatusUnauthorized, Message: "the request counts as anonymous"}
	}
	if err == nil && data.AuthenticatedUser.ID+data.AuthenticatedUser.DisplayName+data.InstanceID == "" {
		return "", fault.New(fault.Network, "%s: the answer names neither a user nor a server", c.name).
			Hint("Something between this VM and %s answers in its place: check the URL, DNS and the proxy.", c.host)
	}
	return data.AuthenticatedUser.DisplayName, c.explain(err, "whose credential it is", func(r *refusal) *fault.Error {
		switch {
		case r.Status == http.StatusNotFound:
			return fault.New(fault.Target, "the %s is not found at %s", c.name, c.base).
				Hint("Correct url (and collection, on premises): open it in a browser.")
		case r.Sign || r.Status == http.StatusUnauthorized || r.Status == http.StatusForbidden:
			if c.with.Entra {
				if app := c.with.Application; app != "" {
					return fault.New(fault.PAT, "the %s rejects the token of the application %s", c.name, app).
						Hint("Add the application to the %s as a user (Organization settings, Users; access level Basic), by the name "+
							"of its service principal in the organization's tenant: credential.entra.tenantId must be that one.", c.name)
				}
				return fault.New(fault.PAT, "the %s rejects the managed identity's token", c.name).
					Hint("Add the identity to the %s as a user (Organization settings, Users; access level Basic). "+
						"Identity and organization must be of the same Microsoft Entra tenant.", c.name)
			}
			if unlike := c.with.PAT.Unlike(); unlike != "" {
				return fault.New(fault.PAT, "the %s rejects the PAT, which does not look like one: %s", c.name, unlike).
					Hint("Store the token as a new version of the secret, as the portal shows it and without anything " +
						"around it; the VM takes it by itself.")
			}
			return fault.New(fault.PAT, "the %s rejects the PAT", c.name).
				Hint("It is expired, revoked, mistyped or of another %s: create one for the %s and store "+
					"it as a new version of the secret; the VM takes it by itself.",
					map[bool]string{true: "organization", false: "server or collection"}[c.hosted()], c.name)
		}
		return nil
	})
}
