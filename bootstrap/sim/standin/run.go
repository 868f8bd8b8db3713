package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// Exit codes of the real listener's run.
const (
	terminated = 1
	retryable  = 2
)

func say(format string, args ...any) {
	fmt.Printf("%s: %s\n", time.Now().UTC().Format("2006-01-02 15:04:05Z"), fmt.Sprintf(format, args...))
}

func readSettings() (s settings, err error) {
	data, err := os.ReadFile(".agent")
	if err == nil {
		err = json.Unmarshal(bytes.TrimPrefix(data, []byte(mark)), &s)
	}
	return s, err
}

// runAgent holds a session with the server until it is told to end.
func runAgent() int {
	s, err := readSettings()
	if err != nil {
		fmt.Fprintln(os.Stderr, "Not configured. Run config.(sh/cmd) to configure the agent.")
		return terminated
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if fileText("bin/behaviour") == "never-online" {
		<-ctx.Done()
		return 0
	}
	c := connection{client: newClient()}
	base := s.ServerURL
	if s.CollectionName != "" {
		base += "/" + escape(s.CollectionName)
	}
	pool := fmt.Sprintf("%s/_apis/distributedtask/pools/%d", base, s.PoolID)
	lost := false
	for {
		err := c.listen(ctx, pool, s.AgentName, &lost)
		if ctx.Err() != nil {
			return 0
		}
		var a *answer
		if errors.As(err, &a) && (a.status == http.StatusBadRequest || a.status == http.StatusForbidden || a.status == http.StatusNotFound) {
			fmt.Fprintln(os.Stderr, "The agent no longer exists on the server. Please reconfigure the agent.")
			return terminated
		}
		if !lost {
			say("Agent connect error: %s. Retrying until reconnected.", strings.ReplaceAll(err.Error(), "\n", " "))
			lost = true
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return 0
		}
	}
}

func (c *connection) listen(ctx context.Context, pool, name string, lost *bool) error {
	var err error
	if c.auth, err = ownToken(c.client); err != nil {
		return err
	}
	var session struct{ SessionID string }
	if err := c.call(ctx, http.MethodPost, pool+"/sessions", "4.1", object{"ownerName": name, "agent": object{"name": name}}, &session); err != nil {
		var a *answer
		if errors.As(err, &a) && a.status == http.StatusConflict {
			fmt.Fprintln(os.Stderr, "A session for this agent already exists.")
		}
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = c.call(end, http.MethodDelete, pool+"/sessions/"+session.SessionID, "4.1", nil, nil)
	}()
	if *lost {
		say("Agent reconnected.")
		*lost = false
	}
	say("Listening for Jobs")
	running := make(chan struct{}, 1) // one job at a time
	for {
		var m struct{ MessageType, Body string }
		if err := c.call(ctx, http.MethodGet, pool+"/messages?sessionId="+session.SessionID, "4.1", nil, &m); err != nil {
			if ctx.Err() != nil {
				running <- struct{}{} // a job that is cancelled still reports
			}
			return err
		}
		if m.MessageType == "PipelineAgentJobRequest" {
			running <- struct{}{}
			go func() {
				defer func() { <-running }()
				c.work(ctx, pool, m.Body)
			}()
		}
	}
}

// work runs a job in a worker process of its own, as the real listener does; told to end, it cancels
// the job.
func (c *connection) work(ctx context.Context, pool, body string) {
	var job jobMessage
	if err := json.Unmarshal([]byte(body), &job); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	say("Running job: %s", job.JobDisplayName)
	worker := exec.CommandContext(ctx, "./bin/Agent.Worker", "spawnclient", "0", "1") // the real one gets two pipes
	worker.Stdin, worker.Stdout, worker.Stderr = strings.NewReader(body), os.Stdout, os.Stderr
	worker.Cancel = func() error { return worker.Process.Signal(os.Interrupt) }
	worker.WaitDelay = afterInterrupt + afterTerminate + 5*time.Second
	_ = worker.Run()
	result := "failed" // also of a worker that was killed
	switch worker.ProcessState.ExitCode() {
	case workerSucceeded:
		result = "succeeded"
	case workerCanceled:
		result = "canceled"
	}
	say("Job %s completed with result: %s", job.JobDisplayName, strings.ToUpper(result[:1])+result[1:])
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = c.call(end, http.MethodPatch, fmt.Sprintf("%s/jobrequests/%d", pool, job.RequestID), "4.1", object{"result": result}, nil)
}

// node stands for the node that runs AgentService.js: it keeps the listener alive.
func node(args []string) int {
	if len(args) > 0 && args[0] == "--version" {
		fmt.Println("v24.0.0")
		return 0
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	for {
		cmd := exec.Command("./bin/Agent.Listener", "run", "--startuptype", "service")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		ended := make(chan struct{})
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		select {
		case <-stop:
			_ = cmd.Process.Signal(os.Interrupt)
			<-ended
			return 0
		case <-ended:
		}
		if code := cmd.ProcessState.ExitCode(); code != retryable {
			fmt.Println("Agent listener exit with code", code)
			return code
		}
	}
}
