package main_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// daemon [FLAGS...]: azp-bootstrap run in the background, its output in daemon.log, its health on a
// port of its own.
func daemon(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	address := ln.Addr().String()
	_ = ln.Close()
	ts.Setenv("HEALTH", "http://"+address)
	log, err := os.OpenFile(filepath.Join(w.dir, "daemon.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	ts.Check(err)
	defer log.Close()
	cmd := exec.Command(
		filepath.Join(bin, "azp-bootstrap"),
		append([]string{"run", "--set", "health.listen=" + address}, args...)...)
	for _, k := range []string{"LOGS_DIRECTORY", "PATH", "HOME", "AZP_BOOTSTRAP_CONFIG", "AZP_BOOTSTRAP_STATE_DIR"} {
		cmd.Env = append(cmd.Env, k+"="+ts.Getenv(k))
	}
	cmd.Env = append(cmd.Env, systemVars()...)
	cmd.Stdout, cmd.Stderr = log, log
	ts.Check(cmd.Start())
	w.daemons = append(w.daemons, cmd)
	if len(buildFlags) > 0 { // the race detector looks on
		go ask(address, cmd)
	}
	await(ts, "health endpoint", func() bool {
		res, err := http.Get("http://" + address + "/healthz")
		if err == nil {
			_ = res.Body.Close()
		}
		return err == nil
	})
}

// ask asks a daemon for all that it shows, over and over, for as long as it lives.
func ask(address string, of *exec.Cmd) {
	c := http.Client{Timeout: 5 * time.Second}
	for runs(of.Process.Pid) {
		for _, path := range []string{"/status", "/metrics", "/healthz"} {
			if res, err := c.Get("http://" + address + path); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stop-daemon [SIGNAL]: the daemons end (SIGTERM) or hear HUP.
func stopDaemon(ts *testscript.TestScript, _ bool, args []string) {
	w := in(ts)
	for _, d := range w.daemons {
		if len(args) == 1 && args[0] == "HUP" {
			ts.Check(d.Process.Signal(syscall.SIGHUP))
			continue
		}
		ts.Check(d.Process.Signal(syscall.SIGTERM))
		if err := d.Wait(); err != nil {
			ts.Fatalf("the daemon ended with %v", err)
		}
	}
	if len(args) == 0 {
		w.daemons = nil
	}
}

// kill-daemon: the daemons die without a word.
func killDaemon(ts *testscript.TestScript, _ bool, _ []string) {
	w := in(ts)
	for _, d := range w.daemons {
		ts.Check(d.Process.Kill())
		_ = d.Wait()
	}
	w.daemons = nil
}

// health CODE VERDICT: /healthz comes to answer so.
func healthIs(ts *testscript.TestScript, _ bool, args []string) {
	last := ""
	await(ts, "health "+strings.Join(args, " "), func() bool {
		res, err := http.Get(ts.Getenv("HEALTH") + "/healthz")
		if err != nil {
			return false
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		last = string(body)
		return strconv.Itoa(res.StatusCode) == args[0] &&
			strings.Contains(last, `"ApplicationHealthState":"`+args[1]+`"`)
	})
	ts.Logf("%s", last)
}

// await-grep PATTERN COMMAND...: the command's output comes to match; or await-grep PATTERN file NAME.
func awaitGrep(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile(args[0])
	last := ""
	defer func() { ts.Logf("%s", last) }()
	await(ts, "output that matches "+args[0], func() bool {
		cmd := exec.Command(args[1], args[2:]...)
		if own := filepath.Join(
			bin,
			args[1],
		); filepath.Base(args[1]) == args[1] &&
			strings.HasPrefix(args[1], "azp-") {
			cmd = exec.Command(own, args[2:]...)
		}
		cmd.Dir = in(ts).dir
		cmd.Env = append(
			os.Environ(),
			"AZP_BOOTSTRAP_CONFIG="+ts.Getenv("AZP_BOOTSTRAP_CONFIG"),
			"AZP_BOOTSTRAP_STATE_DIR="+ts.Getenv("AZP_BOOTSTRAP_STATE_DIR"),
		)
		out, _ := cmd.Output()
		if args[1] == "file" {
			out, _ = os.ReadFile(ts.MkAbs(args[2]))
		}
		last = string(out)
		return pattern.MatchString(last)
	})
}

// await-metric TEXT: /metrics comes to hold this line.
func awaitMetric(ts *testscript.TestScript, _ bool, args []string) {
	await(ts, args[0], func() bool {
		return strings.Contains("\n"+ts.ReadFile(fetched(ts, "/metrics")), "\n"+args[0]+"\n")
	})
}

// get PATH: what the health endpoint answers, as stdout.
func get(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(ts.Exec("cat", fetched(ts, args[0])))
}

func fetched(ts *testscript.TestScript, path string) string {
	res, err := http.Get(ts.Getenv("HEALTH") + path)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	in(ts).clean(ts, path, string(body))
	name := filepath.Join(in(ts).dir, "answer")
	ts.Check(os.WriteFile(name, body, 0o644))
	return name
}
