package health

import (
	"io"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/agent"
)

// Metrics tell what is free for both folders; a file system that does not answer holds them up for a
// second, and is asked once.
func TestMetricsOfRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLive()
		s := Server{Live: l, Version: "test"}
		metrics := func() string {
			w := httptest.NewRecorder()
			s.handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			body, _ := io.ReadAll(w.Result().Body)
			return string(body)
		}
		if got := metrics(); strings.Contains(got, "disk_free") {
			t.Errorf("before anybody knows:\n%s", got)
		}
		l.AskForRoom(func() map[string]agent.Room {
			return map[string]agent.Room{"agent": {Free: 7, Inodes: 3, All: 9}, "work": {Free: 5}}
		})
		got := metrics()
		for _, line := range []string{
			`azp_bootstrap_disk_free_bytes{folder="agent"} 7`, `azp_bootstrap_disk_free_inodes{folder="agent"} 3`,
			`azp_bootstrap_disk_free_bytes{folder="work"} 5`,
		} {
			if !strings.Contains(got, line+"\n") {
				t.Errorf("no %s in\n%s", line, got)
			}
		}
		if strings.Contains(got, `inodes{folder="work"}`) {
			t.Error("inodes that nobody counts are shown")
		}
		var asked atomic.Int32
		answer := make(chan struct{})
		l.AskForRoom(func() map[string]agent.Room {
			asked.Add(1)
			<-answer
			return nil
		})
		begin := time.Now()
		for range 3 {
			if got := metrics(); strings.Contains(got, "disk_free") || !strings.Contains(got, "agent_up") {
				t.Errorf("a disk that does not answer:\n%s", got)
			}
		}
		if took := time.Since(begin); took > 2*time.Second || asked.Load() != 1 {
			t.Errorf("it took %s, and was asked %d times", took, asked.Load())
		}
		close(answer)
		synctest.Wait()
	})
}
