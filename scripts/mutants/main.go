// Command mutants changes the product in the small ways that mutants.yaml lists, one at a time, and
// runs for each the tests that must fail then. A mutant that lives is a wrong line that no test
// sees. It works in copies of the tree, never in the tree itself:
//
//	go run ./scripts/mutants [REGEXP of ids]
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	atOnce   = 2
	patience = 4 * time.Minute // for building and running one mutant's tests
	least    = 0.9             // of the mutants that compile, which must be killed
)

// A mutant is one wrong line.
type mutant struct {
	ID    string `yaml:"id"`
	What  string `yaml:"what"`  // the harm, in words
	File  string `yaml:"file"`  // a path in the repository
	Old   string `yaml:"old"`   // a text that stands exactly once there
	New   string `yaml:"new"`   // what stands in its place
	Tests string `yaml:"tests"` // arguments of go test
}

func main() {
	killed, all, err := run(strings.Join(os.Args[1:], "|"))
	fmt.Printf("%d of %d killed: %.0f %%\n", killed, all, 100*float64(killed)/float64(max(all, 1)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(only string) (killed, all int, err error) {
	mutants, err := read("scripts/mutants/mutants.yaml", only)
	if err != nil {
		return 0, 0, err
	}
	trees := make(chan string, atOnce) // those that nobody works in
	for range atOnce {
		tree, err := copied()
		if err != nil {
			return 0, 0, err
		}
		defer os.RemoveAll(tree) //nolint:errcheck // a temporary folder
		trees <- tree
	}
	if err := unchanged(mutants, trees); err != nil {
		return 0, 0, err
	}
	counts := map[string]int{}
	var mu sync.Mutex
	eachOf(mutants, trees, func(m mutant, tree string) {
		begin := time.Now()
		fate, e := try(m, tree)
		mu.Lock()
		defer mu.Unlock()
		counts[fate]++
		err = errors.Join(err, e)
		fmt.Printf("%-16s %-6s %4.0f s  %s: %s\n", fate, m.ID, time.Since(begin).Seconds(), m.File, m.What)
	})
	killed, all = counts["killed"], counts["killed"]+counts["LIVED"]
	if others := len(mutants) - all; err == nil && others > 0 {
		err = fmt.Errorf("%d say nothing: stale (their text does not stand exactly once in its file), or see above", others)
	}
	if err == nil && (float64(killed) < least*float64(all) || all == 0) {
		err = fmt.Errorf("fewer than %.0f %% were killed", 100*least)
	}
	return killed, all, err
}

func read(list, only string) (chosen []mutant, err error) {
	wanted, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(list) //nolint:gosec // our own
	if err != nil {
		return nil, fmt.Errorf("run it in the repository's folder: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	var mutants []mutant
	if err := d.Decode(&mutants); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, m := range mutants {
		if m.ID == "" || m.What == "" || m.Old == "" || m.Tests == "" || m.Old == m.New || seen[m.ID] {
			return nil, fmt.Errorf("the mutant %q is not whole, or its ID stands twice", m.ID)
		}
		seen[m.ID] = true
		if wanted.MatchString(m.ID) {
			chosen = append(chosen, m)
		}
	}
	return chosen, nil
}

// copied is a copy of the tree, with what is not committed yet.
func copied() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "azp-mutants-"); err != nil {
		return "", err
	}
	const copies = `chmod 755 "$0" && git ls-files -z -co --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C "$0"`
	if out, err := exec.Command("sh", "-c", copies, dir).
		CombinedOutput(); err != nil { //nolint:gosec // our own folder
		return "", fmt.Errorf("the tree cannot be copied: %w\n%s", err, out)
	}
	return dir, nil
}

// unchanged runs each of the tests without any mutant: what fails then says nothing about one.
func unchanged(mutants []mutant, trees chan string) error {
	var once []mutant
	for _, m := range mutants {
		if !slices.ContainsFunc(once, func(o mutant) bool { return o.Tests == m.Tests }) {
			once = append(once, m)
		}
	}
	fmt.Printf("%d mutants; their tests without any of them: %d commands\n", len(mutants), len(once))
	var mu sync.Mutex
	var failed error
	eachOf(once, trees, func(m mutant, tree string) {
		out, err := test(m, tree)
		if err == nil && strings.Contains(out, "[no test") {
			err = errors.New("it names no test")
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("go test %s fails without any mutant: %w\n%s", m.Tests, err, out))
		}
	})
	return failed
}

func eachOf(mutants []mutant, trees chan string, do func(m mutant, tree string)) {
	var wg sync.WaitGroup
	for _, m := range mutants {
		tree := <-trees
		wg.Go(func() {
			do(m, tree)
			trees <- tree
		})
	}
	wg.Wait()
}

// try puts a mutant into the tree, runs its tests, and takes it out again.
func try(m mutant, tree string) (fate string, err error) {
	file := filepath.Join(tree, m.File)
	text, err := os.ReadFile(file) //nolint:gosec // a copy
	if err != nil || strings.Count(string(text), m.Old) != 1 {
		return "stale", nil //nolint:nilerr // the file was moved
	}
	defer func() { err = errors.Join(err, os.WriteFile(file, text, 0o644)) }() //nolint:gosec // a copy
	wrong := strings.Replace(string(text), m.Old, m.New, 1)
	if err := os.WriteFile(file, []byte(wrong), 0o644); err != nil { //nolint:gosec // the same
		return "LIVED", err
	}
	out, err := test(m, tree)
	switch says := func(text string) bool { return strings.Contains(out, text) }; {
	case err == nil:
		return "LIVED", nil
	case says("[build failed]") || says("[setup failed]"):
		return "does not compile", nil
	case says("panic: test timed out") && !strings.Contains(m.Tests, "-timeout"): // where it is meant, the list says so
		return "timed out", nil
	case !says("--- FAIL") && !says("panic:"):
		return "no test failed", nil
	}
	return "killed", nil
}

// test runs a mutant's tests. The shell reads the quotes of its arguments, as a person's would.
func test(m mutant, tree string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	const command = "exec go test -count=1 -vet=off -failfast -timeout 3m "
	cmd := exec.CommandContext(ctx, "sh", "-c", command+m.Tests) //nolint:gosec // of our own list
	cmd.Dir, cmd.WaitDelay = tree, 10*time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}
