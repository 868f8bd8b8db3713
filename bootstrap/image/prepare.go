// Package image is image time: it puts the agent's package in place, and seals what every clone of
// the image shall boot from.
package image

import (
	"context"
	"net/http"
	"path/filepath"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/retry"
)

// A Preparation says which agent package is put in place, and how.
type Preparation struct {
	agent.Home
	Network      config.Network
	Package      string   // a file at hand; "" = download
	SHA256       string   // its sum; "" = as Lock says
	Lock         string   // file that pins version and sum for each platform
	Source       string   // where packages are downloaded from
	Dependencies bool     // install the native libraries that the agent needs
	Trust        bool     // put the authorities of network.caFile into the machine's store (Windows)
	By           string   // the version of azp-bootstrap
	Groups       []string // of agent.groups: those that are missing are made
	Report       func(format string, args ...any)
	Progress     func(done, total int64)
}

// Prepare is image time: it puts a verified agent package in place, with its service user and its
// native libraries, so that boot downloads nothing. Asked again, it only verifies.
func Prepare(ctx context.Context, p Preparation) (agent.Manifest, error) {
	if err := p.Guarded(); err != nil {
		return agent.Manifest{}, err
	}
	if err := p.trust(); err != nil {
		return agent.Manifest{}, err
	}
	pin := agent.Pin{SHA256: p.SHA256}
	var err error
	if pin.SHA256 == "" {
		if pin, err = agent.ReadLock(p.Lock, agent.Platform()); err != nil {
			return agent.Manifest{}, err
		}
	}
	if err := contradicts(p.Package, pin); err != nil {
		return agent.Manifest{}, err
	}
	file, source := p.Package, filepath.Base(p.Package)
	if m, there := p.InPlace(pin.SHA256); file == "" && there {
		file, source = m.File, m.Source // not read
	} else if file == "" {
		if file, err = download(ctx, p, pin); err != nil {
			return agent.Manifest{}, err
		}
		defer p.Discard(file)
		source = p.Source
	}
	m, err := p.Home.Prepare(file, pin.SHA256, p.Report)
	if err != nil {
		return m, err
	}
	if err := agent.EnsureGroups(p.Groups, p.Report); err != nil {
		return m, err
	}
	m.Source, m.By = source, p.By
	if p.Dependencies {
		if m.Dependencies, err = p.InstallDependencies(ctx, p.Report); err != nil {
			return m, err
		}
	}
	if err := p.Lacking(); err != nil { // they may come later in the image's build
		p.Report("%s. %s", err, fault.From(err).Advice)
	}
	return m, p.Record(m)
}

// contradicts refuses a package at hand whose name says that it is another than the pinned one, also where its sum is
// the pinned one: then the lock file's line is wrong.
func contradicts(file string, pin agent.Pin) error {
	named, ok := agent.PinOf(filepath.Base(file))
	if !ok || pin.Platform == "" || named.Platform == pin.Platform && named.Version == pin.Version {
		return nil
	}
	f := fault.New(fault.Agent, "%s is named as the package of %s, version %s, and the lock file pins %s",
		filepath.Base(file), named.Platform, named.Version, pin.File())
	if named.Platform != pin.Platform {
		return f.Hint("Give that file.")
	}
	return f.Hint("Give that file, or correct the lock file: %s %s SHA256, with the sum of the agent's release page.",
		named.Platform, named.Version)
}

// Pin fetches this platform's package of a version, writes its sum into p.Lock, and puts it in place. Nobody
// has vouched for that sum: it is what the host sent today, and what every later build is held to.
func Pin(ctx context.Context, p Preparation, version string) (agent.Manifest, error) {
	if err := p.Guarded(); err != nil {
		return agent.Manifest{}, err
	}
	pin := agent.Pin{Platform: agent.Platform(), Version: version}
	file, err := get(ctx, p, pin, func(ctx context.Context, client *http.Client) (file string, err error) {
		file, pin.SHA256, err = p.Fetch(ctx, client, p.Source, pin, p.Progress)
		return file, err
	})
	if err != nil {
		return agent.Manifest{}, err
	}
	defer p.Discard(file)
	if err := agent.WriteLock(p.Lock, pin); err != nil {
		return agent.Manifest{}, err
	}
	p.Report("pinned in %s: %s %s %s", p.Lock, pin.Platform, pin.Version, pin.SHA256)
	p.Report("compare that sum with https://github.com/microsoft/azure-pipelines-agent/releases/tag/v%s, and commit the file", version)
	p.Package, p.SHA256 = file, pin.SHA256
	return Prepare(ctx, p)
}

// download fetches the pinned package.
func download(ctx context.Context, p Preparation, pin agent.Pin) (file string, err error) {
	return get(ctx, p, pin, func(ctx context.Context, client *http.Client) (string, error) {
		return p.Download(ctx, client, p.Source, pin, p.Progress)
	})
}

// get fetches a package, with the one retry loop.
func get(
	ctx context.Context, p Preparation, pin agent.Pin, fetch func(context.Context, *http.Client) (string, error),
) (file string, err error) {
	n, err := azure.Network{
		Proxy:   p.Network.Proxy,
		NoProxy: p.Network.NoProxy,
		CAFile:  p.Network.CAFile,
	}.FromEnvironment()
	if err != nil {
		return "", err
	}
	client, err := n.Downloader()
	if err != nil {
		return "", err
	}
	p.Report("downloading %s from %s", pin.File(), p.Source)
	end := time.Now().Add(downloadLimit)
	ctx, cancel := context.WithDeadlineCause(ctx, end, retry.ErrDeadline)
	defer cancel()
	err = retry.Do(ctx, func() (err error) {
		file, err = fetch(ctx, client)
		if f := fault.From(err); err != nil && f.Class == fault.Network {
			f.Hint("Without a way out, give the file: --package FILE. %s", f.Advice)
		}
		return err
	}, func(w retry.Wait) {
		p.Report("%s\n  Next: %s\n  tried again in %s; gives up at %s", w.Fault, w.Fault.Advice,
			w.Pause.Round(time.Second), end.Format(time.TimeOnly))
	})
	return file, err
}

// downloadLimit is how long an image build tries to get the agent's package; one try may take as
// long.
const downloadLimit = 10 * time.Minute
