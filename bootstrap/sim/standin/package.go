// Package standin is a stand-in for the Azure Pipelines agent: laid out as the real package, taking
// the real options, refusing what the real one refuses, writing the same files, and holding a
// session with the server so that it shows online. It is written from the agent's public contract,
// with no code of the original; its one program is azp-sim itself under another name.
package standin

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"
)

// Version is the agent version that the stand-in claims.
const Version = "4.248.0"

//go:embed layout
var layout embed.FS

// Behaviours are the ways in which a stand-in can be told to go wrong.
var Behaviours = map[string]string{
	"no-dependencies": "config.sh misses native libraries",
	"hang":            "config.sh registers nothing and never ends",
	"fail":            "config.sh ends with exit code 1 and a message",
	"flood":           "config.sh writes 200 MB, then goes on as usual",
	"half":            "config.sh dies after the server has registered the agent, before .agent is written",
	"print-token":     "config.sh prints the token it was given, whole and in pieces",
	"clock":           "config.sh complains about the clock after it has registered",
	"never-online":    "the listener runs but opens no session",
	"script-only":     "the listener opens a session only if config.sh registered it",
	"files-only":      "config.sh writes its files and ends well, but registers nothing on the server",
	"binary":          "config.sh writes bytes that are no text, then goes on as usual",
	"children":        "config.sh leaves a process behind that holds its output open",
	"killed":          "config.sh dies by a signal",
	"exit-2":          "config.sh ends with exit code 2, as the listener does for what may pass",
	"exit-3":          "config.sh ends with exit code 3, as the listener does for an update",
	"exit-4":          "config.sh ends with exit code 4, as the listener does for an update of itself",
	"exit-126":        "config.sh ends with exit code 126, as a shell does for what it may not run",
	"exit-127":        "config.sh ends with exit code 127, as a shell does for what it does not find",
	"exit-134":        "config.sh ends with exit code 134, as .NET does when it aborts",
}

// WritePackage writes the package to file and returns its SHA-256. program is the azp-sim binary.
func WritePackage(file, program, behaviour string) (sum string, err error) {
	if _, known := Behaviours[behaviour]; behaviour != "" && !known {
		return "", fmt.Errorf("unknown behaviour %q", behaviour)
	}
	out, err := os.Create(file) //nolint:gosec // the user names it
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(out, hash), gzip.BestSpeed)
	if err != nil {
		return "", err
	}
	t := tar.NewWriter(z)
	put := func(h *tar.Header, r io.Reader) {
		if err != nil {
			return
		}
		h.ModTime = time.Unix(1700000000, 0)
		if err = t.WriteHeader(h); err == nil && r != nil {
			_, err = io.Copy(t, r)
		}
	}
	text := func(name, content string, mode int64) {
		put(
			&tar.Header{Typeflag: tar.TypeReg, Name: "./" + name, Size: int64(len(content)), Mode: mode},
			strings.NewReader(content),
		)
	}
	for _, d := range []string{"./", "./bin/", "./externals/", "./externals/node24/", "./externals/node24/bin/"} {
		put(&tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755}, nil)
	}
	walk := fs.WalkDir(layout, "layout", func(name string, d fs.DirEntry, e error) error {
		if e != nil || d.IsDir() {
			return e
		}
		data, e := layout.ReadFile(name)
		text(strings.TrimPrefix(name, "layout/"), string(data), 0o755)
		return e
	})
	if err == nil {
		err = walk
	}
	text("license.html", "<html><body>The stand-in agent has no licence terms of its own.</body></html>\n", 0o644)
	text("bin/AgentService.js", "// The stand-in's host process is in its node.\n", 0o644)
	text(
		"bin/vsts.agent.service.template",
		"[Unit]\nDescription={{Description}}\n\n[Service]\nExecStart={{AgentRoot}}/runsvc.sh\nUser={{User}}\nWorkingDirectory={{AgentRoot}}\nKillSignal=SIGTERM\n\n[Install]\nWantedBy=multi-user.target\n",
		0o644,
	)
	if behaviour != "" {
		text("bin/behaviour", behaviour, 0o644)
	}
	bin, e := os.Open(program) //nolint:gosec // this program
	if err == nil {
		err = e
	}
	if err == nil {
		defer bin.Close() //nolint:errcheck // only read
		var fi fs.FileInfo
		if fi, err = bin.Stat(); err == nil {
			put(&tar.Header{Typeflag: tar.TypeReg, Name: "./bin/Agent.Listener", Size: fi.Size(), Mode: 0o755}, bin)
		}
	}
	put(
		&tar.Header{Typeflag: tar.TypeSymlink, Name: "./bin/Agent.Worker", Linkname: "Agent.Listener", Mode: 0o777},
		nil,
	)
	put(
		&tar.Header{
			Typeflag: tar.TypeSymlink,
			Name:     "./externals/node24/bin/node",
			Linkname: "../../../bin/Agent.Listener",
			Mode:     0o777,
		},
		nil,
	)
	for _, c := range []io.Closer{t, z, out} {
		if e := c.Close(); err == nil {
			err = e
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), err
}

// Main runs the stand-in if this program was called by one of its names; handled is false
// otherwise.
func Main(args []string) (code int, handled bool) {
	switch path.Base(args[0]) {
	case "Agent.Listener":
		return listener(args[1:]), true
	case "Agent.Worker":
		return worker(), true
	case "node":
		return node(args[1:]), true
	}
	return 0, false
}
