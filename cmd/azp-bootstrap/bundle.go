package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/doctor"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
)

func (a *app) bundleCommand() *cobra.Command {
	var output string
	var quiet bool
	c := &cobra.Command{
		Use:   "bundle",
		Short: "Collect what a bug report needs into one file, redacted",
		Long: `bundle collects status, configuration, what doctor finds, the journal of the daemon and of the agent's
service, the units and the names, modes and owners of the files it works with into one .tar.gz. Tokens, and
passwords in URLs, are replaced by ***. Names (organization, target, vault, VM) stay: read it before you
give it to others. It changes nothing else on the VM.`,
		Example: `  azp-bootstrap bundle
  azp-bootstrap bundle --output - | ssh desk 'cat >bundle.tar.gz'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			now := time.Now().UTC()
			host, _ := os.Hostname()
			name := fmt.Sprintf("azp-bootstrap-%s-%s", host, now.Format("20060102T150405Z"))
			if output == "" {
				output = name + ".tar.gz"
			}
			pieces := a.pieces(cmd.Context(), !quiet)
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if output == "-" {
				return a.pack(cmd.OutOrStdout(), name, now, pieces)
			}
			f, err := os.OpenFile(output, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600) //nolint:gosec // the user names it
			if err == nil {
				err = errors.Join(a.pack(f, name, now, pieces), f.Close())
				if err != nil {
					_ = os.Remove(output)
				}
			}
			if err != nil {
				return fault.New(fault.Usage, "the bundle cannot be written").Because(err).
					Hint("Name another file: --output FILE, or - for standard output.")
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d files. Read it before you give it to others: names are in it.\n", output, len(pieces))
			return nil
		},
	}
	c.Flags().StringVarP(&output, "output", "o", "", "write to this `file`; - is standard output (default: one named after this machine and the time)")
	c.Flags().BoolVar(&quiet, "no-doctor", false, "ask nobody outside of this VM")
	return c
}

// A piece is one file of a bundle.
type piece struct{ name, text string }

// maxPiece bounds a piece: its end is kept, which is what went wrong last.
const maxPiece = 4 << 20

// pieces collects what there is; what cannot be had says why.
func (a *app) pieces(ctx context.Context, ask bool) []piece {
	var all []piece
	add := func(name, text string) { all = append(all, piece{name, text}) }
	add("about.txt", about())
	s, err := a.readState()
	if err != nil {
		add("status.txt", err.Error())
	} else {
		alive := health.Look(a.stateDir, s)
		var page, asJSON bytes.Buffer
		health.Render(&page, s, false, alive)
		add("status.txt", page.String())
		_ = show(&asJSON, s, alive, true)
		add("status.json", asJSON.String())
	}
	if raw, err := os.ReadFile(journal.File(a.stateDir)); err == nil {
		add("state.json", string(raw))
	}
	add("config-show.txt", a.configured())
	for _, file := range configFiles(a.config) {
		text, err := os.ReadFile(file) //nolint:gosec // root's own configuration
		if err != nil {
			text = []byte(err.Error())
		}
		add(filepath.Join("config", filepath.Base(file)), string(text))
	}
	if ask {
		add("doctor.txt", a.examined(ctx))
	}
	add("files.txt", a.files())
	a.systemPieces(ctx, s, add)
	return all
}

func about() string {
	host, _ := os.Hostname()
	release, _ := os.ReadFile("/etc/os-release")
	kernel, _ := os.ReadFile("/proc/version")
	up, _ := os.ReadFile("/proc/uptime")
	return fmt.Sprintf("azp-bootstrap %s (%s, %s/%s)\nhost %s\ntime %s\nuptime %s\nuser %d\n\n%s\n%s", version, runtime.Version(), runtime.GOOS,
		runtime.GOARCH, host, time.Now().UTC().Format(time.RFC3339), strings.TrimSpace(string(up)), os.Getuid(), kernel, release)
}

func (a *app) configured() string {
	cfg, err := a.load(a.config)
	if err != nil {
		return err.Error()
	}
	return cfg.Show()
}

// configFiles are the configuration's files, in the order in which they are read.
func configFiles(file string) []string {
	more, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "conf.d", "*.yaml"))
	sort.Strings(more)
	return append([]string{file}, more...)
}

func (a *app) examined(ctx context.Context) string {
	o, err := a.options()
	if err != nil {
		return err.Error()
	}
	o.Log.SetOutput(io.Discard)
	report, err := doctor.Examine(ctx, o.Means)
	if err != nil {
		return err.Error()
	}
	var out bytes.Buffer
	showChecks(&out, report, false)
	e := json.NewEncoder(&out)
	e.SetIndent("", "  ")
	_ = e.Encode(report)
	return out.String()
}

// files lists what azp-bootstrap works with: names, modes, owners and sizes, and no contents.
func (a *app) files() string {
	var out strings.Builder
	t, err := config.ForImage(a.config, a.set)
	if err != nil {
		fmt.Fprintln(&out, err)
	}
	for _, dir := range []string{a.stateDir, filepath.Dir(a.config), t.Dir, t.Dir + ".package"} {
		if dir == "" || dir == ".package" {
			continue
		}
		fmt.Fprintf(&out, "%s\n", dir)
		entries, err := os.ReadDir(dir)
		if err != nil {
			fmt.Fprintf(&out, "  %v\n", err)
		}
		for _, e := range entries {
			fi, err := e.Info()
			if err != nil {
				continue
			}
			fmt.Fprintf(&out, "  %s %10d %s %s%s\n", fi.Mode(), fi.Size(), fi.ModTime().UTC().Format(time.RFC3339), e.Name(), owner(fi))
		}
	}
	return out.String()
}

// output is what a program of the system says, within ten seconds.
func output(ctx context.Context, program string, args ...string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, program, args...) //nolint:gosec // programs of the system, by their names
	c.Env = append(os.Environ(), "LC_ALL=C", "SYSTEMD_COLORS=0")
	text, err := c.CombinedOutput()
	if err != nil {
		text = append(text, []byte(fmt.Sprintf("\n%s: %v\n", program, err))...)
	}
	return string(text)
}

// userinfo is a user name and password in a URL.
var userinfo = regexp.MustCompile(`(://)[^/@\s"']+@`)

// pack writes the pieces, without secrets.
func (a *app) pack(out io.Writer, folder string, at time.Time, pieces []piece) error {
	zipped := gzip.NewWriter(out)
	t := tar.NewWriter(zipped)
	for _, p := range pieces {
		text := p.text
		if len(text) > maxPiece {
			text = "…\n" + text[len(text)-maxPiece:]
		}
		text = userinfo.ReplaceAllString(a.redactor.Redact(text), "$1***@")
		h := &tar.Header{Name: folder + "/" + filepath.ToSlash(p.name), Mode: int64(fs.FileMode(0o600)), Size: int64(len(text)), ModTime: at}
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.WriteString(t, text); err != nil {
			return err
		}
	}
	return errors.Join(t.Close(), zipped.Close())
}
