//go:build unix

package main

import "context"

// asService runs the daemon under the OS's service manager; here that needs no more than signals.
func asService(ctx context.Context, run func(context.Context) error) error { return run(ctx) }
