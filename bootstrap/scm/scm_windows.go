// Package scm is Windows' service control manager: services are looked at, stopped within a time and
// removed. What it asks for is no more than it needs: everybody may look.
package scm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// ErrNone says that there is no such service.
var ErrNone error = windows.ERROR_SERVICE_DOES_NOT_EXIST

// With does something with a service, opened for what access allows.
func With(name string, access uint32, do func(s *mgr.Service) error) error {
	m, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return err
	}
	defer windows.CloseServiceHandle(m) //nolint:errcheck // nothing pending
	n, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	h, err := windows.OpenService(m, n, access)
	if err != nil {
		return err
	}
	defer windows.CloseServiceHandle(h) //nolint:errcheck // nothing pending
	return do(&mgr.Service{Name: name, Handle: h})
}

// State is a service's state and the number of its process.
func State(name string) (state svc.State, pid uint32, err error) {
	err = With(name, windows.SERVICE_QUERY_STATUS, func(s *mgr.Service) error {
		now, err := s.Query()
		state, pid = now.State, now.ProcessId
		return err
	})
	return state, pid, err
}

// Program is the command line of a service. (mgr's Config asks for more than each system knows.)
func Program(name string) (line string, err error) {
	err = With(name, windows.SERVICE_QUERY_CONFIG, func(s *mgr.Service) error {
		for size := uint32(1024); ; {
			buf := make([]byte, size)
			c := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&buf[0]))
			err := windows.QueryServiceConfig(s.Handle, c, size, &size)
			if err == nil {
				line = windows.UTF16PtrToString(c.BinaryPathName)
			}
			if !errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER) || size <= uint32(len(buf)) {
				return err
			}
		}
	})
	return line, err
}

// Named are the services whose names begin so.
func Named(prefix string) (names []string, err error) {
	h, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT|windows.SC_MANAGER_ENUMERATE_SERVICE)
	if err != nil {
		return nil, err
	}
	defer windows.CloseServiceHandle(h) //nolint:errcheck // nothing pending
	all, err := (&mgr.Mgr{Handle: h}).ListServices()
	for _, name := range all {
		if strings.HasPrefix(strings.ToLower(name), strings.ToLower(prefix)) {
			names = append(names, name)
		}
	}
	return names, err
}

// Starting are the services whose names begin so and whose program is this one.
func Starting(prefix, program string) (names []string, err error) {
	all, err := Named(prefix)
	for _, name := range all {
		if line, err := Program(name); err == nil && strings.EqualFold(strings.Trim(line, `" `), program) {
			names = append(names, name)
		}
	}
	return names, err
}

// soon is how often a service that changes is looked at.
const soon = 50 * time.Millisecond

// Stop lets a service end by itself until shortly before ctx ends, or for as long as patience, and then
// ends its process and what that has started. There may be no such service.
func Stop(ctx context.Context, name string, patience, before time.Duration) error {
	if end, limited := ctx.Deadline(); limited {
		patience = max(0, min(patience, time.Until(end)-before))
	}
	err := With(name, windows.SERVICE_STOP, func(s *mgr.Service) error {
		_, err := s.Control(svc.Stop)
		return err
	})
	switch {
	case errors.Is(err, ErrNone), errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE):
		return nil
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return err
	}
	// It may take no orders while it starts or stops: what it comes to counts.
	if stopped(ctx, name, patience, never) == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, pid, err := State(name)
	if err != nil || pid == 0 {
		return stopped(ctx, name, before, never)
	}
	if err := Kill(pid); err != nil {
		return fmt.Errorf("its process %d cannot be ended: %w", pid, err)
	}
	return stopped(ctx, name, before, func() bool { return !lives(pid) })
}

func never() bool { return false }

// lives reports whether a process, which may have been ended a moment ago, still runs.
func lives(pid uint32) bool {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, pid)
	if err != nil {
		return !errors.Is(err, windows.ERROR_INVALID_PARAMETER) // there is none
	}
	defer windows.CloseHandle(h) //nolint:errcheck // only looked at
	event, err := windows.WaitForSingleObject(h, 0)
	return err != nil || event != windows.WAIT_OBJECT_0
}

var errRuns = errors.New("it does not end")

// stopped waits until a service has stopped, or is gone otherwise: its manager may take its time to see it.
func stopped(ctx context.Context, name string, patience time.Duration, gone func() bool) error {
	for end := time.Now().Add(patience); ; {
		state, _, err := State(name)
		if errors.Is(err, ErrNone) || err == nil && state == svc.Stopped || gone() {
			return nil
		}
		if time.Now().After(end) {
			return errors.Join(errRuns, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(soon):
		}
	}
}

// goes is how long a service that is removed may still be there for others that look at it: a new one of its
// name cannot be made before.
const goes = 10 * time.Second

// Delete removes a service that is stopped. One that is marked for deletion is as good as removed; it is
// waited for, as long as ctx lasts and not for long.
func Delete(ctx context.Context, name string) error {
	err := With(name, windows.DELETE, func(s *mgr.Service) error { return s.Delete() })
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_MARKED_FOR_DELETE) {
		return err
	}
	patience := goes
	if end, limited := ctx.Deadline(); limited { // who is short of time has more to do with it
		patience = min(goes, time.Until(end)/3)
	}
	for end := time.Now().Add(patience); time.Now().Before(end) && ctx.Err() == nil; {
		if _, _, err := State(name); errors.Is(err, ErrNone) {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(soon):
		}
	}
	return nil
}

// A Process is one of this machine's.
type Process struct {
	PID, Parent uint32
	Name        string // of its program's file
}

// Processes are all that run.
func Processes() (all []Process, err error) {
	h, err := windows.CreateToolhelp32Snapshot(windows.TH32CS_SNAPPROCESS, 0)
	if err != nil {
		return nil, err
	}
	defer windows.CloseHandle(h) //nolint:errcheck // only read
	p := windows.ProcessEntry32{Size: uint32(unsafe.Sizeof(windows.ProcessEntry32{}))}
	for err = windows.Process32First(h, &p); err == nil; err = windows.Process32Next(h, &p) {
		all = append(all, Process{p.ProcessID, p.ParentProcessID, windows.UTF16ToString(p.ExeFile[:])})
	}
	if errors.Is(err, windows.ERROR_NO_MORE_FILES) {
		err = nil
	}
	return all, err
}

// Image is the file of a process's program.
func Image(pid uint32) (string, error) {
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return "", err
	}
	defer windows.CloseHandle(h) //nolint:errcheck // only read
	buf := make([]uint16, 1<<15)
	n := uint32(len(buf))
	err = windows.QueryFullProcessImageName(h, 0, &buf[0], &n)
	return windows.UTF16ToString(buf[:n]), err
}

// begun is when a process began, to tell it from a later one of its number.
func begun(h windows.Handle) (int64, error) {
	var created, exited, kernel, user windows.Filetime
	err := windows.GetProcessTimes(h, &created, &exited, &kernel, &user)
	return created.Nanoseconds(), err
}

// Kill ends a process and those that it, or they, have started. Windows does not say that a parent's
// number was given away anew: a child is younger than its parent.
func Kill(pid uint32) error {
	all, _ := Processes() // without: the process alone
	err := end(pid, 0, all, 0)
	if errors.Is(err, windows.ERROR_INVALID_PARAMETER) { // it has ended
		return nil
	}
	return err
}

func end(pid uint32, parentBegun int64, all []Process, depth int) error {
	h, err := windows.OpenProcess(windows.PROCESS_TERMINATE|windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return err
	}
	defer windows.CloseHandle(h) //nolint:errcheck // nothing pending
	since, err := begun(h)
	if err == nil && since < parentBegun {
		return nil // another's
	}
	err = windows.TerminateProcess(h, 1)
	for _, p := range all {
		if p.Parent == pid && p.PID != pid && p.PID != 0 && depth < 64 {
			_ = end(p.PID, since, all, depth+1) // one that has ended meanwhile needs nobody
		}
	}
	return err
}
