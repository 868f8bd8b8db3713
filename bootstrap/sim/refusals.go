package sim

import (
	"net/http"
	"strconv"
)

// refuse answers with an error as Azure DevOps words it. The scenario's quirks give some another status: which one
// servers send is not certain everywhere, only the type key is.
func (c *call) refuse(status int, key, message string) {
	if s := c.quirks[quirk(status, key)]; s != 0 {
		status = s
	}
	reply(c.w, status, object{"$id": "1", "innerException": nil, "message": message, "typeName": "Microsoft.TeamFoundation." + key + ", Microsoft.TeamFoundation", "typeKey": key, "errorCode": 0, "eventId": 3000})
}

// quirk is the name of a refusal among a scenario's quirks.
func quirk(status int, key string) string {
	switch {
	case key == "AccessDeniedException":
		return "accessDenied"
	case key == "TaskAgentJobStillRunningException":
		return "jobStillRunning"
	case key == "EnvironmentPoolNotFoundException":
		return "environmentPoolNotFound"
	case status == http.StatusNotFound && key != "":
		return "notFound"
	}
	return ""
}

// noPool refuses with the words of github.com/microsoft/azure-pipelines-agent, issue 876.
func (c *call) noPool(id string) {
	c.refuse(http.StatusNotFound, "TaskAgentPoolNotFoundException", "No agent pool found with identifier "+id+".")
}

// noAgent has the words of github.com/microsoft/azure-pipelines-agent, issue 5177.
func noAgent(p *pool, id string) string {
	return "No agent found for pool " + strconv.Itoa(p.id) + " with identifier " + id + "."
}

// contains has the words of github.com/microsoft/azure-pipelines-agent, issue 5174.
func (p *pool) contains(name string) string {
	return "Pool " + p.name + " already contains an agent with name " + name + "."
}

// noGroup refuses with type keys of github.com/actions/runner, src/Sdk/DTWebApi/WebApi/Exceptions.cs, which began as
// Azure DevOps' own. The words are not known.
func (c *call) noGroup(kind, id string) {
	if kind == "environment" {
		c.refuse(http.StatusNotFound, "EnvironmentNotFoundException", "Environment with ID "+id+" does not exist or is not accessible.")
		return
	}
	c.refuse(http.StatusNotFound, "DeploymentGroupNotFoundException", "No deployment group found with identifier "+id+".")
}

// noMember likewise.
func (c *call) noMember(g *group, id string) {
	if g.kind == "environment" {
		c.refuse(http.StatusNotFound, "EnvironmentResourceNotFoundException", "Resource with ID "+id+" does not exist in the environment "+g.name+".")
		return
	}
	c.refuse(http.StatusNotFound, "DeploymentMachineNotFoundException", "No machine found with identifier "+id+" in the deployment group "+g.name+".")
}

func (c *call) memberExists(g *group, m *member) {
	if g.kind == "environment" {
		c.refuse(http.StatusConflict, "EnvironmentResourceExistsException", "The environment already contains a resource with name "+m.agent.name+".")
		return
	}
	c.refuse(http.StatusConflict, "DeploymentMachineExistsException", "The deployment group already contains a machine with name "+m.agent.name+".")
}

// noEnvironmentPool refuses what asks for the pool behind an environment that has none yet, or one that may not be seen.
func (c *call) noEnvironmentPool(g *group) {
	c.refuse(http.StatusNotFound, "EnvironmentPoolNotFoundException", "No pool is configured for the environment "+strconv.Itoa(g.id)+".")
}

// noArgument has the type key and words of other arguments: github.com/MicrosoftDocs/vsts-rest-api-specs, issue 66.
func (c *call) noArgument(name string) {
	c.refuse(http.StatusBadRequest, "ArgumentNullException", "Value cannot be null.\r\nParameter name: "+name)
}
