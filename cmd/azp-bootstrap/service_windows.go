package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/eventlog"
	"golang.org/x/sys/windows/svc/mgr"

	"azp-bootstrap/bootstrap"
	"azp-bootstrap/bootstrap/acl"
	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/secret"
)

// asService runs the daemon under Windows' service control manager, if it was started so: install says it
// on the service's command line, as a program cannot be sure of it by itself.
func (a *app) asService(ctx context.Context, o bootstrap.Options) error {
	if !a.underManager {
		return bootstrap.Run(ctx, o)
	}
	if err := onlyTheManagerEnds(); err != nil {
		o.Log.WithError(err).Warn("the end of a user's session may end the daemon")
	}
	return underManager(&daemon{run: func(ctx context.Context) error { return bootstrap.Run(ctx, o) }, log: o.Log})
}

func underManager(d *daemon) error {
	if err := svc.Run(serviceName, d); err != nil {
		return fault.New(fault.Service, "the service control manager does not know this process").Because(err).
			Hint("--service is for the command line of the service, which azp-bootstrap install makes. By hand: azp-bootstrap run.")
	}
	return d.err
}

// refusedAsService lets a service that cannot begin say why where its log cannot: in the event log, and by its exit code.
// One that ends before it has met the manager is started again by nobody.
func (a *app) refusedAsService(err error) error {
	if !a.underManager || fault.From(err).Class == fault.Usage {
		return err
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	log.AddHook(secret.Hook{Redactor: &a.redactor})
	log.AddHook(plainHook{})
	if events, e := eventlog.Open(serviceName); e == nil {
		log.AddHook(eventHook{events})
	}
	return underManager(&daemon{run: func(context.Context) error { return err }, log: log})
}

// onlyTheManagerEnds takes the console's words from Go, which ends a program when some user logs off.
func onlyTheManagerEnds() error {
	heard := windows.NewCallback(func(uint32) uintptr { return 1 }) // and so is not handed on
	ok, _, err := windows.NewLazySystemDLL("kernel32.dll").NewProc("SetConsoleCtrlHandler").Call(heard, 1)
	if ok == 0 {
		return err
	}
	return nil
}

// A daemon is the handler of its service.
type daemon struct {
	run func(context.Context) error
	log *logrus.Logger
	err error
}

// How long a daemon that was told to end may take, once and for all: it leaves off what it does and
// writes down where it stands. And how often it is said that it goes on.
const (
	endsWithin = 45 * time.Second
	stillEnds  = 2 * time.Second
)

// Execute runs until the daemon ends or the manager wants it to. The service ends with the daemon, and with
// its exit code: of one that has failed, recovery is the manager's.
func (d *daemon) Execute(_ []string, asked <-chan svc.ChangeRequest, state chan<- svc.Status) (own bool, code uint32) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	ended := make(chan error, 1)
	go func() { ended <- d.run(ctx) }()
	now := svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown}
	state <- now
	var late, still <-chan time.Time
	for {
		select {
		case d.err = <-ended:
			code := exitOf(d.err, ctx.Err() != nil)
			if code != 0 { // nobody sees what is said on a console
				why := cmp.Or(fault.From(d.err), fault.New(fault.Internal, "it was not told to"))
				d.log.WithFields(logrus.Fields{"class": why.Class.Code, "hint": why.Advice}).WithError(why).Error("the daemon ends")
			}
			return true, code
		case c := <-asked:
			why, ends := error(context.Canceled), time.After(endsWithin)
			switch c.Cmd {
			case svc.Interrogate:
				state <- now
				continue
			case svc.Shutdown, svc.PreShutdown:
				why, ends = bootstrap.ErrShutdown, nil // a job may be waited for: as long as the system lets it
			case svc.Stop:
			default:
				continue
			}
			cancel(why)
			if late == nil {
				late = ends
			}
			if still == nil {
				tick := time.NewTicker(stillEnds)
				defer tick.Stop()
				still = tick.C
			}
			now = svc.Status{State: svc.StopPending, WaitHint: uint32((3 * stillEnds).Milliseconds()), CheckPoint: 1}
			state <- now
		case <-still:
			now.CheckPoint++
			state <- now
		case <-late:
			d.log.Error("the daemon did not end in time: it is ended")
			return true, uint32(fault.Internal.Exit)
		}
	}
}

// exitOf is the code that the service ends with: 0 only for one that was told to end. Recovery takes any
// other for a failure.
func exitOf(err error, told bool) uint32 {
	switch f := (*fault.Error)(nil); {
	case told && (err == nil || errors.Is(err, context.Canceled) || errors.Is(err, bootstrap.ErrShutdown)):
		return 0
	case errors.As(err, &f):
		return uint32(f.Class.Exit)
	}
	return uint32(fault.Internal.Exit)
}

// logAsService lets a service's log go where people look on Windows: into the event log, and a file in the
// state folder. A service has no console.
func (a *app) logAsService(log *logrus.Logger) error {
	if !a.underManager {
		return nil
	}
	file, err := openRotating(filepath.Join(a.stateDir, logName), acl.Private)
	if err != nil {
		return fault.New(fault.State, "the log %s", filepath.Join(a.stateDir, logName)).Because(err).
			Hint("Check free space and rights of %s.", a.stateDir)
	}
	log.SetOutput(file)
	events, err := eventlog.Open(serviceName)
	if err != nil {
		log.WithError(err).Warn("the event log cannot be written: azp-bootstrap install registers its source")
		return nil
	}
	log.AddHook(eventHook{events})
	return nil
}

// An eventHook writes each entry to the event log, behind the redactor.
type eventHook struct{ log eventLog }

type eventLog interface {
	Error(id uint32, text string) error
	Warning(id uint32, text string) error
	Info(id uint32, text string) error
}

func (eventHook) Levels() []logrus.Level { return logrus.AllLevels[:logrus.InfoLevel+1] }

// The number of each event of the daemon's: its level tells them apart (EventCreate's messages go from 1 to 1000).
const eventID = 1

// longestEvent is the most that an event's text may have, in characters (ReportEventW: 31,839).
const longestEvent = 31000

func (h eventHook) Fire(e *logrus.Entry) error {
	text := plainEntry(e)
	if r := []rune(text); len(r) > longestEvent {
		text = string(r[:longestEvent])
	}
	var err error
	switch {
	case e.Level <= logrus.ErrorLevel:
		err = h.log.Error(eventID, text)
	case e.Level == logrus.WarnLevel:
		err = h.log.Warning(eventID, text)
	default:
		err = h.log.Info(eventID, text)
	}
	if err != nil { // logrus would say it on a console that is not there
		return nil //nolint:nilerr // the file has it
	}
	return nil
}

// setBeforeShutdown is how long Windows waits for the service before it shuts down: for a drain
// (drain.onShutdown), which ends by itself much sooner, or does not begin.
func setBeforeShutdown(s windows.Handle) error {
	wait := struct{ milliseconds uint32 }{uint32((20 * time.Minute).Milliseconds())}
	return windows.ChangeServiceConfig2(s, windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, (*byte)(unsafe.Pointer(&wait)))
}

func changeDescription(s *mgr.Service, about *windows.SERVICE_DESCRIPTION) error {
	return windows.ChangeServiceConfig2(s.Handle, windows.SERVICE_CONFIG_DESCRIPTION, (*byte)(unsafe.Pointer(about)))
}

func registerEvents() error {
	err := eventlog.InstallAsEventCreate(serviceName, eventlog.Error|eventlog.Warning|eventlog.Info)
	if err != nil && eventsRegistered() {
		return nil
	}
	return err
}

func eventsRegistered() bool {
	l, err := eventlog.Open(serviceName)
	if err == nil {
		_ = l.Close()
	}
	return err == nil
}
