package standin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Exit codes of the real listener's run.
const (
	terminated = 1
	retryable  = 2
	updating   = 3
	updatingOf = 4 // of an agent that runs one job (RunOnceAgentUpdating, Constants.cs)
)

func say(format string, args ...any) {
	fmt.Printf("%s: %s\n", time.Now().UTC().Format("2006-01-02 15:04:05Z"), fmt.Sprintf(format, args...))
}

// runAgent holds a session with the server until it is told to end.
func runAgent(once bool) int {
	s, err := readSettings()
	if err == nil {
		err = checkCertificates()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(os.Stderr, "An error occurred: %v\n", err)
		return terminated
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "Not configured. Run config.(sh/cmd) to configure the agent.")
		return terminated
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, diagnosed := underService(ctx)
	defer diagnosed()
	behaviour := fileText("bin/behaviour")
	if behaviour == "never-online" || behaviour == "script-only" && !exists("svc.sh") { // which config.sh makes
		<-ctx.Done()
		return 0
	}
	c := connection{client: newClient()}
	base := strings.TrimRight(s.ServerURL, "/")
	if s.CollectionName != "" && !strings.HasSuffix(base, "/"+escape(s.CollectionName)) {
		base += "/" + escape(s.CollectionName)
	}
	l := &messageListener{connection: c, settings: s, running: make(chan struct{}, 1), once: once, ended: make(chan struct{}),
		pool: fmt.Sprintf("%s/_apis/distributedtask/pools/%d", base, s.PoolID)}
	if !l.createSession(ctx) {
		if ctx.Err() != nil {
			return 0
		}
		return terminated
	}
	say("Listening for Jobs")
	err = l.receive(ctx)
	l.running <- struct{}{} // a job that is cancelled still reports
	l.deleteSession()
	switch {
	case ctx.Err() != nil, errors.Is(err, errServed):
		return 0
	case errors.Is(err, errRefresh):
		say("Agent update in progress, do not shutdown agent.")
		return map[bool]int{false: updating, true: updatingOf}[once]
	}
	fmt.Fprintf(os.Stderr, "An error occurred: %v\n", err) // Program.cs
	return retryable
}

// A messageListener holds a session and takes messages as src/Agent.Listener/MessageListener.cs of
// the agent's repository does: what is tried again, what ends it, and in which words, is from
// there.
type messageListener struct {
	connection
	settings settings
	pool     string // address
	session  string
	sealed   sealedKey
	running  chan struct{} // one job at a time
	once     bool          // it runs one, and ends (Agent.cs, RunAsync)
	ended    chan struct{} // it has
}

var (
	errServed  = errors.New("the only job has ended")
	errRefresh = errors.New("the agent must update itself")
)

// Pauses between attempts: the real one's, of which the second is 15 to 30 seconds. A conflict is
// that of a session which a crash left open: the simulator's end after seconds in place of minutes,
// and so does this pause.
const (
	sessionCreationRetry = 30 * time.Second
	nextMessageRetry     = 15 * time.Second
	sessionConflictRetry = 500 * time.Millisecond
)

// typed is the type of exception that the client makes of an answer.
func typed(err error) string {
	var a *answer
	if !errors.As(err, &a) {
		return ""
	}
	if a.key == "" && (a.status == http.StatusUnauthorized || a.status == http.StatusNonAuthoritativeInfo) {
		return "VssUnauthorizedException"
	}
	return a.key
}

// connectError says once that something is tried again.
func connectError(err error, said *bool) {
	if !*said {
		fmt.Fprintf(os.Stderr, "%s: Agent connect error: %s. Retrying until reconnected.\n",
			time.Now().UTC().Format("2006-01-02 15:04:05Z"), strings.ReplaceAll(err.Error(), "\n", " "))
		*said = true
	}
}

// createSession is CreateSessionAsync: with a token of its own, as new credentials are loaded each
// time. That the token service refuses it (invalid_client: the agent's registration was deleted, or
// is another's by now) is tried again without end (IsSessionCreationExceptionRetriable knows a
// VssOAuthTokenRequestException for the clock only). false: it gave up.
func (l *messageListener) createSession(ctx context.Context) bool {
	fmt.Println("Scanning for tool capabilities.")
	fmt.Println("Connecting to the server.")
	me := object{
		"id":            l.settings.AgentID,
		"name":          l.settings.AgentName,
		"version":       Version,
		"osDescription": system + " (stand-in)",
	}
	body := object{"ownerName": hostname(), "agent": me, "systemCapabilities": capabilities(l.settings.AgentName)}
	for said := false; ; {
		var session struct {
			SessionID     string
			EncryptionKey sealedKey
		}
		var err error
		if l.auth, err = ownToken(l.client); err == nil {
			err = l.call(ctx, http.MethodPost, l.pool+"/sessions", "4.1", body, &session)
		}
		if ctx.Err() != nil {
			return false
		}
		wait := sessionCreationRetry
		switch {
		case err == nil:
			if said {
				say("Agent reconnected.")
			}
			l.session, l.sealed = session.SessionID, session.EncryptionKey
			return true
		case typed(err) == "TaskAgentNotFoundException":
			fmt.Fprintln(os.Stderr, "The agent no longer exists on the server. Please reconfigure the agent.")
			fallthrough
		case slices.Contains([]string{"TaskAgentPoolNotFoundException", "AccessDeniedException", "VssUnauthorizedException"}, typed(err)):
			fmt.Fprintln(os.Stderr, "Failed to create session.", err)
			return false
		case typed(err) == "TaskAgentSessionConflictException":
			fmt.Fprintln(os.Stderr, "A session for this agent already exists.")
			wait = sessionConflictRetry
		}
		connectError(err, &said)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
	}
}

func (l *messageListener) deleteSession() {
	end, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_ = l.call(end, http.MethodDelete, l.pool+"/sessions/"+l.session, "4.1", nil, nil)
}

// receive is GetNextMessageAsync, over and over, and begins the jobs that come. It ends with what
// is not tried again.
func (l *messageListener) receive(outer context.Context) error {
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	go func() { // the job is over: no further message is waited for
		select {
		case <-l.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	for said, received := false, false; ; {
		var m struct {
			MessageType, Body string
			IV                []byte
		}
		err := l.call(ctx, http.MethodGet, l.pool+"/messages?sessionId="+l.session, "4.1", nil, &m)
		select {
		case <-l.ended:
			return errServed
		default:
		}
		if ctx.Err() != nil {
			return err
		}
		if err == nil {
			if said {
				say("Agent reconnected.")
				said = false
			}
			if m.Body, err = l.sealed.open(m.IV, m.Body); err != nil {
				return err
			}
			switch {
			case m.MessageType == "AgentRefresh" && !received: // in a job, the real one updates after it
				var to struct{ TargetVersion string }
				if err = json.Unmarshal([]byte(m.Body), &to); err == nil {
					err = beginUpdate(to.TargetVersion)
				}
				if err != nil {
					return err
				}
				return errRefresh
			case m.MessageType == "PipelineAgentJobRequest" && !(l.once && received): // else it is left to others
				received = l.once
				l.running <- struct{}{}
				go func() {
					l.work(outer, l.pool, m.Body)
					<-l.running
					if l.once {
						close(l.ended)
					}
				}()
			}
			continue
		}
		switch typed(err) {
		case "TaskAgentSessionExpiredException":
			if l.createSession(ctx) {
				continue
			}
			return err
		case "TaskAgentNotFoundException",
			"TaskAgentPoolNotFoundException",
			"AccessDeniedException",
			"VssUnauthorizedException":
			return err
		}
		connectError(err, &said)
		select {
		case <-time.After(nextMessageRetry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func hostname() string {
	name, _ := os.Hostname()
	return name
}

// work runs a job in a worker process of its own, as the real listener does; told to end, it
// cancels the job.
func (c *connection) work(ctx context.Context, pool, body string) {
	var job jobMessage
	if err := json.Unmarshal([]byte(body), &job); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	say("Running job: %s", job.JobDisplayName)
	worker := exec.CommandContext(ctx, workerProgram, "spawnclient", "0", "1") // the real one gets two pipes
	worker.Stdin, worker.Stdout, worker.Stderr = strings.NewReader(body), os.Stdout, os.Stderr
	worker.Cancel = func() error { return worker.Process.Signal(os.Interrupt) }
	if endWorker := telling(worker, body); endWorker != nil {
		worker.Cancel = endWorker
	}
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
	_ = c.call(
		end,
		http.MethodPatch,
		fmt.Sprintf("%s/jobrequests/%d", pool, job.RequestID),
		"4.1",
		object{"result": result},
		nil,
	)
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
		if code := cmd.ProcessState.ExitCode(); code == 0 || code == terminated { // AgentService.js
			fmt.Println("Agent listener exit with code", code)
			return code
		}
	}
}
