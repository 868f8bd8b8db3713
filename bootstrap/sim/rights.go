package sim

import (
	"fmt"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
)

// This file is what the owner of a PAT may do with a pool, beside the PAT's scopes.

func (p *PAT) lacks(right []string, pool *pool) bool {
	return p != nil && slices.ContainsFunc(right, func(pattern string) bool {
		fits, _ := path.Match(pattern, pool.name)
		return fits
	})
}

// views says whether the caller has the right View on a pool. An agent's own token has it on its
// pool.
func (c *call) views(p *pool) bool { return c.pat == nil || !c.pat.lacks(c.pat.NoView, p) }

// manages says whether the caller has the right Manage on a pool: its role is Administrator.
func (c *call) manages(p *pool) bool {
	return c.views(p) && (c.pat == nil || !c.pat.lacks(c.pat.NoManage, p))
}

// sees says whether a pool is among the answers to a question with this actionFilter, by number or
// name.
func (c *call) sees(p *pool, filter string) bool {
	manage := filter == "2" || strings.EqualFold(filter, "manage")
	return c.views(p) && (!manage || c.manages(p) && c.scoped("agentPools", true))
}

// mayPool checks the rights on a pool for its agents. To those who may not see it, it does not
// exist, or is empty; which of the two is not known.
func (c *call) mayPool(p *pool, id string) bool {
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	switch read := c.r.Method == http.MethodGet; {
	case !c.views(p) && c.pat.Hidden == "empty" && read && id == "":
		reply(c.w, http.StatusOK, list(nil))
	case !c.views(p) && c.pat.Hidden == "empty" && read:
		c.noAgent(p, id)
	case !c.views(p):
		c.noPool(strconv.Itoa(p.id))
	case !read:
		return c.mayManage(p)
	default:
		return true
	}
	return false
}

// mayManage checks the right to add, change and delete a pool's agents. Who does so by a deployment
// group or an environment needs it as well
// (learn.microsoft.com/azure/devops/pipelines/process/environments-virtual-machines). Type key and
// words: github.com/MicrosoftDocs/azure-devops-docs, issue 13093, with the pool's name as Managed
// DevOps Pools report it; status: github.com/microsoft/tfs-cli, issue 64.
func (c *call) mayManage(p *pool) bool {
	if c.manages(p) {
		return true
	}
	c.refuse(
		http.StatusForbidden,
		"AccessDeniedException",
		fmt.Sprintf("Access denied. %s needs Manage permissions for pool %s "+
			"to perform the action. For more information, contact the Azure DevOps Server "+
			"administrator.", c.pat.User, p.name),
	)
	return false
}
