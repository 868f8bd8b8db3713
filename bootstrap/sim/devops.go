package sim

import (
	"crypto/rand"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A server is one organization or collection with what stands in it.
type server struct {
	Server
	sim      *Sim
	id       string
	nextID   int
	pools    []*pool
	projects []*project
}

type pool struct {
	id     int
	name   string
	kind   string // automation, deployment
	agents []*agent
}

type project struct {
	id, name string
	groups   []*group
}

// A group is an environment or a deployment group: named members over a pool of its own.
type group struct {
	id      int
	name    string
	kind    string // environment, deploymentGroup
	project *project
	pool    *pool // nil: an environment without a VM has none yet
	poolID  int   // of the pool to come: IDs do not depend on which VM is first
	members []*member
}

type member struct {
	id    int
	tags  []string
	agent *agent
}

func newServer(sim *Sim, def Server) *server {
	v := &server{Server: def, sim: sim, id: guid()}
	for _, name := range def.Pools {
		v.newPool(v.next(), name, "automation")
	}
	for _, p := range def.Projects {
		pr := &project{id: guid(), name: p.Name}
		for _, n := range p.Environments { // its pool is made with its first VM
			poolID := v.next()
			pr.groups = append(
				pr.groups,
				&group{id: v.next(), name: n, kind: "environment", project: pr, poolID: poolID},
			)
		}
		for _, n := range p.DeploymentGroups {
			pl := v.newPool(v.next(), p.Name+"-"+n, "deployment")
			pr.groups = append(
				pr.groups,
				&group{id: v.next(), name: n, kind: "deploymentGroup", project: pr, pool: pl},
			)
		}
		v.projects = append(v.projects, pr)
	}
	return v
}

func (v *server) newPool(id int, name, kind string) *pool {
	p := &pool{id: id, name: name, kind: kind}
	v.pools = append(v.pools, p)
	return p
}

func (v *server) next() int {
	v.nextID++
	return v.nextID
}

func guid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	h := hex.EncodeToString(b)
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-a" + h[17:20] + "-" + h[20:]
}

// tokenHost issues the agents' own tokens for Services.
const tokenHost = "vstoken.dev.azure.com"

// A call is a request below an organization, collection or server root.
type call struct {
	*server
	w     http.ResponseWriter
	r     *http.Request
	path  string // below the base, without leading slash
	pat   *PAT
	agent *agent // when an agent's own token is used

	quirks map[string]int
}

func (s *Sim) answerDevOps(host string, w http.ResponseWriter, r *http.Request) {
	v, rest := s.route(host, r.URL.Path)
	if v == nil {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "<!DOCTYPE html><html><title>Azure DevOps Services | Not found</title></html>")
		return
	}
	s.mu.Lock()
	quirks := s.scenario.Quirks
	s.mu.Unlock()
	c := &call{server: v, w: w, r: r, path: rest, quirks: quirks}
	if strings.HasPrefix(rest, "_apis/oauth2/token") {
		s.oauth(w, r)
		return
	}
	if r.Method == http.MethodOptions {
		c.options()
		return
	}
	if !c.signIn() || !c.versionFits() {
		return
	}
	s.mu.Lock()
	h := c.handler()
	s.mu.Unlock()
	if h == nil {
		c.refuse(
			http.StatusNotFound,
			"",
			"The controller for path '"+r.URL.Path+"' was not found or does not implement IController.",
		)
		return
	}
	h()
}

// route finds the server whose address is the longest that fits; on premises the root answers
// connection data as well.
func (s *Sim) route(host, path string) (*server, string) {
	var best *server
	length, rest := -1, ""
	for _, v := range s.servers {
		if v.host() != host {
			continue
		}
		bases := []string{v.URL}
		if !v.hosted() {
			bases = append(bases, v.root())
		}
		for _, b := range bases {
			u, _ := url.Parse(b)
			below, ok := strings.CutPrefix(
				strings.ToLower(path)+"/",
				strings.ToLower(strings.TrimRight(u.Path, "/"))+"/",
			)
			if ok && len(u.Path) > length &&
				(b == v.URL || strings.HasPrefix(below, "_apis/connectiondata") || strings.HasPrefix(below, "_apis/oauth2")) {
				best, length, rest = v, len(u.Path), strings.Trim(path[len(strings.TrimRight(u.Path, "/")):], "/")
			}
		}
	}
	return best, rest
}

// signIn finds out whose request it is. Services answers a bad PAT with a sign-in page and 203, one
// that expired with 401; servers on premises with 401.
func (c *call) signIn() bool {
	header := c.r.Header.Get("Authorization")
	if t, ok := strings.CutPrefix(header, "Bearer "); ok {
		if c.agent = c.sim.agentOf(t); c.agent != nil {
			return true
		}
	}
	_, pass, basic := c.r.BasicAuth()
	if t, ok := strings.CutPrefix(header, "Bearer "); ok && !basic {
		pass = t
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	identity := c.identity(pass)
	for i := range c.sim.scenario.PATs {
		p := &c.sim.scenario.PATs[i]
		if pass == "" || (!basic || p.Value != pass) && (identity == "" || p.ObjectID != identity) {
			continue
		}
		if len(p.Organizations) > 0 && !slices.Contains(p.Organizations, c.name()) {
			break
		}
		if !p.Expires.IsZero() && p.Expires.Before(time.Now()) {
			c.refuse(
				http.StatusUnauthorized,
				"UnauthorizedRequestException",
				"TF400813: The user '' is not authorized to access this resource.",
			)
			return false
		}
		c.pat = p
		return true
	}
	if identity != "" {
		c.refuse(
			http.StatusUnauthorized,
			"UnauthorizedRequestException",
			"TF400813: The user '"+identity+"' is not authorized to access this resource.",
		)
		return false
	}
	if c.hosted() && strings.EqualFold(c.r.Header.Get("X-TFS-FedAuthRedirect"), "Suppress") {
		c.w.Header().Set("WWW-Authenticate", `Basic realm="https://tfsprodweu1.visualstudio.com/"`)
		c.w.WriteHeader(http.StatusUnauthorized)
		return false
	}
	if c.hosted() {
		c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
		c.w.WriteHeader(http.StatusNonAuthoritativeInfo)
		_, _ = io.WriteString(
			c.w,
			"<!DOCTYPE html>\r\n<html lang=\"en-US\"><head><title>Azure DevOps Services | Sign "+
				"In</title></head><body></body></html>",
		)
		return false
	}
	c.w.Header().Set("WWW-Authenticate", `Basic realm="`+c.host()+`"`)
	c.refuse(
		http.StatusUnauthorized,
		"UnauthorizedRequestException",
		"TF400813: Resource not available for anonymous access. Client authentication required.",
	)
	return false
}

// identity is the object ID of the managed identity that a token for Azure DevOps stands for; "" if
// it is none, or for another resource. Servers on premises know no such tokens.
func (c *call) identity(bearer string) string {
	t, known := c.sim.tokens[bearer]
	if !known || !c.hosted() || t.resource != devOpsResource || t.expires.Before(time.Now()) {
		return ""
	}
	return t.objectID
}

// devOpsResource is Azure DevOps Services in Microsoft Entra.
const devOpsResource = "499b84ac-1321-427f-aa17-267ca6975798"

// may checks a scope; without it, access is denied as Azure DevOps words it.
func (c *call) may(area string, manage bool) bool {
	if c.scoped(area, manage) {
		return true
	}
	c.refuse(
		http.StatusForbidden,
		"AccessDeniedException",
		"Access denied. The token of "+c.pat.User+" does not have the scope for this operation. For more "+
			"information, contact the Azure DevOps administrator.",
	)
	return false
}

// scoped says whether the token has a scope. Those of deployment groups and environments contain
// that of pools (learn.microsoft.com/azure/devops/integrate/get-started/authentication/oauth,
// Scopes).
func (c *call) scoped(area string, manage bool) bool {
	return c.agent != nil || c.pat.has(area, manage) ||
		area == "agentPools" && (c.pat.has("deploymentGroup", manage) || c.pat.has("environment", manage))
}

func (p *PAT) has(area string, manage bool) bool {
	return slices.Contains(p.Scopes, "full") || slices.Contains(p.Scopes, area) ||
		!manage && slices.Contains(p.Scopes, area+".read")
}

var apiVersion = regexp.MustCompile(`^(\d+\.\d+)(-preview(\.\d+)?)?$`)

// versionFits refuses what this server is too old for, and previews that are not asked for as such.
func (c *call) versionFits() bool {
	v := c.r.URL.Query().Get("api-version")
	if v == "" {
		for _, part := range strings.Split(c.r.Header.Get("Accept"), ";") {
			if a, ok := strings.CutPrefix(strings.TrimSpace(part), "api-version="); ok {
				v = a
			}
		}
	}
	if v == "" && c.r.Method == http.MethodGet { // a read without a version gets the oldest
		return true
	}
	m := apiVersion.FindStringSubmatch(v)
	switch {
	case m == nil:
		c.refuse(
			http.StatusBadRequest,
			"VssVersionNotSpecifiedException",
			"No api-version was supplied for the \""+c.r.Method+"\" request. The version must be supplied either "+
				"as part of the Accept header (e.g. \"application/json; api-version=1.0\") or as a query parameter (e.g. \"?api-version=1.0\").",
		)
	case newer(m[1], c.APIVersion) && c.agent == nil:
		c.refuse(
			http.StatusBadRequest,
			"VssVersionOutOfRangeException",
			"The requested REST API version of "+m[1]+" is out of range for this server. The latest REST API version "+
				"this server supports is "+c.APIVersion+".",
		)
	case m[2] == "" && c.inPreview(m[1]):
		c.refuse(
			http.StatusBadRequest,
			"VssInvalidPreviewVersionException",
			"The requested version \""+v+"\" of the resource is under preview. The -preview flag must be supplied "+
				"in the api-version for such requests. For example: \""+v+"-preview\"",
		)
	default:
		return true
	}
	return false
}

// inPreview reports whether what is asked for was not released yet in a version of the API
// (MicrosoftDocs/vsts-rest-api-specs, taskAgent.json and environments.json of 5.1 to 7.2): pools and
// their agents were, deployment groups and targets since 7.0, environments never.
func (c *call) inPreview(version string) bool {
	switch {
	case strings.HasPrefix(c.path, "_apis/distributedtask/pools"):
		return false
	case strings.Contains(strings.ToLower(c.path), "/_apis/distributedtask/deploymentgroups"):
		return newer("7.0", version)
	}
	return true
}

func newer(a, b string) bool {
	split := func(s string) (string, string) { x, y, _ := strings.Cut(s, "."); return x, y }
	a1, a2 := split(a)
	b1, b2 := split(b)
	if len(a1) != len(b1) {
		return len(a1) > len(b1)
	}
	return a1 > b1 || a1 == b1 && a2 > b2
}
