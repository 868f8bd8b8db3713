//go:build unix

package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"azp-bootstrap/bootstrap"
)

// asService runs the daemon under the OS's service manager; here that needs no more than signals.
func (a *app) asService(ctx context.Context, o bootstrap.Options) error { return bootstrap.Run(ctx, o) }

// logAsService: what a service says on stderr is heard here.
func (a *app) logAsService(*logrus.Logger) error { return nil }

// refusedAsService: a service manager hears the exit code here.
func (a *app) refusedAsService(err error) error { return err }
