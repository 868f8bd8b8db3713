//go:build !linux

package health

import "time"

// Booted is when this system started; zero: nobody asks it here.
func Booted() time.Time { return time.Time{} }
