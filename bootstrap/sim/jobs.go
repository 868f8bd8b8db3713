package sim

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Job is one that a server gave to an agent.
type Job struct {
	ID       int       `json:"id"`
	Name     string    `json:"name"`
	Agent    string    `json:"agent"`
	Seconds  float64   `json:"seconds"`       // how long its work takes
	Run      string    `json:"run,omitempty"` // the script of its step, before that
	Queued   time.Time `json:"queued"`
	Received time.Time `json:"received,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Result   string    `json:"result,omitempty"`
}

// queue gives a job to an agent of this name that can take one; why none can is said of the last.
// Another server, or pool, may have one of the same name.
func (s *Sim) queue(agentName, jobName, run string, seconds float64) (Job, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := "there is no agent " + agentName
	for _, v := range s.servers {
		for _, p := range v.pools {
			for _, a := range p.agents {
				switch {
				case !strings.EqualFold(a.name, agentName):
				case a.disabled:
					refused = "the agent " + a.name + " is disabled"
				case !a.online():
					refused = "the agent " + a.name + " is offline"
				case a.job != nil:
					refused = "the agent " + a.name + " runs a job"
				default:
					j := &Job{
						ID:      len(s.jobs) + 1,
						Name:    jobName,
						Agent:   a.name,
						Seconds: seconds,
						Run:     run,
						Queued:  time.Now().UTC(),
					}
					a.job = j
					s.jobs = append(s.jobs, j)
					return *j, ""
				}
			}
		}
	}
	return Job{}, refused
}

// message is the job's, once, when the agent asks for messages.
func (a *agent) message() object {
	if a.job == nil || !a.job.Received.IsZero() {
		return nil
	}
	a.job.Received = time.Now().UTC()
	body, _ := json.Marshal(object{"requestId": a.job.ID, "jobDisplayName": a.job.Name,
		"seconds": a.job.Seconds, "run": a.job.Run})
	iv, text, err := a.sealed(body)
	if err != nil {
		return nil
	}
	return object{"messageId": a.job.ID, "messageType": "PipelineAgentJobRequest", "iv": b64(iv), "body": b64(text)}
}

// finish takes the result of a job: PATCH jobrequests/{requestId}, by the agent that ran it.
func (c *call) finish(id string) {
	var b struct{ Result string }
	if !c.read(&b) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	if a := c.agent; a != nil && a.job != nil && strconv.Itoa(a.job.ID) == id {
		a.job.Result, a.job.Finished = b.Result, time.Now().UTC()
		a.job = nil
		reply(c.w, http.StatusOK, object{"requestId": id, "result": b.Result})
		return
	}
	c.refuse(http.StatusNotFound, "TaskAgentJobNotFoundException", "No such job request: "+id)
}

// assigned is the agent's assignedRequest.
func (a *agent) assigned() object {
	if a.job == nil {
		return nil
	}
	return object{"requestId": a.job.ID, "queueTime": a.job.Queued, "assignTime": a.job.Queued, "jobName": a.job.Name}
}
