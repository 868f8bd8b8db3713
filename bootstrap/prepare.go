package bootstrap

import (
	"context"
	"path/filepath"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/config"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/health"
	"azp-bootstrap/bootstrap/journal"
)

// A Preparation says which agent package is put in place, and how.
type Preparation struct {
	agent.Home
	Network      config.Network
	Package      string // a file at hand; "" = download
	SHA256       string // its sum; "" = as Lock says
	Lock         string // file that pins version and sum for each platform
	Source       string // where packages are downloaded from
	Dependencies bool   // install the native libraries that the agent needs
	Report       func(format string, args ...any)
	Progress     func(done, total int64)
}

// Prepare is image time: it puts a verified agent package in place, with its service user and its
// native libraries, so that boot downloads nothing. Asked again, it only verifies.
func Prepare(ctx context.Context, o Options, p Preparation) (agent.Manifest, error) {
	if err := p.Guarded(); err != nil {
		return agent.Manifest{}, err
	}
	pin := agent.Pin{SHA256: p.SHA256}
	var err error
	if pin.SHA256 == "" {
		if pin, err = agent.ReadLock(p.Lock, agent.Platform()); err != nil {
			return agent.Manifest{}, err
		}
	}
	file, source := p.Package, filepath.Base(p.Package)
	if m, there := p.InPlace(pin.SHA256); file == "" && there {
		file, source = m.File, m.Source // not read
	} else if file == "" {
		if file, err = download(ctx, o, p, pin); err != nil {
			return agent.Manifest{}, err
		}
		defer p.Discard(file)
		source = p.Source
	}
	m, err := p.Home.Prepare(file, pin.SHA256, p.Report)
	if err != nil {
		return m, err
	}
	m.Source, m.By = source, o.Version
	if p.Dependencies {
		if m.Dependencies, err = p.InstallDependencies(ctx, p.Report); err != nil {
			return m, err
		}
	}
	return m, p.Record(m)
}

// prepared is what image time recorded, for status; nil if nothing.
func prepared(h agent.Home) *journal.Package {
	m, err := h.Manifest()
	if err != nil {
		return nil
	}
	return &journal.Package{File: m.File, SHA256: m.SHA256, PreparedAt: m.PreparedAt}
}

// Status reads where this VM stands, and before its first boot what image time put in place.
func Status(o Options) (s journal.State, damaged, err error) {
	s, damaged, err = journal.Read(o.StateDir)
	if t, e := config.ForImage(o.ConfigFile, o.Set); s.Package == nil && e == nil {
		s.Package = prepared(agent.Home{Dir: t.Dir, User: t.User})
	}
	return s, damaged, err
}

// download fetches the pinned package, with the one retry loop.
func download(ctx context.Context, o Options, p Preparation, pin agent.Pin) (file string, err error) {
	n, err := azure.Network{Proxy: p.Network.Proxy, NoProxy: p.Network.NoProxy, CAFile: p.Network.CAFile}.FromEnvironment()
	if err != nil {
		return "", err
	}
	client, err := n.Downloader()
	if err != nil {
		return "", err
	}
	p.Report("downloading %s from %s", pin.File(), p.Source)
	b := &Boot{Options: o, journal: journal.Nowhere(), report: &health.Reporter{Log: o.Log, Live: health.NewLive()}}
	ctx, cancel := context.WithTimeoutCause(ctx, downloadLimit, errDeadline)
	defer cancel()
	err = b.retry(ctx, journal.Waiting, func() (err error) {
		file, err = p.Download(ctx, client, p.Source, pin, p.Progress)
		if f := fault.From(err); err != nil && f.Class == fault.Network {
			f.Hint("Without a way out, give the file: --package FILE. %s", f.Advice)
		}
		return err
	}, func(int) {})
	return file, err
}
