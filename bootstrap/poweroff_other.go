//go:build !linux

package bootstrap

import (
	"context"
	"errors"
)

func powerOff(context.Context) error { return errors.ErrUnsupported }
