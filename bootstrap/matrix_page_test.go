//go:build linux

package bootstrap_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/evidence/fault-matrix.md anew")

const matrixPage = "../docs/evidence/fault-matrix.md"

// TestFaultMatrixPage keeps the page true: it is made from the expectations that TestNetworkFaults
// and TestLocalFaults hold the program to.
func TestFaultMatrixPage(t *testing.T) {
	page := renderMatrix()
	if *update {
		if err := os.WriteFile(matrixPage, []byte(page), 0o644); err != nil { //nolint:gosec // a page
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(matrixPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(is) != page {
		t.Errorf("%s is not what the tests expect: make fault-matrix", matrixPage)
	}
}

// said is a word of the expectations, for the page.
func said(word string) string {
	switch {
	case word == "=":
		return "joins"
	case word == "-":
		return ""
	case word[0] == '~':
		return "waits (" + word[1:] + ")"
	case strings.HasPrefix(word, "left("):
		return "left behind (**" + strings.TrimSuffix(strings.TrimPrefix(word, "left("), ")") + "**)"
	case strings.HasPrefix(word, "stays("):
		return "ready, says **" + strings.TrimSuffix(strings.TrimPrefix(word, "stays("), ")") + "**"
	case word[0] != '!':
		return word
	}
	return "**" + word[1:] + "**"
}

func renderMatrix() string {
	var b strings.Builder
	counts := map[byte]int{}
	table := func(head []string, rows [][]string) {
		fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat(" --- |", len(head)))
		for _, r := range rows {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(r, " | "))
		}
		b.WriteByte('\n')
	}
	cells := func(name, want string) []string {
		row := []string{name}
		for _, word := range strings.Fields(want) {
			counts[word[0]]++
			row = append(row, said(word))
		}
		return row
	}
	var requests, connections, proxy, local [][]string
	network := 0
	for _, n := range networkFaults() {
		row := cells(n.name, n.want)
		for _, word := range strings.Fields(n.want) {
			if word != "-" {
				network++
			}
		}
		switch {
		case n.setup != nil:
			proxy = append(proxy, row)
		case n.dial != nil:
			connections = append(connections, row)
		default:
			network++
			row = append(row, cells("", restOutcomes[n.name])[1:]...)
			requests = append(requests, row)
		}
	}
	for _, l := range localFaults() {
		local = append(local, cells(l.name, l.want))
	}
	b.WriteString(
		"### Requests\n\nOne column for each request of a boot, in their order: IMDS is asked for the instance and for a token; the vault\nfor the secret; Azure DevOps for the target (and whose the PAT is, if it refuses that), for an agent of this name, and\nwhether the agent is online. The last column is the daemon's own registration (`agent.registration: rest`): where that\njoins, config.sh has registered the VM in its place, or what the server made of it is found and taken over.\n\n",
	)
	table(slices.Concat([]string{"the answer"}, points, []string{"register, by rest"}), requests)
	b.WriteString("### Connections\n\n")
	table(append([]string{"the connection"}, hosts...), connections)
	b.WriteString("### The proxy\n\n")
	table([]string{"the proxy", "outcome"}, proxy)
	var dangerous [][]string
	for _, d := range dangers() {
		row := []string{d.name}
		for _, word := range strings.Fields(d.want) {
			row = append(row, said(word))
		}
		dangerous = append(dangerous, row)
	}
	b.WriteString(
		"### What happens to a VM that is ready\n\nA job of three minutes runs meanwhile: it is never cut. No agent of another VM is touched, and only who has left\nacknowledges an event: not one that concerns other VMs as well.\n\n",
	)
	table(append([]string{"meanwhile"}, moments...), dangerous)
	b.WriteString("### The VM itself\n\nWith Microsoft's agent stood in for by a program that goes wrong as told.\n\n")
	table([]string{"on the VM", "outcome"}, local)
	struck := renderLife(&b, table)
	return fmt.Sprintf(
		matrixHead,
		network,
		len(local),
		struck,
		counts['='],
		counts['~'],
		counts['!'],
	) + b.String() + matrixTail
}

// renderLife adds the later parts of a VM's life, and returns how many cells they have.
func renderLife(b *strings.Builder, table func(head []string, rows [][]string)) (struck int) {
	b.WriteString(lifeHead)
	names := []string{}
	for _, p := range parts() {
		names = append(names, p.name)
		by := map[string][]string{} // faults by what comes of them
		for _, n := range networkFaults() {
			want := lifeOutcomes[p.name].of(n.name)
			by[want] = append(by[want], n.name)
			struck += len(n.lifePlaces())
		}
		var rows [][]string
		for _, want := range slices.Sorted(maps.Keys(by)) {
			row := []string{strings.Join(by[want], "; ")}
			if want == lifeOutcomes[p.name].rest {
				row[0] = fmt.Sprintf("all others (%d)", len(by[want]))
			}
			words := strings.Fields(want)
			if len(words) == 1 {
				words = append([]string{"-", "-", "-", "-"}, words...)
			} else {
				words = append(words, "-")
			}
			for _, w := range words {
				row = append(row, saidOfLife(w))
			}
			rows = append(rows, row)
		}
		fmt.Fprintf(b, "**%s.** %s\n\n", strings.ToUpper(p.name[:1])+p.name[1:], p.what)
		table([]string{"the fault", "IMDS", "vault", "Azure DevOps", "Resource Manager", "proxy"}, rows)
	}
	b.WriteString("And the faults of the VM itself, at the same instants:\n\n")
	var own [][]string
	for _, a := range ownFaults() {
		row := []string{a.name}
		for _, w := range strings.Fields(a.want) {
			row = append(row, saidOfLife(w))
			struck++
		}
		own = append(own, row)
	}
	table(append([]string{"on the VM"}, names...), own)
	return struck
}

// saidOfLife is a word of part.meet, for the page.
func saidOfLife(word string) string {
	switch word[0] {
	case '-':
		return ""
	case '=':
		return "as ever"
	case '+':
		return "later"
	}
	return said(word)
}

const lifeHead = `### In the later parts of a VM's life

Each of the same faults, and of some of the VM's own, strikes at an instant of a VM's later life and stays; then it is called off. The VM stands in a pool
beside another one, and its agent takes jobs.

- **as ever**: the part ends as it would without the fault, and as soon; **later**: also, but later, while the fault lasts.
- **waits (class)**: the VM says why, with the next step, for as long as the fault lasts, and goes on by itself when it is over. A command asks for
  two minutes, and then ends with the class.
- **class**, in bold: the command is refused at once; given again when the fault is over, it does its work.
- Nothing: nobody is asked there.

In every cell these hold, looked at each second: no job is cut; the agent of the other VM is there and enabled; a VM of one job begins no
second one, though a second one waits; no VM goes before its agent; no secret is where none may be. ` + "`make fault-matrix`" + ` runs
all of them, the default tests each fourteenth fault.

`

const matrixHead = `<!-- Made by make fault-matrix from what the tests expect; a test keeps it so. Do not edit. -->
# The fault matrix

What becomes of a boot when one thing goes wrong, for %d pairs of a network fault and the place where it strikes, and %d
faults of the VM itself; and what becomes of the later parts of a VM's life, in %d cells more. It is made from the data
that the tests hold the program to (` + "`bootstrap/faults_test.go`, `local_test.go`, `life_faults_test.go`" + `): each cell is run, not
argued.

- **joins** (%d cells): the fault does not matter; the boot ends as it would without.
- **waits (class)** (%d cells): the fault may pass, so it is waited for and the boot goes on by itself: within ten
  seconds when it has struck twice (longer only where the fault itself takes longer, or the server asks for more time
  by Retry-After). If it stays, the boot ends at its deadline with the class.
- **class**, in bold (%d cells): waiting cannot help. The boot ends at once with the class, its exit code and the next
  step; see [troubleshooting](../troubleshooting.md). The daemon stays and tries again every few minutes.

A fault of the network is run twice, once passing after it has struck twice and once staying; then it is called
off and the VM boots again. After each run these hold, whatever the outcome:

- at most one agent of this VM is on the server;
- neither the PAT, nor it in base64, nor a token of the managed identity is in the log or in the state folder; the token was
  sent to no host but the vault, the PAT to none but Azure DevOps, also when the answer was a redirect;
- state.json can be read, and there is a next step in the error;
- with the fault gone, the next boot joins, with one agent.

`

const matrixTail = `### The service manager

In a machine that systemd boots (` + "`make systemd-test`" + `), systemd fails at one thing after another.

| systemd | outcome |
| --- | --- |
| its unit folder is read-only, the unit cannot be enabled, does not start, is masked, or systemd cannot be reached, at the registration | **service**; the next run joins |
| it refuses to stop the agent as the VM leaves | **service**; the next run leaves |

## Left to chance

` + "`make endurance`" + ` runs, from a seed that it prints:

- 1,000 boots (by command, and as a daemon) that are ended by SIGKILL or SIGTERM at a random instant, up to three times in a row, with
  the power going at times; then each boots undisturbed and must join, with one agent, and no temporary file left;
- 500 boots of one VM in sequence, with up to three faults at random, and disks, states and agents that are lost between
  them: each joins or is classified, and goroutines, open files, processes and temporary files do not pile up;
- 60 VMs that boot at once on one machine, with other faults each second; when the faults end, all are in.

The default tests run a few of each. ` + "`TestEveryInterleaving`" + ` explores a model besides: boots that are cut off at each of their
effects, restarts, clones of a disk, agents that somebody removes and terminations, in sequences at random, in virtual time.
`
