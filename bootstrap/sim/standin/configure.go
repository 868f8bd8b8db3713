package standin

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// settings are .agent.
type settings struct {
	AcceptTeeEula           bool   `json:"acceptTeeEula,omitempty"`
	AgentID                 int    `json:"agentId"`
	AgentName               string `json:"agentName"`
	PoolID                  int    `json:"poolId"`
	PoolName                string `json:"poolName,omitempty"`
	ServerURL               string `json:"serverUrl"`
	WorkFolder              string `json:"workFolder"`
	ProjectID               string `json:"projectId,omitempty"`
	ProjectName             string `json:"projectName,omitempty"`
	CollectionName          string `json:"collectionName,omitempty"`
	DeploymentGroupID       int    `json:"deploymentGroupId,omitempty"`
	EnvironmentID           int    `json:"environmentId,omitempty"`
	EnvironmentName         string `json:"environmentName,omitempty"`
	EnvironmentVMResourceID int    `json:"environmentVMResourceId,omitempty"`
}

// listener is bin/Agent.Listener.
func listener(args []string) int {
	exe, err := os.Executable()
	if err == nil {
		err = os.Chdir(filepath.Dir(filepath.Dir(exe))) // the agent's root
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	o := parse(args)
	for _, line := range strings.Split(fileText(".env"), "\n") {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			_ = os.Setenv(k, v)
		}
	}
	if o.flags["version"] {
		fmt.Println(Version)
		return 0
	}
	switch o.command {
	case "configure":
		err = configure(o)
	case "remove":
		err = remove(o)
	case "run":
		return runAgent(o.flags["once"])
	case "warmup":
		return 0
	case "linger": // what a script of the behaviour "children" leaves behind
		<-time.After(300 * time.Second)
		return 0
	default:
		err = failure("Unrecognized command: " + o.command)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func section(name string) { fmt.Printf("\n>> %s:\n\n", name) }

func configure(o options) (err error) {
	defer func() {
		if f, ok := recover().(failure); ok {
			err = f
		}
	}()
	if exists(".agent") {
		return failure(
			"Cannot configure the agent because it is already configured. To reconfigure the agent, run " +
				"'config.cmd remove' or './config.sh remove' first.",
		)
	}
	if !o.flags["unattended"] {
		return failure("The stand-in is configured unattended only.")
	}
	if p := o.values["proxyurl"]; p != "" {
		if err := os.WriteFile(".proxy", []byte(p), 0o600); err != nil {
			return err
		}
		if u := o.values["proxyusername"]; u != "" {
			if err := storeProxy(u, o.values["proxypassword"]); err != nil {
				return err
			}
		}
	}
	if ca := o.values["sslcacert"]; ca != "" {
		if !exists(ca) {
			return failure("File not found: '" + ca + "'")
		}
		if root, err := os.Getwd(); err != nil {
			return err
		} else if err := writeJSON(".certificates", object{"skipServerCertValidation": false, "caCert": filepath.Join(root, ca)}); err != nil {
			return err
		}
	}
	section("End User License Agreements")
	section("Connect")
	behaviour := fileText("bin/behaviour")
	address, token := strings.TrimRight(o.need("url"), "/"), ""
	if auth := o.values["auth"]; !strings.EqualFold(auth, "PAT") {
		return failure("The stand-in knows --auth PAT only.")
	}
	token = o.need("token")
	if n, ok := strings.CutPrefix(behaviour, "exit-"); ok {
		code, err := strconv.Atoi(n)
		if err != nil {
			return err
		}
		os.Exit(code)
	}
	switch behaviour {
	case "hang":
		for { // an empty select would count as a deadlock
			<-time.After(time.Hour)
		}
	case "fail":
		return failure("An error occurred: the stand-in was told to fail")
	case "flood":
		line := strings.Repeat("flood ", 1000)
		for range 200 << 20 / len(line) {
			fmt.Println(line)
		}
	case "binary":
		noise := make([]byte, 1<<20)
		_, _ = rand.Read(noise)
		_, _ = os.Stdout.Write(append(noise, '\n'))
	case "children":
		child := shell(lingering)
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			return err
		}
	case "killed":
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Kill()
		select {}
	case "files-only":
		if err := writeJSON(".credentials", credentials{"OAuth", map[string]string{}}); err != nil {
			return err
		}
		return writeJSON(
			".agent",
			settings{AgentID: 4711, AgentName: o.values["agent"], ServerURL: address, WorkFolder: "_work"},
		)
	case "print-token":
		fmt.Println("token: " + token)
		fmt.Println("header: " + base64.StdEncoding.EncodeToString([]byte(":"+token)))
		for _, c := range token {
			fmt.Printf("%c", c)
			<-time.After(time.Millisecond)
		}
		fmt.Println()
	}
	c := connection{newClient(), "Basic " + base64.StdEncoding.EncodeToString([]byte(":"+token))}
	ctx := context.Background()
	hosted := false
	for {
		var data struct{ DeploymentType string }
		err := c.call(ctx, http.MethodGet, address+"/_apis/connectionData?connectOptions=1", "1.0-preview", nil, &data)
		if err == nil {
			hosted = strings.EqualFold(data.DeploymentType, "hosted")
			fmt.Println("Connecting to server ...")
			break
		}
		if !socketError(err) {
			return err
		}
		fmt.Fprintf(
			os.Stderr,
			"SocketException occurred.\n%v\nVerify whether you have (network) access to %s\nURLs the agent need "+
				"communicate with - https://aka.ms/azure-devops-agent-urls\n",
			errors.Unwrap(err),
			address,
		)
		<-time.After(50 * time.Millisecond)
	}
	t, err := newTarget(c, o, address, hosted)
	if err != nil {
		return err
	}
	key, err := loadKey(true)
	if err != nil {
		return err
	}
	section("Register Agent")
	if err := t.find(ctx); err != nil {
		return err
	}
	name := o.values["agent"]
	if name == "" {
		name, _ = os.Hostname()
	}
	me := object{
		"name":               name,
		"version":            Version,
		"osDescription":      system + " (stand-in)",
		"maxParallelism":     1,
		"systemCapabilities": capabilities(name),
		"authorization": object{
			"publicKey": object{"exponent": base64.StdEncoding.EncodeToString([]byte{1, 0, 1}), "modulus": base64.StdEncoding.EncodeToString(key.N.Bytes())},
		},
	}
	got, err := t.register(ctx, name, me, o.flags["replace"])
	if err != nil {
		return err
	}
	if behaviour == "half" {
		os.Exit(139)
	}
	if told := got.Properties.ServerURL.Value; told != "" { // "respect the serverUrl resolve by server"
		t.ServerURL = sameOrigin(told, t.ServerURL)
	}
	endpoint := got.Authorization.AuthorizationURL
	if !hosted {
		endpoint = sameOrigin(endpoint, t.ServerURL)
	}
	creds := credentials{
		"OAuth",
		map[string]string{
			"clientId":         got.Authorization.ClientID,
			"authorizationUrl": got.Authorization.AuthorizationURL,
			"oauthEndpointUrl": endpoint,
		},
	}
	if got.Authorization.ClientID == "" {
		creds = credentials{"PAT", map[string]string{"token": token}}
	}
	if err := writeJSON(".credentials", creds); err != nil {
		return err
	}
	fmt.Println("Testing agent connection.")
	if behaviour == "clock" {
		return failure(
			"The local machine's clock may be out of sync with the server time by more than five minutes. Please " +
				"sync your clock with your domain or internet time and try again.",
		)
	}
	if _, err := ownToken(c.client); err != nil {
		if strings.Contains(err.Error(), "Current server time is") {
			return failure(
				"The local machine's clock may be out of sync with the server time by more than five minutes. " +
					"Please sync your clock with your domain or internet time and try again.",
			)
		}
		return err
	}
	t.AgentID, t.AgentName, t.AcceptTeeEula, t.WorkFolder = got.ID, name, o.flags["acceptteeeula"], o.values["work"]
	if t.WorkFolder == "" {
		t.WorkFolder = "_work"
	}
	if err := writeJSON(".agent", t.settings); err != nil {
		return err
	}
	fmt.Printf("%s: Settings Saved.\n", time.Now().UTC().Format("2006-01-02 15:04:05Z"))
	return t.makeService(o)
}

func remove(o options) error {
	if exists(".service") {
		return failure(
			"Unconfigure service first according to " +
				"https://www.visualstudio.com/en-us/docs/build/admin/agents/v2-linux",
		)
	}
	if !exists(".agent") || !exists(".credentials") {
		fmt.Println(
			"Cannot connect to server, because config files are missing. Skipping removing agent from the server.",
		)
		return nil
	}
	return failure("The stand-in is removed over REST.")
}

// capabilities are the environment, as the real agent shows it, and a few of its own.
func capabilities(name string) map[string]string {
	caps := map[string]string{}
	ignore := "," + os.Getenv("VSO_AGENT_IGNORE") + ","
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		if len(v) < 1024 && !strings.Contains(ignore, ","+k+",") &&
			!strings.HasPrefix(strings.ToUpper(k), inputPrefix) {
			caps[k] = v
		}
	}
	user, _ := os.ReadFile(".capabilities") // UserCapabilitiesProvider.cs: over the environment's
	for line := range strings.Lines(string(user)) {
		if k, v, is := strings.Cut(strings.TrimRight(line, "\r\n"), "="); is && k != "" {
			caps[k] = v
		}
	}
	caps["Agent.Name"], caps["Agent.Version"], caps["Agent.OS"] = name, Version, system // over all
	return caps
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func writeJSON(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append([]byte(mark), data...), 0o600)
}

func escape(s string) string { return url.PathEscape(s) }
