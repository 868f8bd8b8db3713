package devops

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// This file asks about the pool behind a target, which is where its agents stand.

// pool asks for the pool behind a place: an error if the server does not show it.
func (c *Client) pool(ctx context.Context, p Place) (pool named, err error) {
	id, err := c.poolID(ctx, p)
	if err == nil {
		err = c.call(ctx, http.MethodGet, fmt.Sprintf("/_apis/distributedtask/pools/%d", id), nil, false, nil, &pool)
	}
	if err == nil && pool.ID != id {
		err = &refusal{Status: http.StatusNotFound, Message: "an answer without the pool"}
	}
	return pool, err
}

// Manages is an error if the credential is known not to manage the pool behind a target, whatever
// its role on the target itself: agents are added by that right
// (learn.microsoft.com/azure/devops/pipelines/process/environments-virtual-machines). An
// environment that never had a VM has no pool yet: then nothing is known. An error that is not of the
// class pat-scope says that it could not be asked.
func (c *Client) Manages(ctx context.Context, p Place) error {
	if p.Kind == Pool {
		return nil // Find has asked
	}
	pool, err := c.pool(ctx, p)
	if r, ok := err.(*refusal); ok && strings.HasPrefix(r.Type, "EnvironmentPoolNotFound") {
		return nil
	}
	if err != nil {
		return c.unseen(ctx, err, p)
	}
	var answer struct {
		Value []named `json:"value"`
	}
	query := url.Values{"poolName": {pool.Name}, "poolType": {"deployment"}, "actionFilter": {"manage"}}
	if err := c.call(ctx, http.MethodGet, "/_apis/distributedtask/pools", query, false, nil, &answer); err != nil {
		return c.explain(err, "asking who manages the pool behind the "+p.String(), func(r *refusal) *fault.Error {
			if r.Type == "AccessDeniedException" { // a web page, or a bare status, may be anybody's
				return c.scopeMissing(p.Target, "manage the pool behind")
			}
			return nil
		})
	}
	if !slices.ContainsFunc(answer.Value, func(n named) bool { return n.ID == pool.ID }) {
		return c.scopeMissing(p.Target, "manage the pool behind")
	}
	return nil
}

// Stands confirms that a place whose IDs are known is still shown, whatever its name is by now.
func (c *Client) Stands(ctx context.Context, p Place) (Place, error) {
	pool, err := c.pool(ctx, p)
	if err != nil {
		return p, c.unseen(ctx, err, p)
	}
	if p.PoolID = pool.ID; p.Kind != Environment {
		p.PoolName = pool.Name
	}
	return p, nil
}

// Behind looks for the agent of this name in the pool behind a target that does not list it: a VM
// resource that was deleted on the environment's page can leave it there (azure-pipelines-agent
// 5174, 5299), where config.sh meets it. nil: there is none.
func (c *Client) Behind(ctx context.Context, p Place, name string) (*Agent, error) {
	if p.Kind == Pool {
		return nil, nil
	}
	path, err := c.inPool(ctx, p, 0)
	var answer struct {
		Value []agentBody `json:"value"`
	}
	if err == nil {
		query := url.Values{"agentName": {name}, "includeCapabilities": {"true"}}
		err = c.call(ctx, http.MethodGet, path, query, false, nil, &answer)
	}
	if r, ok := err.(*refusal); ok && strings.HasPrefix(r.Type, "EnvironmentPoolNotFound") {
		return nil, nil
	}
	if err != nil {
		return nil, c.unseen(ctx, err, p)
	}
	for _, b := range answer.Value {
		if strings.EqualFold(b.Name, name) {
			return b.agent(0), nil
		}
	}
	return nil, nil
}

// All lists the agents of the pool behind a target, with their capabilities, in no order. That
// answer comes whole, while the lists of deployment targets and VM resources come in pages.
func (c *Client) All(ctx context.Context, p Place) ([]*Agent, error) {
	path, err := c.inPool(ctx, p, 0)
	var all []*Agent
	if err == nil {
		// There are no pages, and each agent shows some kilobytes: of thousands, one at a time is
		// held.
		read := func(body io.Reader) error {
			all = []*Agent{}
			return eachOf(body, func(b agentBody) { all = append(all, b.agent(0)) })
		}
		err = c.call(ctx, http.MethodGet, path, url.Values{"includeCapabilities": {"true"}}, false, nil, reader(read))
	}
	if r, ok := err.(*refusal); ok && strings.HasPrefix(r.Type, "EnvironmentPoolNotFound") {
		return nil, nil // the pool behind an environment is made with its first VM; the status may be 404 or 500
	}
	if err != nil {
		return nil, c.explain(err, "listing the agents of the "+p.String(), c.known(p.Target, "read the agents of"))
	}
	return all, nil
}

var errNoList = errors.New("it holds no list")

// eachOf reads the list of an answer, {"count": …, "value": […]}, item by item.
func eachOf[T any](body io.Reader, hear func(T)) error {
	d := json.NewDecoder(body)
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return cmp.Or(err, errNoList)
	}
	listed := false
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		if key != "value" || listed {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return err
			}
			continue
		}
		listed = true
		switch t, err := d.Token(); {
		case err != nil:
			return err
		case t == nil: // null
			continue
		case t != json.Delim('['):
			return errNoList
		}
		for d.More() {
			var item T
			if err := d.Decode(&item); err != nil {
				return err
			}
			hear(item)
		}
		if _, err := d.Token(); err != nil {
			return err
		}
	}
	if !listed {
		return errNoList
	}
	_, err := d.Token() // else it was cut short
	return err
}

// Pool is the ID of the pool behind a place: where its agents are enabled, disabled and show what
// they run.
func (c *Client) Pool(ctx context.Context, p Place) (int, error) {
	id, err := c.poolID(ctx, p)
	return id, c.unseen(ctx, err, p)
}

// poolID is Pool with the server's own word for why not.
func (c *Client) poolID(ctx context.Context, p Place) (int, error) {
	if p.PoolID != 0 {
		return p.PoolID, nil
	}
	if id := c.pools[p.ID]; id != 0 {
		return id, nil
	}
	var pool named
	if err := c.members(ctx, http.MethodGet, p, "/pool", nil, nil, &pool); err != nil {
		return 0, err
	}
	if pool.ID == 0 {
		return 0, &refusal{Status: http.StatusNotFound, Message: "an answer without a pool"}
	}
	c.pools[p.ID] = pool.ID
	return pool.ID, nil
}

// inPool is the path of an agent in the pool behind its target; for ID 0, that of all of them.
func (c *Client) inPool(ctx context.Context, p Place, agent int) (string, error) {
	id, err := c.poolID(ctx, p)
	path := fmt.Sprintf("/_apis/distributedtask/pools/%d/agents", id)
	if agent != 0 {
		path += fmt.Sprintf("/%d", agent)
	}
	return path, err
}
