package config

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Retire says when a VM leaves by itself, and what becomes of it then; 0 = not for that.
type Retire struct {
	Jobs Count         `key:"jobs"` // after so many
	Idle time.Duration `key:"idle"` // without a job for so long
	Age  time.Duration `key:"age"`  // since it joined
	Keep Count         `key:"keep"` // agents that must stay online in the target
	Then string        `key:"then"`
}

// The words of retire.then.
const (
	ThenDelete   = "delete"
	ThenReimage  = "reimage"
	ThenPowerOff = "poweroff"
	ThenNone     = "none"
)

// Wanted reports whether the VM ever leaves by itself.
func (r Retire) Wanted() bool { return r.Jobs > 0 || r.Idle > 0 || r.Age > 0 }

// Outcome is what becomes of a VM that has left by itself, and that stays where none of the keys counts any more.
func (r Retire) Outcome() string {
	if !r.Wanted() {
		return ThenNone
	}
	return r.Then
}

// Once reports whether the agent runs one job and never a second one.
func (r Retire) Once() bool { return r.Jobs == 1 }

// A Count is a number of things.
type Count int

func (c Count) String() string { return strconv.Itoa(int(c)) }

// mostCounted bounds a count; nobody means more.
const mostCounted = 999_999

// countOf reads a count; ok is false if it is none.
func countOf(text string) (c Count, ok bool) {
	n, err := strconv.Atoi(text)
	return Count(n), err == nil && strings.Trim(text, "0123456789") == "" && n <= mostCounted
}

// What is shorter is a slip of the pen (30s for 30m), and would empty a scale set, or reimage it without end.
const leastIdle, leastAge = time.Minute, 10 * time.Minute

func (c *Config) checkRetire(f *findings) {
	r := c.Retire
	f.oneOf("retire.then", r.Then)
	if r.Keep > 0 && r.Jobs <= 1 && r.Idle == 0 && r.Age == 0 {
		f.bad("retire.keep", "keeps nothing: no key says that this VM leaves by more than one job, idle or old",
			"Set retire.jobs (more than 1), retire.idle or retire.age as well, or delete it.")
	}
	for key, least := range map[string]time.Duration{"retire.idle": leastIdle, "retire.age": leastAge} {
		if on := map[string]time.Duration{"retire.idle": r.Idle, "retire.age": r.Age}[key]; on > 0 && on < least && r.Then != ThenNone {
			f.bad(key, fmt.Sprintf("less than %s: each VM would go as soon as it has joined, and no job would run", least),
				"Write a longer one, such as 1h, or, to try it, retire.then: none.")
		}
	}
	if r.Wanted() && runtime.GOOS != "linux" {
		f.bad("retire", "is for Linux only", "Delete it, and let the scale set's own rules replace its VMs.")
	}
	if kind := c.Target.Kind(); kind != "" && kind != KindPool {
		for _, key := range []string{"retire.jobs", "retire.idle"} {
			if on := c.Values[key].Any; on != Count(0) && on != time.Duration(0) && on != nil {
				f.bad(key, "is for pools only: a deployment runs several jobs on each VM of it, hours apart if somebody must "+
					"approve them, and the VM would be gone between two of them",
					"Join a pool, or use retire.age, which counts for all targets.")
			}
		}
	}
}
