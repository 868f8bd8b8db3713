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
	Pool     string    `json:"pool,omitempty"` // of a job that any of its agents may take
	Seconds  float64   `json:"seconds"`        // how long its work takes
	Run      string    `json:"run,omitempty"`  // the script of its step, before that
	Queued   time.Time `json:"queued"`
	Assigned time.Time `json:"assigned,omitzero"`
	Received time.Time `json:"received,omitzero"`
	Finished time.Time `json:"finished,omitzero"`
	Result   string    `json:"result,omitempty"`

	session string    // of the agent's, which runs it
	lost    time.Time // since when that is over
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
					j := s.newJob(Job{Name: jobName, Agent: a.name, Seconds: seconds, Run: run})
					a.given(j)
					return *j, ""
				}
			}
		}
	}
	return Job{}, refused
}

// message is the job's, once, when the agent asks for messages.
func (a *agent) message() object {
	if a.refresh != "" {
		body, _ := json.Marshal(object{"agentId": a.id, "targetVersion": a.refresh, "timeout": "00:05:00"})
		a.refresh = ""
		return object{"messageId": 1 << 20, "messageType": "AgentRefresh", "body": string(body)}
	}
	if a.job == nil || !a.job.Received.IsZero() {
		return nil
	}
	a.receives()
	body, _ := json.Marshal(object{"requestId": a.job.ID, "jobDisplayName": a.job.Name,
		"seconds": a.job.Seconds, "run": a.job.Run})
	iv, text, err := a.sealed(body)
	if err != nil {
		return nil
	}
	return object{"messageId": a.job.ID, "messageType": "PipelineAgentJobRequest", "iv": b64(iv), "body": b64(text)}
}

// receives notes that the agent has the job.
func (a *agent) receives() { a.job.Received, a.job.session = time.Now().UTC(), a.session }

// finish takes the result of a job: PATCH jobrequests/{requestId}, by the agent that ran it.
func (c *call) finish(id string) {
	var b struct{ Result string }
	if !c.read(&b) {
		return
	}
	c.sim.mu.Lock()
	defer c.sim.mu.Unlock()
	if a := c.agent; a != nil && a.job != nil && strconv.Itoa(a.job.ID) == id {
		a.ends(b.Result)
		c.sim.assign()
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
	return a.job.body()
}

// body is a job as TaskAgentJobRequest: times that have not come are left out.
func (j *Job) body() object {
	o := object{"requestId": j.ID, "queueTime": j.Queued, "assignTime": j.Assigned, "jobName": j.Name}
	if !j.Received.IsZero() {
		o["receiveTime"] = j.Received
	}
	if !j.Finished.IsZero() {
		o["finishTime"], o["result"] = j.Finished, j.Result
	}
	return o
}

func (s *Sim) newJob(j Job) *Job {
	j.ID, j.Queued = len(s.jobs)+1, time.Now().UTC()
	s.jobs = append(s.jobs, &j)
	return &j
}

func (a *agent) given(j *Job) {
	j.Assigned, j.Agent = time.Now().UTC(), a.name
	a.job = j
}

func (a *agent) ends(result string) {
	a.job.Result, a.job.Finished = result, time.Now().UTC()
	a.last, a.job = a.job, nil
}

// Queue queues a job that waits until an agent can take it: the one of this name, or any of a pool.
func (s *Sim) Queue(agentName, pool, jobName, run string, seconds float64) Job {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.newJob(Job{Name: jobName, Agent: agentName, Pool: pool, Seconds: seconds, Run: run})
	s.waiting = append(s.waiting, j)
	s.assign()
	return *j
}

// assign gives jobs that wait to agents that can take them. An agent has one at a time.
func (s *Sim) assign() {
	left := s.waiting[:0:0]
	for _, j := range s.waiting {
		if a := s.taker(j); a != nil {
			a.given(j)
		} else {
			left = append(left, j)
		}
	}
	s.waiting = left
}

func (s *Sim) taker(j *Job) *agent {
	for _, v := range s.servers {
		for _, p := range v.pools {
			for _, a := range p.agents {
				asked := j.Pool == "" && strings.EqualFold(a.name, j.Agent) || j.Pool != "" && strings.EqualFold(p.name, j.Pool)
				if asked && !a.disabled && a.online() && a.job == nil {
					return a
				}
			}
		}
	}
	return nil
}

// abandonedAfter is how long an agent that runs a job may be away before the server gives the job up.
// Azure DevOps takes minutes (the lock of a job request, which the agent renews).
const abandonedAfter = 10 * time.Second

// settleJob gives up the job of an agent that is away, or has begun anew. One that never reached it waits
// for another.
func (s *Sim) settleJob(a *agent) {
	switch {
	case a.job == nil:
	case a.job.Received.IsZero() && a.online():
	case a.job.Received.IsZero():
		a.job.Assigned, a.job.Agent = time.Time{}, map[bool]string{true: a.job.Agent}[a.job.Pool == ""]
		s.waiting = append([]*Job{a.job}, s.waiting...)
		a.job = nil
	case a.online() && a.session == a.job.session:
		a.job.lost = time.Time{}
	case a.job.lost.IsZero():
		a.job.lost = time.Now()
	case time.Since(a.job.lost) > abandonedAfter:
		a.ends("abandoned")
	}
}

// Receive is an agent in memory that asks for messages: the job that it has received, if there is one.
func (s *Sim) Receive(id int) (Job, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.agentsByID(id) {
		s.settleJob(a)
		s.assign()
		if a.online() && a.job != nil && a.job.Received.IsZero() {
			a.receives()
			return *a.job, true
		}
	}
	return Job{}, false
}

// Finish is an agent in memory that ends its job.
func (s *Sim) Finish(id int, result string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.agentsByID(id) {
		if a.job != nil && !a.job.Received.IsZero() {
			a.ends(result)
		}
	}
}

// Jobs are all that were queued.
func (s *Sim) Jobs() (all []Job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range s.jobs {
		all = append(all, *j)
	}
	return all
}

func (s *Sim) agentsByID(id int) (all []*agent) {
	for _, v := range s.servers {
		for _, p := range v.pools {
			for _, a := range p.agents {
				if a.id == id {
					all = append(all, a)
				}
			}
		}
	}
	return all
}
