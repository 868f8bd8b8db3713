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

	"azp-bootstrap/bootstrap/devops"
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
	pat   secret.PAT
	there map[string]bool // kinds of target in which an agent stands that may be looked at
}

// NewSide asks over transport, with this PAT.
func NewSide(q Questions, transport http.RoundTripper, pat secret.PAT) *Side {
	r := &recorder{RoundTripper: transport, base: strings.TrimRight(q.URL, "/"), project: q.Project}
	return &Side{recorder: r, Questions: q, pat: pat, there: map[string]bool{}}
}

// Answers are those so far.
func (s *Side) Answers() []Answer { return s.answers }

// Version is the newest version of the API that is served; "" if none was refused.
func (s *Side) Version() string { return s.version }

func (s *Side) client(pat secret.PAT) *devops.Client {
	return devops.New(s.URL, "organization", &http.Client{
		Transport:     s.recorder,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, devops.Credential{PAT: pat})
}

// Ask asks everything that the product asks, by the product's own client. An error says that there
// is nothing to compare: the PAT is rejected, a target is not there.
func (s *Side) Ask(ctx context.Context, progress func(string)) error {
	c := s.client(s.pat)
	ask := func(question string) { progress(question); s.question = question }
	ask("who the PAT's owner is")
	if _, err := c.WhoAmI(ctx); err != nil {
		return err
	}
	for _, t := range s.targets() {
		ask("the " + words[t.Kind])
		p, err := c.Find(ctx, t)
		if err != nil {
			return err
		}
		// Refusals are answers, too: what they are is in the report.
		_, _ = c.Stands(ctx, p)
		_ = c.Manages(ctx, p)
		ask("an agent of the " + words[t.Kind] + " that does not exist")
		_, _ = c.Agent(ctx, p, nobody)
		_, _ = c.Behind(ctx, p, nobody)
		_, _ = c.ByID(ctx, p, nothing)
		ask("the agents of the " + words[t.Kind])
		all, _ := c.All(ctx, p)
		if s.there[t.Kind] = len(all) > 0; s.there[t.Kind] {
			ask("an agent of the " + words[t.Kind])
			_, _ = c.Agent(ctx, p, all[0].Name)
			_, _ = c.Shown(ctx, p, all[0].Name)
			_, _ = c.ByID(ctx, p, all[0].ID)
		}
		if s.Write {
			ask("a scratch agent of the " + words[t.Kind])
			if err := s.scratch(ctx, c, p); err != nil {
				return err
			}
		}
		ask(article(words[t.Kind]) + " that does not exist")
		t.Name = nobody
		_, _ = s.client(s.pat).Find(ctx, t)
		p.ID, p.PoolID = nothing, nothing
		_, _ = s.client(s.pat).Stands(ctx, p)
		_, _ = s.client(s.pat).Agent(ctx, p, nobody)
	}
	if s.Project != "" {
		ask("a project that does not exist")
		_, _ = s.client(s.pat).Find(ctx, devops.Target{Kind: devops.Environment, Project: nobody, Name: nobody})
	}
	ask("a PAT that is none")
	none, err := secret.NewPAT(strings.Repeat("a", 52))
	if err == nil {
		_, _ = s.client(none).WhoAmI(ctx)
	}
	s.question = ""
	return err
}

// scratch adds an agent, does to it what the product does to agents, and removes it. An error says
// that it may still be there.
func (s *Side) scratch(ctx context.Context, c *devops.Client, p devops.Place) error {
	name := "azp-compare-" + random(4)
	s.add(ctx, p, name)
	a, err := c.Agent(ctx, p, name)
	if err != nil || a == nil {
		return errors.Join(err, fmt.Errorf("the scratch agent %s of the %s is not shown: if it is there, remove it", name, p))
	}
	s.add(ctx, p, name) // it is there already
	_ = c.Enable(ctx, p, a, false)
	_ = c.Enable(ctx, p, a, true)
	_ = c.SetTags(ctx, p, a, []string{"azp-compare"})
	_, _ = c.ByID(ctx, p, a.ID)
	if err := c.Delete(context.WithoutCancel(ctx), p, a); err != nil {
		return fmt.Errorf("the scratch agent %s of the %s could not be removed: %w", name, p, err)
	}
	_, err = c.ByID(ctx, p, a.ID)
	if !errors.Is(err, devops.ErrGone) {
		return errors.Join(err, fmt.Errorf("the scratch agent %s of the %s is still there: remove it", name, p))
	}
	_ = c.Delete(ctx, p, a) // once more: it is not found
	return nil
}

// Mirror adds an agent to each target in which other has one, so that both can be asked about one.
func (s *Side) Mirror(ctx context.Context, other *Side) error {
	c := s.client(s.pat)
	for _, t := range s.targets() {
		if !other.there[t.Kind] {
			continue
		}
		p, err := c.Find(ctx, t)
		if err != nil {
			return err
		}
		s.add(ctx, p, "azp-compare-mirror")
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
		s.post(ctx, fmt.Sprintf("/%s/_apis/pipelines/environments/%d/providers/virtualmachines", project, p.ID), "4.1-preview",
			map[string]any{"virtualMachineResource": map[string]any{"name": name, "tags": []string{}, "agent": me}})
	}
}

func (s *Side) post(ctx context.Context, path, version string, in any) {
	body, err := json.Marshal(in)
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+path, bytes.NewReader(body))
	if err != nil {
		return
	}
	req.SetBasicAuth("", s.pat.Reveal())
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json;api-version="+version)
	if res, err := (&http.Client{Transport: s.recorder}).Do(req); err == nil { // what came is in the record
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
	}
}
