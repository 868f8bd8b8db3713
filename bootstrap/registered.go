package bootstrap

import (
	"context"
	"errors"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap/devops"
)

// found is the agent of the journal on its server.
type found struct {
	client *devops.Client
	place  devops.Place
	there  *devops.Agent
}

// registered looks for the agent of the journal where the journal says it is, which the configuration
// may no longer name. there is nil only if the server says that it is gone, or that it is another VM's by now; what is
// not found by name or not shown is an error. Asked again, it answers from memory.
func (b *Boot) registered(ctx context.Context) (c *devops.Client, p devops.Place, there *devops.Agent, err error) {
	if f := b.found; f != nil {
		return f.client, f.place, f.there, nil
	}
	known := b.state()
	if c, err = b.access.At(ctx, known.Target.URL); err != nil {
		return nil, p, nil, err
	}
	if p, err = b.placed(ctx, c); err != nil {
		return c, p, nil, err
	}
	there, err = c.ByID(ctx, p, known.Agent.ID)
	if err == nil {
		there, err = b.reclaim(ctx, c, p, there)
	}
	switch {
	case errors.Is(err, devops.ErrGone):
		there = nil
	case err != nil:
		return c, p, nil, err
	case b.whose(there) == anotherVM:
		b.Log.WithFields(logrus.Fields{"agent": there.Name, "id": there.ID, "instance": there.InstanceID}).
			Warn("another VM has taken this VM's agent over: it is left alone, and this VM leaves")
		there = nil
	case b.whose(there) == nobodyKnows:
		return c, p, nil, unclear(p, there)
	default:
		if err := b.stands(p); err != nil {
			return c, p, nil, err
		}
		if there.ResourceID == 0 {
			there.ResourceID = known.Agent.ResourceID
		}
	}
	b.found = &found{c, p, there}
	return c, p, there, nil
}
