package compare

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/retry"
	"azp-bootstrap/bootstrap/secret"
)

// Questions are what an organization or collection is asked. A target without a name is left out.
type Questions struct {
	URL                                string // of the organization or collection
	Project                            string // of deployment group and environment
	Pool, DeploymentGroup, Environment string
	Version                            string // of the API, the newest that a mirror serves; "" = that of Services
	Write                              bool   // a scratch agent is added to each target, and removed again
}

// targets are those that have a name.
func (q Questions) targets() (all []devops.Target) {
	for _, t := range []devops.Target{
		{Kind: devops.Pool, Name: q.Pool},
		{Kind: devops.DeploymentGroup, Project: q.Project, Name: q.DeploymentGroup},
		{Kind: devops.Environment, Project: q.Project, Name: q.Environment},
	} {
		if t.Name != "" {
			all = append(all, t)
		}
	}
	return all
}

// words name the kinds, for the report.
var words = map[string]string{
	devops.Pool: "agent pool", devops.DeploymentGroup: "deployment group", devops.Environment: "environment",
}

func article(word string) string {
	if strings.ContainsAny(word[:1], "aeiou") {
		return "an " + word
	}
	return "a " + word
}

// nobody, nothing are a name and an ID that nothing has.
const nobody, nothing = "azp-compare-nobody", 2147483000

// A Side is an Azure that is asked.
type Side struct {
	*recorder
	Questions
	pat    secret.PAT
	there  map[string]bool // kinds of target in which an agent stands that may be looked at
	pooled map[string]bool // kinds of target behind which there is a pool
}

// NewSide asks over transport, with this PAT.
func NewSide(q Questions, transport http.RoundTripper, pat secret.PAT) *Side {
	r := newRecorder(transport, q.URL, q.Project)
	return &Side{recorder: r, Questions: q, pat: pat, there: map[string]bool{}, pooled: map[string]bool{}}
}

// Answers are those so far.
func (s *Side) Answers() []Answer { return s.answers }

// Version is the newest version of the API that is served; "" if none was refused.
func (s *Side) Version() string { return s.version }

// lastResponse follows no redirect: it is an answer.
func lastResponse(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func (s *Side) client(pat secret.PAT) *devops.Client {
	return devops.New(s.URL, "organization", &http.Client{Transport: s.recorder, CheckRedirect: lastResponse},
		devops.Credential{PAT: pat})
}

// Ask asks everything that the product asks, by the product's own client. The error says what could
// not be asked: the PAT is rejected, a target is not there. What was answered until then is kept, and
// one target's error is none of the others.
func (s *Side) Ask(ctx context.Context, progress func(string)) error {
	c := s.client(s.pat)
	ask := func(question string) { progress(question); s.question = question }
	ask("who the PAT's owner is")
	if _, err := c.WhoAmI(ctx); err != nil {
		return err
	}
	var errs []error
	for _, t := range s.targets() {
		if ctx.Err() != nil {
			return errors.Join(append(errs, context.Cause(ctx))...)
		}
		errs = append(errs, s.target(ctx, c, t, ask))
	}
	errs = append(errs, s.strangers(ctx, ask))
	s.question = ""
	return errors.Join(errs...)
}

// target asks about one target.
func (s *Side) target(ctx context.Context, c *devops.Client, t devops.Target, ask func(string)) (err error) {
	ask("the " + words[t.Kind])
	p, err := c.Find(ctx, t)
	if err != nil {
		return err
	}
	// Refusals are answers, too: what they are is in the report.
	_, e := c.Stands(ctx, p)
	s.pooled[t.Kind] = e == nil
	_ = c.Manages(ctx, p)
	ask("an agent of the " + words[t.Kind] + " that does not exist")
	_, _ = c.Agent(ctx, p, nobody)
	_, _ = c.Behind(ctx, p, nobody)
	_, _ = c.ByID(ctx, p, nothing)
	ask("the agents of the " + words[t.Kind])
	all, _ := c.All(ctx, p)
	if one := s.listed(ctx, c, p, all); one != nil {
		s.there[t.Kind] = true
		ask("an agent of the " + words[t.Kind])
		_, _ = c.Agent(ctx, p, one.Name)
		_, _ = c.Shown(ctx, p, one.Name)
		_, _ = c.ByID(ctx, p, one.ID)
	}
	if s.Write {
		ask("a scratch agent of the " + words[t.Kind])
		err = s.scratch(ctx, c, p)
	}
	ask(article(words[t.Kind]) + " that does not exist")
	t.Name = nobody
	_, _ = s.client(s.pat).Find(ctx, t)
	p.ID, p.PoolID = nothing, nothing
	_, _ = s.client(s.pat).Stands(ctx, p)
	_, _ = s.client(s.pat).Agent(ctx, p, nobody)
	return err
}

// enough is how many agents are looked at for one that the target lists.
const enough = 20

// listed is an agent that the target lists: the pool behind an environment may hold others
// (azure-pipelines-agent 5174). Its look is not recorded.
func (s *Side) listed(ctx context.Context, c *devops.Client, p devops.Place, all []*devops.Agent) *devops.Agent {
	before := s.question
	defer func() { s.question = before }()
	s.question = ""
	for _, a := range all[:min(len(all), enough)] {
		if found, err := c.Agent(ctx, p, a.Name); err == nil && found != nil && found.ID == a.ID {
			return a
		}
	}
	return nil
}

// strangers asks about a project that does not exist, and by a PAT that is none.
func (s *Side) strangers(ctx context.Context, ask func(string)) error {
	if s.Project != "" {
		ask("a project that does not exist")
		_, _ = s.client(s.pat).Find(ctx, devops.Target{Kind: devops.Environment, Project: nobody, Name: nobody})
	}
	ask("a PAT that is none")
	none, err := secret.NewPAT(strings.Repeat("a", 52))
	if err == nil {
		_, _ = s.client(none).WhoAmI(ctx)
	}
	return err
}

// scratch adds an agent, does to it what the product does to agents, and removes it, whatever happens
// meanwhile. An error says that it may still be there.
func (s *Side) scratch(ctx context.Context, c *devops.Client, p devops.Place) (err error) {
	name := "azp-compare-" + random(4)
	defer func() { err = s.away(c, p, name) }()
	s.add(ctx, p, name)
	a, _ := c.Agent(ctx, p, name)
	if a == nil {
		return nil
	}
	s.add(ctx, p, name) // it is there already
	_ = c.Enable(ctx, p, a, false)
	_ = c.Enable(ctx, p, a, true)
	_ = c.SetTags(ctx, p, a, []string{"azp-compare"})
	_, _ = c.ByID(ctx, p, a.ID)
	_ = c.Delete(ctx, p, a)
	_, _ = c.ByID(ctx, p, a.ID)
	_ = c.Delete(ctx, p, a) // once more: it is not found
	return nil
}

// away makes sure that a scratch agent is gone: also if the comparison was interrupted, the server had
// a fault, or the resource went and left its agent in the pool behind. It is no part of the record.
func (s *Side) away(c *devops.Client, p devops.Place, name string) error {
	before := s.question
	defer func() { s.question = before }()
	s.question = ""
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var last error
	for pause := 200 * time.Millisecond; ctx.Err() == nil; pause *= 2 {
		a, err := c.Agent(ctx, p, name)
		if err == nil && a == nil {
			a, err = c.Behind(ctx, p, name)
		}
		if err == nil && a == nil {
			return nil
		}
		if last = err; a != nil {
			last = c.Delete(ctx, p, a)
		}
		if last != nil && !fault.From(last).Wait && pause > time.Second {
			break // it is refused
		}
		retry.Pause(ctx, pause)
	}
	return errors.Join(last, fmt.Errorf("the scratch agent %s of the %s may still be there: remove it", name, p))
}

// Mirror makes the targets like those of other: with an agent where that has one, so that both can be
// asked about one; and with the pool that an agent left behind.
func (s *Side) Mirror(ctx context.Context, other *Side) error {
	c := s.client(s.pat)
	for _, t := range s.targets() {
		if !other.there[t.Kind] && !other.pooled[t.Kind] {
			continue
		}
		p, err := c.Find(ctx, t)
		if err != nil {
			return err
		}
		s.add(ctx, p, "azp-compare-mirror")
		if a, err := c.Agent(ctx, p, "azp-compare-mirror"); !other.there[t.Kind] && err == nil && a != nil {
			_ = c.Delete(ctx, p, a)
		}
	}
	return nil
}

func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

// add registers an agent as config.sh does (microsoft/azure-pipelines-agent,
// Agent.Listener/Configuration/ConfigurationManager.cs and its ConfigurationProvider.cs; the
// requests are those of azure-devops-node-api's addAgent and addDeploymentTarget, and of
// EnvironmentsServer.cs). The product itself lets config.sh do it.
func (s *Side) add(ctx context.Context, p devops.Place, name string) {
	modulus := make([]byte, 256)
	_, _ = rand.Read(modulus) // it never fails
	modulus[0] |= 0x80
	me := map[string]any{
		"name": name, "version": "4.248.0", "osDescription": "azp-sim compare", "maxParallelism": 1,
		"systemCapabilities": map[string]string{devops.InstanceIDCapability: "00000000-0000-4000-8000-" + random(6)},
		"authorization": map[string]any{"publicKey": map[string]string{
			"exponent": base64.StdEncoding.EncodeToString([]byte{1, 0, 1}),
			"modulus":  base64.StdEncoding.EncodeToString(modulus),
		}},
	}
	project := url.PathEscape(p.ProjectID)
	switch p.Kind {
	case devops.Pool:
		s.post(ctx, fmt.Sprintf("/_apis/distributedtask/pools/%d/agents", p.ID), "4.1", me)
	case devops.DeploymentGroup:
		s.post(ctx, fmt.Sprintf("/%s/_apis/distributedtask/deploymentgroups/%d/targets", project, p.ID), "4.1-preview",
			map[string]any{"agent": me})
	default:
		for _, area := range []string{"pipelines", "distributedtask"} { // the latter on Server 2020
			status := s.post(ctx, fmt.Sprintf("/%s/_apis/%s/environments/%d/providers/virtualmachines", project, area, p.ID), "4.1-preview",
				map[string]any{"virtualMachineResource": map[string]any{"name": name, "tags": []string{}, "agent": me}})
			if status != http.StatusNotFound {
				break
			}
		}
	}
}

// post returns the answer's status, 0 if there was none.
func (s *Side) post(ctx context.Context, path, version string, in any) int {
	body, err := json.Marshal(in)
	if err != nil {
		return 0
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(s.URL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return 0
	}
	req.SetBasicAuth("", s.pat.Reveal())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json;api-version="+version)
	req.Header.Set("X-TFS-FedAuthRedirect", "Suppress")
	res, err := (&http.Client{Transport: s.recorder, CheckRedirect: lastResponse}).Do(req)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, res.Body) // what came is in the record
	_ = res.Body.Close()
	return res.StatusCode
}
