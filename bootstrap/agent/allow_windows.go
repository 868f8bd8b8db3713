package agent

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"

	"azp-bootstrap/bootstrap/scm"
)

// instanceValue, in the service's own key, which administrators alone may write, says which instance the agent
// waits for.
const instanceValue = "AzpBootstrapInstance"

const servicesKey = `SYSTEM\CurrentControlSet\Services\`

// onWord lets the agent's service start on the daemon's word alone: config.cmd has made one that starts at boot. A
// disk that was copied has none of its own, and so the original's agent, with its key, never starts on a copy.
func onWord(name, instance string) error {
	err := scm.With(name, windows.SERVICE_CHANGE_CONFIG, func(s *mgr.Service) error {
		return windows.ChangeServiceConfig(s.Handle, windows.SERVICE_NO_CHANGE, windows.SERVICE_DEMAND_START,
			windows.SERVICE_NO_CHANGE, nil, nil, nil, nil, nil, nil, nil)
	})
	if err != nil {
		return serviceFault(name, "cannot be kept from starting by itself", err)
	}
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, servicesKey+name, registry.SET_VALUE)
	if err == nil {
		err = errors.Join(k.SetStringValue(instanceValue, instance), k.Close())
	}
	if err != nil {
		return serviceFault(name, "cannot be given to this VM", err)
	}
	return nil
}

// A Sleeper is an agent's service that waits for the daemon's word. Which instance it waits for stands in the
// registry; neither the configuration nor the state is needed to know.
type Sleeper struct{ Unit, Instance string }

// Sleepers are the services that wait.
func Sleepers() (all []Sleeper) {
	begin, _, _ := strings.Cut(servicePattern, "{")
	names, _ := scm.Named(begin) // else an attempt starts it
	for _, name := range names {
		k, err := registry.OpenKey(registry.LOCAL_MACHINE, servicesKey+name, registry.QUERY_VALUE)
		if err != nil {
			continue
		}
		instance, _, err := k.GetStringValue(instanceValue)
		_ = k.Close()
		if state, _, e := scm.State(name); err == nil && instance != "" && e == nil && state == svc.Stopped {
			all = append(all, Sleeper{name, instance})
		}
	}
	return all
}

// Wake starts the service, as Windows would have done at boot.
func (s Sleeper) Wake(context.Context) error {
	err := scm.With(s.Unit, windows.SERVICE_START, func(s *mgr.Service) error { return s.Start() })
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
		return serviceFault(s.Unit, "does not start", err)
	}
	return nil
}

// Firmware is not asked here: IMDS says which VM this is.
func (s Sleeper) Firmware() bool { return false }
