package bootstrap

import (
	"context"

	"github.com/coreos/go-systemd/v22/dbus"
)

// powerOff asks systemd to power this VM off, as systemctl poweroff does. systemd does it: the daemon's
// unit needs no right for that.
func powerOff(ctx context.Context) error {
	c, err := dbus.NewWithContext(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.StartUnitContext(ctx, "poweroff.target", "replace-irreversibly", nil)
	return err
}
