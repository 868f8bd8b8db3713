package agent

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/unit"

	"azp-bootstrap/bootstrap/fault"
)

// wordFolder is emptied by each boot: what stands there, the daemon said in this one.
const wordFolder = "/run/azp-bootstrap"

// word is the file without which the agent's unit does not start: the daemon's word that this VM is
// the one that registered. A disk that was copied has none, and so the original's agent, with its
// key, never starts on a copy.
func word(instance string) string { return filepath.Join(wordFolder, "vm-"+instance) }

// allow gives that word, for this boot.
func allow(instance string) error {
	if instance == "" || instance != filepath.Base(instance) {
		return fault.New(fault.Internal, "the instance %q cannot be allowed an agent", instance)
	}
	err := os.MkdirAll(wordFolder, 0o755) //nolint:gosec // nothing in it is secret
	if err == nil {
		err = os.WriteFile(word(instance), nil, 0o644) //nolint:gosec // the same
	}
	if err != nil {
		return fault.New(fault.Service, "the agent's service may not start: %s", word(instance)).Because(err).
			Hint("Check that /run can be written; run as root.")
	}
	return nil
}

// A Sleeper is an agent's unit that waits for the daemon's word in this boot. Which instance it
// waits for stands in the unit, which is root's; neither the configuration nor the state is needed
// to know.
type Sleeper struct{ Unit, Instance string }

// Sleepers are the units that wait.
func Sleepers() (all []Sleeper) {
	entries, _ := os.ReadDir(unitFolder)
	for _, e := range entries {
		if !e.Type().IsRegular() || !agentService(e.Name()) {
			continue
		}
		text, err := readUnit(unitFile(e.Name()))
		if err != nil {
			continue
		}
		instance := instanceOf(text)
		if _, err := os.Lstat(word(instance)); instance != "" && err != nil {
			all = append(all, Sleeper{e.Name(), instance})
		}
	}
	return all
}

// instanceOf is the instance that a unit of ours waits for; "" if none.
func instanceOf(text []byte) string {
	options, err := unit.DeserializeOptions(bytes.NewReader(text))
	if err != nil {
		return ""
	}
	for _, o := range options {
		if instance, ours := strings.CutPrefix(o.Value, word("")); ours && o.Name == "ConditionPathExists" {
			return instance
		}
	}
	return ""
}

// Wake gives the daemon's word, and starts the unit as systemd would have done.
func (s Sleeper) Wake(ctx context.Context) error {
	if err := allow(s.Instance); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, systemdPatience)
	defer cancel()
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return serviceFault(s.Unit, "cannot be managed", err)
	}
	defer c.Close()
	if err := job(ctx, c.StartUnitContext, s.Unit); err != nil {
		return serviceFault(s.Unit, "does not start", err)
	}
	return nil
}

// firmware is where the kernel shows the machine's own number, to root.
const firmware = "/sys/class/dmi/id/product_uuid"

// Firmware reports whether the machine's firmware says that this VM is the instance: Azure's vmId
// is its SMBIOS UUID. VMs of the first generation show the first three groups in the other byte
// order (Azure/azure-init, vm_id handling).
func (s Sleeper) Firmware() bool {
	number, err := os.ReadFile(firmware)
	return err == nil && sameMachine(string(number), s.Instance)
}

func sameMachine(number, instance string) bool {
	number, instance = strings.ToLower(strings.TrimSpace(number)), strings.ToLower(instance)
	return number != "" && (number == instance || swapped(number) == instance)
}

// swapped is a UUID with the bytes of its first three groups in the other order; "" if it is none.
func swapped(number string) string {
	groups := strings.Split(number, "-")
	if len(groups) != 5 || len(number) != 36 {
		return ""
	}
	for i, g := range groups[:3] {
		var turned strings.Builder
		for at := len(g) - 2; at >= 0; at -= 2 {
			turned.WriteString(g[at : at+2])
		}
		groups[i] = turned.String()
	}
	return strings.Join(groups, "-")
}
