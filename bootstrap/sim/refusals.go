package sim

import (
	"fmt"
	"net/http"
	"strings"
)

// refuse answers with an error as Azure DevOps words it. The scenario's quirks give some another
// status: which one servers send is not certain everywhere, only the type key is.
func (c *call) refuse(status int, key, message string) {
	if s := c.quirks[quirk(status, key)]; s != 0 {
		status = s
	}
	space := "Microsoft.TeamFoundation.DistributedTask.WebApi"
	if strings.HasPrefix(key, "Vss") || key == "UnauthorizedRequestException" {
		space = "Microsoft.VisualStudio.Services.WebApi"
	}
	reply(c.w, status, object{"$id": "1", "innerException": nil, "message": message,
		"typeName": space + "." + key + ", " + space, "typeKey": key, "errorCode": 0, "eventId": 3000})
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

func (c *call) notFound(key, format string, args ...any) {
	c.refuse(http.StatusNotFound, key, fmt.Sprintf(format, args...))
}

func (c *call) conflict(key, format string, args ...any) {
	c.refuse(http.StatusConflict, key, fmt.Sprintf(format, args...))
}

// noPool has the words of github.com/microsoft/azure-pipelines-agent, issue 876.
func (c *call) noPool(id string) {
	c.notFound("TaskAgentPoolNotFoundException", "No agent pool found with identifier %s.", id)
}

// noAgent has the words of github.com/microsoft/azure-pipelines-agent, issue 5177.
func (c *call) noAgent(p *pool, id string) {
	c.notFound("TaskAgentNotFoundException", "No agent found for pool %d with identifier %s.", p.id, id)
}

// agentExists has the words of github.com/microsoft/azure-pipelines-agent, issue 5174.
func (c *call) agentExists(p *pool, name string) {
	c.conflict("TaskAgentExistsException", "Pool %s already contains an agent with name %s.", p.name, name)
}

// noGroup has the type keys of github.com/actions/runner, src/Sdk/DTWebApi/WebApi/Exceptions.cs,
// which began as Azure DevOps' own. The words are not known; likewise of the next three.
func (c *call) noGroup(kind, id string) {
	if kind == "environment" {
		c.notFound("EnvironmentNotFoundException", "No environment found with identifier %s.", id)
		return
	}
	c.notFound("DeploymentGroupNotFoundException", "No deployment group found with identifier %s.", id)
}

func (c *call) noMember(g *group, id string) {
	if g.kind == "environment" {
		c.notFound("EnvironmentResourceNotFoundException", "No resource %s found in the environment %s.", id, g.name)
		return
	}
	c.notFound("DeploymentMachineNotFoundException", "No machine %s found in the deployment group %s.", id, g.name)
}

func (c *call) memberExists(g *group, name string) {
	if g.kind == "environment" {
		c.conflict(
			"EnvironmentResourceExistsException",
			"The environment already contains a resource with name %s.",
			name,
		)
		return
	}
	c.conflict("DeploymentMachineExistsException", "The group already contains a machine with name %s.", name)
}

// noEnvironmentPool is for an environment that has no pool yet, or one that may not be seen.
func (c *call) noEnvironmentPool(g *group) {
	c.notFound("EnvironmentPoolNotFoundException", "No pool is configured for the environment %d.", g.id)
}

// noArgument has the type key and words of other arguments:
// github.com/MicrosoftDocs/vsts-rest-api-specs, issue 66.
func (c *call) noArgument(name string) {
	c.refuse(http.StatusBadRequest, "ArgumentNullException", "Value cannot be null.\r\nParameter name: "+name)
}
