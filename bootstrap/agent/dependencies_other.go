//go:build !linux

package agent

import "context"

// InstallDependencies does nothing: the packages for this system bring all they need.
func (h Home) InstallDependencies(context.Context, func(string, ...any)) (string, error) {
	return "", nil
}
