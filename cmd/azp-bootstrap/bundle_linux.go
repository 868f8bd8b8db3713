package main

import (
	"context"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/journal"
)

// systemPieces are what systemd, the kernel and the file systems say.
func (a *app) systemPieces(ctx context.Context, s journal.State, add func(name, text string)) {
	units := []string{"azp-bootstrap.service", agent.MetadataUnit}
	if s.Agent.Service != "" {
		units = append(units, s.Agent.Service)
	}
	for _, unit := range units {
		add("journal-"+unit+".txt", output(ctx, "journalctl", "--no-pager", "-o", "short-iso-precise", "-n", "20000", "-u", unit))
		add("unit-"+unit+".txt", output(ctx, "systemctl", "--no-pager", "cat", unit)+"\n"+output(ctx, "systemctl", "--no-pager", "show", unit))
	}
	add("kernel.txt", output(ctx, "journalctl", "--no-pager", "-k", "-b", "-n", "500"))
	add("disk.txt", output(ctx, "df", "-h")+"\n"+output(ctx, "df", "-i"))
	add("clock.txt", output(ctx, "timedatectl"))
}
