package sim

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// options answers OPTIONS _apis/{area}: the area's resources by location ID, which clients of
// others ask for before anything else.
func (c *call) options() {
	asked := strings.ToLower(strings.TrimPrefix(c.path, "_apis/"))
	type res struct{ id, area, name, route string }
	var out []object
	for _, r := range []res{
		{"a8c47e17-4d56-4a56-92bb-de7ea7dc65be", "distributedtask", "pools", "_apis/{area}/{resource}/{poolId}"},
		{"e298ef32-5878-4cab-993c-043836571f42", "distributedtask", "agents", "_apis/{area}/pools/{poolId}/{resource}/{agentId}"},
		{"083c4d89-ab35-45af-aa11-7cf66895c53e", "distributedtask", "deploymentgroups", "{project}/_apis/{area}/{resource}/{deploymentGroupId}"},
		{"2f0aa599-c121-4256-a5fd-ba370e0ae7b6", "distributedtask", "targets", "{project}/_apis/{area}/deploymentgroups/{deploymentGroupId}/{resource}/{targetId}"},
		{"e81700f7-3be2-46de-8624-2eb35882fcaa", "Location", "ResourceAreas", "_apis/{resource}/{areaId}"},
		{"8572b1fc-2482-47fa-8f74-7e3ed53ee54b", "distributedtask", "environments", "{project}/_apis/{area}/{resource}/{environmentId}"},
	} {
		if !strings.EqualFold(r.area, asked) {
			continue
		}
		out = append(
			out,
			object{
				"id":              r.id,
				"area":            r.area,
				"resourceName":    r.name,
				"routeTemplate":   r.route,
				"resourceVersion": 1,
				"minVersion":      "1.0",
				"maxVersion":      c.APIVersion,
				"releasedVersion": "0.0",
			},
		)
	}
	reply(c.w, http.StatusOK, object{"count": len(out), "value": out})
}

func (c *call) connectionData() {
	kind := "onPremises"
	if c.hosted() {
		kind = "hosted"
	}
	user := object{"id": "cccccccc-0000-4000-8000-000000000001", "providerDisplayName": "agent", "isActive": true}
	if c.pat != nil {
		user["providerDisplayName"] = c.pat.User
	}
	reply(
		c.w,
		http.StatusOK,
		object{
			"authenticatedUser": user,
			"authorizedUser":    user,
			"instanceId":        c.id,
			"deploymentId":      c.id,
			"deploymentType":    kind,
			"locationServiceData": object{
				"serviceOwner":                "00025394-6065-48ca-87d9-7f5672854ef7",
				"defaultAccessMappingMoniker": "PublicAccessMapping",
				"lastChangeId":                1,
			},
		},
	)
}

// handler finds what the path means; nil if nothing. The simulator is locked meanwhile, and not
// when the handler runs.
func (c *call) handler() func() {
	parts := strings.Split(c.path, "/")
	lower := strings.Split(strings.ToLower(c.path), "/")
	at := func(i int) string {
		if i < len(lower) {
			return lower[i]
		}
		return ""
	}
	if at(0) == "_apis" {
		switch {
		case at(1) == "connectiondata":
			return c.connectionData
		case at(1) == "resourceareas":
			return func() { reply(c.w, http.StatusOK, object{"count": 0, "value": []object{}}) }
		case at(1) == "distributedtask" && at(2) == "packages" && at(3) == "agent":
			return c.only(http.MethodGet, c.packages)
		case at(1) == "distributedtask" && at(2) == "pools" && at(3) == "":
			return c.only(http.MethodGet, c.listPools)
		case at(1) == "distributedtask" && at(2) == "pools":
			p := c.poolByID(at(3))
			if p == nil {
				return func() { c.noPool(at(3)) }
			}
			switch at(4) {
			case "":
				if c.r.Method == http.MethodGet {
					return func() { c.onePool(p) }
				}
			case "agents":
				return func() { c.poolAgents(p, at(5)) }
			case "sessions":
				return func() { c.sessions(p, at(5)) }
			case "messages":
				return func() { c.messages(p) }
			case "jobrequests":
				return func() { c.finish(at(5)) }
			}
		}
		return nil
	}
	if at(1) != "_apis" {
		return nil
	}
	name := parts[0]
	var pr *project
	for _, p := range c.projects {
		if strings.EqualFold(p.name, name) || p.id == name {
			pr = p
		}
	}
	if pr == nil {
		return func() {
			c.refuse(
				http.StatusNotFound,
				"ProjectDoesNotExistWithNameException",
				"TF200016: The following project does not "+
					"exist: "+name+". Verify that the name of the project is correct and that the project exists on the specified Azure DevOps Server.",
			)
		}
	}
	kind := ""
	switch at(2) + "/" + at(3) {
	case "distributedtask/deploymentgroups":
		kind = "deploymentGroup"
	case "pipelines/environments":
		if !newer("7.0", c.APIVersion) {
			kind = "environment"
		}
	case "distributedtask/environments":
		if !newer("6.0", c.APIVersion) {
			kind = "environment"
		}
	}
	if kind == "" {
		return nil
	}
	if at(4) == "" {
		return c.only(http.MethodGet, func() { c.listGroups(pr, kind) })
	}
	g := pr.group(kind, at(4))
	if g == nil {
		return func() { c.noGroup(kind, at(4)) }
	}
	if at(5) == "" && c.r.Method == http.MethodGet {
		return func() { c.oneGroup(g) }
	}
	if kind == "deploymentGroup" && at(5) == "targets" {
		return func() { c.members(g, at(6)) }
	}
	if kind == "environment" && at(5) == "providers" && at(6) == "virtualmachines" {
		if at(7) == "pool" {
			return func() { c.environmentPool(g) }
		}
		return func() { c.members(g, at(7)) }
	}
	return nil
}

func (c *call) read(into any) bool {
	if err := json.NewDecoder(io.LimitReader(c.r.Body, 4<<20)).Decode(into); err != nil {
		c.refuse(http.StatusBadRequest, "VssPropertyValidationException", "The body cannot be read: "+err.Error())
		return false
	}
	return true
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// packages are the agent's packages that this server offers, the newest first.
func (c *call) packages() {
	all := []object{}
	var v [3]int
	if n, _ := fmt.Sscanf(c.Agent, "%d.%d.%d", &v[0], &v[1], &v[2]); n == 3 {
		platform := c.r.URL.Query().Get("platform")
		name := "vsts-agent-" + platform + "-" + c.Agent + ".tar.gz"
		all = append(all, object{
			"type": "agent", "platform": platform, "createdOn": "2026-11-01T00:00:00Z", "filename": name,
			"version":     object{"major": v[0], "minor": v[1], "patch": v[2]},
			"downloadUrl": "https://" + downloadHost + "/agent/" + c.Agent + "/" + name,
		})
	}
	reply(c.w, http.StatusOK, object{"count": len(all), "value": all})
}
