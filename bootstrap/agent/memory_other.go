//go:build !linux

package agent

// OOMKills counts nothing here: no kernel but Linux's kills for want of memory.
func OOMKills(string) (kills int, ok bool) { return 0, false }
