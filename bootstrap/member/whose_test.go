package member_test

import (
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/devops"
	"azp-bootstrap/bootstrap/journal"
	"azp-bootstrap/bootstrap/member"
	"azp-bootstrap/bootstrap/member/membertest"
)

func TestWhose(t *testing.T) {
	for name, c := range map[string]struct {
		agent  devops.Agent
		intent *journal.Registering
		want   member.Owner
	}{
		"it shows this VM":                              {devops.Agent{ID: 7, Name: "web-1", InstanceID: membertest.ThisInstance, Registered: "2026-11-26T12:00:00.1Z"}, nil, member.ThisVM},
		"it shows this VM, by another registration":     {devops.Agent{ID: 7, Name: "web-1", InstanceID: membertest.ThisInstance, Registered: "2026-11-26T12:09:00Z"}, nil, member.NobodyKnows},
		"it shows this VM, by none":                     {devops.Agent{ID: 7, Name: "web-1", InstanceID: membertest.ThisInstance}, nil, member.NobodyKnows},
		"the same, while we were registering it anew":   {devops.Agent{ID: 7, Name: "web-1", InstanceID: membertest.ThisInstance}, &journal.Registering{Name: "web-1", Existing: 7}, member.ThisVM},
		"it shows this VM, and the journal has no such": {devops.Agent{ID: 8, Name: "web-1", InstanceID: membertest.ThisInstance, Registered: "2026-11-26T12:09:00Z"}, nil, member.ThisVM},
		"our registration, but another VM":              {devops.Agent{ID: 7, Name: "web-1", InstanceID: membertest.OtherInstance, Registered: "2026-11-26T12:00:00.1Z"}, nil, member.AnotherVM},
		"it shows another VM, with our ID and name":     {devops.Agent{ID: 7, Name: "web-1", InstanceID: membertest.OtherInstance}, nil, member.AnotherVM},
		"the same, while we were registering":           {devops.Agent{ID: 7, Name: "web-1", InstanceID: membertest.OtherInstance, Offline: true}, &journal.Registering{Name: "web-1"}, member.AnotherVM},
		"it shows no VM, with our ID and name":          {devops.Agent{ID: 7, Name: "web-1"}, nil, member.NobodyKnows},
		"it shows no VM, we were about to make it":      {devops.Agent{ID: 9, Name: "WEB-1", Offline: true}, &journal.Registering{Name: "web-1"}, member.ThisVM},
		"the same, but it is online":                    {devops.Agent{ID: 9, Name: "web-1", Online: true}, &journal.Registering{Name: "web-1"}, member.NobodyKnows},
		"the same, but its status is not shown":         {devops.Agent{ID: 9, Name: "web-1"}, &journal.Registering{Name: "web-1"}, member.NobodyKnows},
		"we were about to replace what stood there":     {devops.Agent{ID: 9, Name: "web-1", Offline: true}, &journal.Registering{Name: "web-1", Existing: 9}, member.NobodyKnows},
		"we were about to register under another name":  {devops.Agent{ID: 9, Name: "web-1", Offline: true}, &journal.Registering{Name: "web-2"}, member.NobodyKnows},
	} {
		m, _ := membertest.New(t)
		membertest.Wrote(t, m.Journal, func(s *journal.State) {
			s.Agent = journal.Agent{Name: "web-1", ID: 7, Registered: "2026-11-26T12:00:00.1Z"}
			s.Registering = c.intent
		})
		if m.Whose(&c.agent) != member.NobodyKnows {
			t.Errorf("%s: before IMDS has told who we are", name)
		}
		m.VM.Instance.VMID = strings.ToUpper(membertest.ThisInstance) // as some hosts give it
		if got := m.Whose(&c.agent); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
