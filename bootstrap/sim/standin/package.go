// Package standin is a stand-in for the Azure Pipelines agent: laid out as the real package, taking
// the real options, refusing what the real one refuses, writing the same files, and holding a
// session with the server so that it shows online. It is written from the agent's public contract,
// with no code of the original; its one program is azp-sim itself under another name.
package standin

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
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
	"exit-9009":       "config.cmd ends with exit code 9009, as cmd.exe does for what it does not find",
	"exit-3221225477": "config.cmd ends with exit code 3221225477, as Windows ends a program that breaks access rules",
	"deaf":            "the agent's service on Windows does not end when it is to stop",
	"exit-134":        "config.sh ends with exit code 134, as .NET does when it aborts",
}

// WritePackage writes the package to file and returns its SHA-256: that of Windows for a name that ends
// in .zip, else that of Linux and macOS. program is the azp-sim binary of the system that it is for.
func WritePackage(file, program, behaviour string) (sum string, err error) {
	if _, known := Behaviours[behaviour]; behaviour != "" && !known {
		return "", fmt.Errorf("unknown behaviour %q", behaviour)
	}
	bin, err := os.Open(program) //nolint:gosec // this program
	if err != nil {
		return "", err
	}
	defer bin.Close() //nolint:errcheck // only read
	fi, err := bin.Stat()
	if err != nil {
		return "", err
	}
	out, err := os.Create(file) //nolint:gosec // the user names it
	if err != nil {
		return "", err
	}
	hash := sha256.New()
	write := writeTar
	if strings.HasSuffix(file, ".zip") {
		write = writeZip
	}
	err = write(io.MultiWriter(out, hash), func() (io.Reader, int64) { return io.NewSectionReader(bin, 0, fi.Size()), fi.Size() }, behaviour)
	if e := out.Close(); err == nil {
		err = e
	}
	return hex.EncodeToString(hash.Sum(nil)), err
}

// texts are the files of a package that are no programs; each goes to put.
func texts(behaviour string, script func(name string) bool, put func(name, content string, mode int64)) error {
	err := fs.WalkDir(layout, "layout", func(name string, d fs.DirEntry, e error) error {
		if e != nil || d.IsDir() || !script(name) {
			return e
		}
		data, e := layout.ReadFile(name)
		put(strings.TrimPrefix(name, "layout/"), string(data), 0o755)
		return e
	})
	put("license.html", "<html><body>The stand-in agent has no licence terms of its own.</body></html>\n", 0o644)
	if behaviour != "" {
		put("bin/behaviour", behaviour, 0o644)
	}
	return err
}

func isBatch(name string) bool { return strings.HasSuffix(name, ".cmd") }

// packed is when each file of a package was made.
var packed = time.Unix(1700000000, 0)

func writeTar(w io.Writer, program func() (io.Reader, int64), behaviour string) (err error) {
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	put := func(h *tar.Header, r io.Reader) {
		if err != nil {
			return
		}
		h.ModTime = packed
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
	if e := texts(behaviour, func(name string) bool { return !isBatch(name) }, text); err == nil {
		err = e
	}
	text("bin/AgentService.js", "// The stand-in's host process is in its node.\n", 0o644)
	text(
		"bin/vsts.agent.service.template",
		"[Unit]\nDescription={{Description}}\n\n[Service]\nExecStart={{AgentRoot}}/runsvc.sh\nUser={{User}}\nWorkingDirectory={{AgentRoot}}\nKillSignal=SIGTERM\n\n[Install]\nWantedBy=multi-user.target\n",
		0o644,
	)
	bin, size := program()
	put(&tar.Header{Typeflag: tar.TypeReg, Name: "./bin/Agent.Listener", Size: size, Mode: 0o755}, bin)
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
	for _, c := range []io.Closer{t, z} {
		if e := c.Close(); err == nil {
			err = e
		}
	}
	return err
}

// writeZip writes the package of Windows, which knows no links: each of its programs is a copy.
func writeZip(w io.Writer, program func() (io.Reader, int64), behaviour string) (err error) {
	z := zip.NewWriter(w)
	put := func(name string, r io.Reader) {
		if err != nil {
			return
		}
		f, e := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store, Modified: packed.UTC()})
		if e == nil {
			_, e = io.Copy(f, r)
		}
		err = e
	}
	e := texts(behaviour, isBatch, func(name, content string, _ int64) {
		if isBatch(name) {
			content = strings.ReplaceAll(content, "\n", "\r\n")
		}
		put(name, strings.NewReader(content))
	})
	for _, name := range []string{"Agent.Listener", "Agent.Worker", "AgentService"} {
		bin, _ := program()
		put("bin/"+name+".exe", bin)
	}
	return errors.Join(err, e, z.Close())
}

// Main runs the stand-in if this program was called by one of its names; handled is false
// otherwise.
func Main(args []string) (code int, handled bool) {
	name := args[0][strings.LastIndexAny(args[0], `/\`)+1:]
	switch strings.TrimSuffix(name, ".exe") {
	case "Agent.Listener":
		return listener(args[1:]), true
	case "Agent.Worker":
		return worker(), true
	case "node":
		return node(args[1:]), true
	case "AgentService":
		return agentService(), true
	}
	return 0, false
}
