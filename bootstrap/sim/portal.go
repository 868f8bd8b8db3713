package sim

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// This file is what a person sees and does in the portal.

// An AgentSeen is an agent as the servers know it.
type AgentSeen struct {
	Server     string   `json:"server"`
	Target     string   `json:"target"`
	Kind       string   `json:"kind"`
	Name       string   `json:"name"`
	ID         int      `json:"id"`
	Status     string   `json:"status"`
	Version    string   `json:"version"`
	Tags       []string `json:"tags"`
	InstanceID string   `json:"instanceId"`
	Disabled   bool     `json:"disabled,omitempty"`
}

func (a AgentSeen) String() string {
	return fmt.Sprintf("%-8s %s (ID %d, version %s) in %s %s at %s, tags [%s], instance %s", a.Status, a.Name, a.ID,
		a.Version, a.Kind, a.Target, a.Server, strings.Join(a.Tags, " "), a.InstanceID)
}

// Agents lists every agent on every server.
func (s *Sim) Agents() []AgentSeen {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []AgentSeen{}
	for _, v := range s.servers {
		grouped := map[*agent]bool{}
		see := func(kind, target string, a *agent, tags []string) {
			grouped[a] = true
			status := "offline"
			if a.online() {
				status = "online"
			}
			out = append(out, AgentSeen{v.URL, target, kind, a.name, a.id, status, a.version, tags,
				a.caps["AZP_BOOTSTRAP_INSTANCE_ID"], a.disabled})
		}
		for _, p := range v.projects {
			for _, g := range p.groups {
				for _, m := range g.members {
					see(g.kind, p.name+"/"+g.name, m.agent, m.tags)
				}
			}
		}
		for _, p := range v.pools {
			for _, a := range p.agents {
				if !grouped[a] {
					see("pool", p.name, a, nil)
				}
			}
		}
	}
	return out
}

// eachServer calls do for each server, locked.
func (s *Sim) eachServer(do func(*server)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.servers {
		do(v)
	}
}

// RemoveResource removes an agent from its environment's page, which leaves it in the pool behind.
func (s *Sim) RemoveResource(name string) (found bool) { return s.remove(name, true) }

// Remove removes an agent from its target's page.
func (s *Sim) Remove(name string) (found bool) { return s.remove(name, false) }

// remove can leave an environment's or deployment group's agent in the pool behind, as happens on
// an environment's page (github.com/microsoft/azure-pipelines-agent, issues 5299 and 5174).
func (s *Sim) remove(name string, leaveInPool bool) (found bool) {
	s.eachServer(func(v *server) {
		is := func(a *agent) bool { return strings.EqualFold(a.name, name) }
		for _, p := range v.projects {
			for _, g := range p.groups {
				before := len(g.members)
				g.members = slices.DeleteFunc(g.members, func(m *member) bool { return is(m.agent) })
				found = found || len(g.members) < before
			}
		}
		for _, p := range v.pools {
			before := len(p.agents)
			if !leaveInPool {
				p.agents = slices.DeleteFunc(p.agents, is)
			}
			found = found || len(p.agents) < before
		}
	})
	return found
}

// Enable enables or disables an agent.
func (s *Sim) Enable(name string, enabled bool) (found bool) {
	s.eachServer(func(v *server) {
		for _, p := range v.pools {
			for _, a := range p.agents {
				if strings.EqualFold(a.name, name) {
					a.disabled, found = !enabled, true
				}
			}
		}
	})
	return found
}

// Refresh lets the server tell an agent to update itself to a version, as it does when its own is newer.
func (s *Sim) Refresh(name, version string) (found bool) {
	s.eachServer(func(v *server) {
		for _, p := range v.pools {
			for _, a := range p.agents {
				if strings.EqualFold(a.name, name) {
					a.refresh, found = version, true
				}
			}
		}
	})
	return found
}

// Rename gives a pool, project, environment or deployment group another name. Its ID stays.
func (s *Sim) Rename(kind, name, to string) (found bool) {
	s.eachServer(func(v *server) {
		rename := func(field *string) {
			if strings.EqualFold(*field, name) {
				*field, found = to, true
			}
		}
		if kind == "pool" {
			for _, p := range v.pools {
				rename(&p.name)
			}
		}
		for _, p := range v.projects {
			if kind == "project" {
				rename(&p.name)
			}
			for _, g := range p.groups {
				if g.kind == kind {
					rename(&g.name)
				}
			}
		}
	})
	return found
}

// DeleteTarget deletes a pool with its agents, or an environment or deployment group with its
// members and their agents. Whether the pool behind goes, too, is not known; here an environment's
// does, which nothing else can use.
func (s *Sim) DeleteTarget(kind, name string) (found bool) {
	s.eachServer(func(v *server) {
		gone := map[*pool]bool{}
		for _, p := range v.projects {
			p.groups = slices.DeleteFunc(p.groups, func(g *group) bool {
				if g.kind != kind || !strings.EqualFold(g.name, name) {
					return false
				}
				for _, m := range g.members {
					g.pool.drop(m.agent)
				}
				gone[g.pool] = g.kind == "environment"
				found = true
				return true
			})
		}
		v.pools = slices.DeleteFunc(v.pools, func(p *pool) bool {
			named := kind == "pool" && strings.EqualFold(p.name, name)
			found = found || named
			return named || gone[p]
		})
	})
	return found
}

// drop takes an agent out of its pool.
func (p *pool) drop(a *agent) {
	p.agents = slices.DeleteFunc(p.agents, func(o *agent) bool { return o == a })
}

// Age makes an agent one that was registered, and went offline, so long ago; negative: that stays.
func (s *Sim) Age(name string, offline, made time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.servers {
		for _, p := range v.pools {
			for _, a := range p.agents {
				if !strings.EqualFold(a.name, name) {
					continue
				}
				if offline >= 0 && a.online() || made < offline {
					return errors.New(
						"an agent that is online, or that was registered after it went offline, cannot be aged so",
					)
				}
				if a.created = time.Now().Add(-made); offline >= 0 {
					a.session, a.seen = "", time.Now().Add(-offline)
				}
				if a.caps["AZP_BOOTSTRAP_REGISTERED"] != "" {
					a.caps = maps.Clone(a.caps)
					a.caps["AZP_BOOTSTRAP_REGISTERED"] = a.created.UTC().Format(time.RFC3339)
				}
				return nil
			}
		}
	}
	return errors.New("no such agent")
}

// Populate puts n agents of VMs that are no more into the pool of this name, offline for so long. Each tells what an image full
// of tools lets an agent tell: 8 KiB.
func (s *Sim) Populate(name string, n int, offline time.Duration) (found bool) {
	tools := map[string]string{}
	for i := range 150 {
		tools[fmt.Sprintf("TOOL_%03d_X64", i)] = "/opt/hostedtoolcache/tool/1.2.3/x64/bin"
	}
	since := time.Now().Add(-offline)
	s.eachServer(func(v *server) {
		for _, p := range v.pools {
			if !strings.EqualFold(p.name, name) {
				continue
			}
			found = true
			for i := range n {
				caps := maps.Clone(tools)
				caps["AZP_BOOTSTRAP_INSTANCE_ID"] = guid()
				if vms := s.scenario.VMs; len(vms) > 0 { // neighbours of the VMs that exist
					caps["AZP_BOOTSTRAP_SCALE_SET"], caps["AZP_BOOTSTRAP_RESOURCE_GROUP"] = vms[0].ScaleSet, vms[0].ResourceGroup
					caps["AZP_BOOTSTRAP_SUBSCRIPTION_ID"] = vms[0].SubscriptionID
				}
				caps["AZP_BOOTSTRAP_REGISTERED"] = since.Add(-time.Hour).UTC().Format(time.RFC3339)
				p.agents = append(p.agents, &agent{
					id: v.next(), name: fmt.Sprintf("old-%06d", i), version: "4.248.0", clientID: guid(),
					caps: caps, created: since.Add(-time.Hour), seen: since,
				})
			}
		}
	})
	return found
}
