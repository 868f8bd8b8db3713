//go:build linux

package gate

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"azp-bootstrap/bootstrap/agent"
)

// Each hook of an event is run, in order, whatever becomes of another; what others could have written is not.
func TestHooks(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]os.FileMode
		spoil func(dir string) error
		exits map[string]int
		slow  string
		ran   []string
		wrong []string
	}{
		"all end well":         {files: map[string]os.FileMode{"10-a": 0, "20-b": 0}, ran: []string{"10-a", "20-b"}},
		"a file with a suffix": {files: map[string]os.FileMode{"10-a": 0, "20-b.sh": 0}, ran: []string{"10-a"}},
		"one fails": {
			files: map[string]os.FileMode{"10-a": 0, "20-b": 0}, exits: map[string]int{"10-a": 3},
			ran: []string{"10-a", "20-b"}, wrong: []string{"afterJob/10-a failed with exit code 3; its last words: I am 10-a"},
		},
		"one asks to be run again, which hooks are not": {
			files: map[string]os.FileMode{"10-a": 0}, exits: map[string]int{"10-a": tempFail},
			ran: []string{"10-a"}, wrong: []string{"exit code 75"},
		},
		"one is ended by a signal": {
			files: map[string]os.FileMode{"10-a": 0}, exits: map[string]int{"10-a": -1},
			ran: []string{"10-a"}, wrong: []string{"afterJob/10-a was ended by a signal"},
		},
		"one takes too long": {
			files: map[string]os.FileMode{"10-a": 0, "20-b": 0}, slow: "10-a", ran: []string{"10-a"},
			wrong: []string{"afterJob/10-a did not end in time and was ended", "afterJob/20-b was not run: the time was over"},
		},
		"others may write one": {
			files: map[string]os.FileMode{"10-a": 0, "20-b": 0o757}, wrong: []string{"others may write it", "hooks are run as root"},
		},
		"others may write the folder": {
			files: map[string]os.FileMode{"10-a": 0}, spoil: func(dir string) error { return os.Chmod(dir, 0o777) },
			wrong: []string{"others may write it"},
		},
		"a link": {
			files: map[string]os.FileMode{"10-a": 0},
			spoil: func(dir string) error { return os.Symlink("/bin/true", filepath.Join(dir, "20-b")) }, ran: []string{"10-a"},
		},
		"no folder": {},
	} {
		t.Run(name, func(t *testing.T) {
			top := filepath.Dir(folder(t, c.files))
			if err := os.Rename(filepath.Join(top, "start.d"), filepath.Join(top, AfterJob)); err != nil {
				t.Fatal(err)
			}
			if c.spoil != nil {
				if err := c.spoil(filepath.Join(top, AfterJob)); err != nil {
					t.Fatal(err)
				}
			}
			if got, want := Hooked(top, AfterJob), len(c.ran)+len(c.wrong) > 0; got != want {
				t.Errorf("there is something to run: %v", got)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var ran []string
			err := Hooks(ctx, top, AfterJob, []string{"A=b"}, time.Minute, Run{
				Program: func(_ context.Context, p agent.Program, said func(string)) (int, error) {
					if p.Kind != "hook-afterJob" || p.Argv[0] != filepath.Join(top, AfterJob, p.Name) || p.Most != time.Minute ||
						!slices.Equal(p.Env, []string{"A=b"}) {
						t.Errorf("%+v", p)
					}
					ran = append(ran, p.Name)
					said("I am " + p.Name)
					if c.slow == p.Name {
						cancel()
						return -1, nil
					}
					return c.exits[p.Name], nil
				},
				Says: func(string, string) {}, Warns: func(string, string) {},
			})
			if !slices.Equal(ran, c.ran) || (err != nil) != (len(c.wrong) > 0) {
				t.Errorf("ran %v: %v", ran, err)
			}
			for _, want := range c.wrong {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v\ndoes not say: %s", err, want)
				}
			}
		})
	}
}

func TestNoHooks(t *testing.T) {
	if Hooked("", AfterJob) {
		t.Error("there are hooks without a folder")
	}
}
