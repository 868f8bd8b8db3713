package health

import (
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/journal"
)

var updatePicture = flag.Bool("update", false, "draw docs/deploy/grafana.svg anew")

const deploy = "../../docs/deploy/"

// A dashboard is what Grafana makes of docs/deploy/grafana.json, as far as it is looked at here.
type dashboard struct {
	Panels []struct {
		ID      int
		Type    string
		Title   string
		GridPos struct{ X, Y, W, H int }
		Targets []struct {
			Expr         string
			LegendFormat string
			RefID        string `json:"refId"`
		}
		FieldConfig struct{ Defaults struct{ Unit string } }
	}
	Templating struct{ List []struct{ Name string } }
}

func readDashboard(t *testing.T) (d dashboard) {
	t.Helper()
	text, err := os.ReadFile(deploy + "grafana.json")
	if err == nil {
		err = json.Unmarshal(text, &d)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// served are the metrics of a daemon that has all of them, with their labels.
func served(t *testing.T) map[string][]string {
	t.Helper()
	l := NewLive()
	now := time.Now()
	l.Set(journal.State{
		Phase: journal.Ready, ReadyAt: &now, Secret: &journal.Secret{Expires: &now}, LastError: &journal.Failure{Code: "pat"},
		Phases: []journal.Phase{{Name: journal.Register, Seconds: 7}}, Retire: &journal.Retire{Due: now},
	})
	l.Retried(journal.Discover, "imds")
	l.AskForJobs(func(string) bool { return true })
	l.AskForRoom(func() map[string]agent.Room { return map[string]agent.Room{"work": {Free: 1, Inodes: 1, All: 2}} })
	l.OOMKills(1)
	registry := prometheus.NewRegistry()
	registry.MustRegister(&metrics{l, "test"})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]string{}
	for _, f := range families {
		labels := []string{}
		for _, m := range f.GetMetric() {
			for _, p := range m.GetLabel() {
				labels = append(labels, p.GetName())
			}
		}
		switch f.GetType().String() {
		case "SUMMARY", "HISTOGRAM":
			all[f.GetName()+"_sum"], all[f.GetName()+"_count"] = labels, labels
		default:
			all[f.GetName()] = labels
		}
	}
	return all
}

var (
	metricNames  = regexp.MustCompile(`\bazp_bootstrap_\w+`)
	withSelector = regexp.MustCompile(`\b(azp_bootstrap_\w+)\{([^}]*)\}`)
	selectors    = regexp.MustCompile(`(\w+)(=~?)"([^"]*)"`)
	groupings    = regexp.MustCompile(`\b(?:by|without|on|ignoring) \(([^)]*)\)`)
)

// What the dashboard and the alert rules ask for, the program serves: metrics, labels and the phases that they
// name. And each metric is on the page of operations.
func TestDashboardAndAlertsAskForWhatIsServed(t *testing.T) {
	have := served(t)
	ask := func(where, expr string) {
		for _, name := range metricNames.FindAllString(expr, -1) {
			if _, ok := have[name]; !ok {
				t.Errorf("%s asks for %s, which is not served", where, name)
			}
		}
		for _, m := range withSelector.FindAllStringSubmatch(expr, -1) {
			for _, s := range selectors.FindAllStringSubmatch(m[2], -1) {
				if s[1] == "job" || s[1] == "instance" { // Prometheus' own
					continue
				}
				if !slices.Contains(have[m[1]], s[1]) {
					t.Errorf("%s: %s has no label %s", where, m[1], s[1])
				}
				for value := range strings.SplitSeq(s[3], "|") {
					if s[1] == "phase" && !slices.Contains(phaseNames, value) {
						t.Errorf("%s: there is no phase %s", where, value)
					}
				}
			}
		}
		for _, m := range groupings.FindAllStringSubmatch(expr, -1) {
			for label := range strings.SplitSeq(m[1], ",") {
				label = strings.TrimSpace(label)
				of := metricNames.FindString(expr)
				if label != "job" && label != "instance" && !slices.Contains(have[of], label) && !strings.Contains(expr, label+`="`) {
					t.Errorf("%s: %s has no label %s", where, of, label)
				}
			}
		}
	}
	d := readDashboard(t)
	asked := ""
	for _, p := range d.Panels {
		if len(p.Targets) == 0 {
			t.Errorf("%s asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			ask("grafana.json, "+p.Title, target.Expr)
			asked += target.Expr + "\n"
		}
	}
	rules, err := os.ReadFile(deploy + "alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(rules), "\n") {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") && !strings.Contains(line, "description:") {
			ask("alerts.yaml", line)
		}
	}
	operations, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		short := strings.TrimPrefix(name, "azp_bootstrap_")
		if !regexp.MustCompile("(?m)^\\|.*`" + short + "[`{].*\\|").Match(operations) {
			t.Errorf("docs/operations.md does not have %s", short)
		}
		if !regexp.MustCompile(name + `\b`).MatchString(asked) {
			t.Errorf("no panel shows %s", name)
		}
	}
}

// Panels do not lie on each other, and have their own numbers.
func TestDashboardsPanelsHaveTheirPlaces(t *testing.T) {
	d := readDashboard(t)
	taken := map[[2]int]string{}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the number %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.X+g.W > 24 {
			t.Errorf("%s is wider than the page", p.Title)
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%s lies on %s", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// docs/deploy/grafana.svg is the dashboard drawn from the sample below: Grafana has no part in it.
func TestDashboardsPicture(t *testing.T) {
	drawn := picture(t, readDashboard(t))
	if *updatePicture {
		if err := os.WriteFile(deploy+"grafana.svg", []byte(drawn), 0o644); err != nil { //nolint:gosec // a picture for all
			t.Fatal(err)
		}
		return
	}
	if kept, err := os.ReadFile(deploy + "grafana.svg"); err != nil || string(kept) != drawn {
		t.Errorf("docs/deploy/grafana.svg is not what the dashboard shows (%v): go test ./bootstrap/health -run Picture -update", err)
	}
}

// A curve is a sample of six hours: what holds from a minute on.
type curve struct {
	name string
	from map[int]float64
}

func (l curve) at(minute int) (v float64) {
	for _, m := range slices.Sorted(maps.Keys(l.from)) {
		if m <= minute {
			v = l.from[m]
		}
	}
	return v
}

// sampled is a scale set of 12 VMs that grows to 20 after two hours, loses Azure DevOps for twenty minutes after
// three and a half, and shrinks after five. Two of its VMs fail; one of them is replaced.
var sampled = map[string][]curve{
	"VMs by phase": {
		{"ready", map[int]float64{0: 12, 123: 16, 126: 19, 300: 15, 312: 12}}, {"register", map[int]float64{120: 8, 123: 3, 126: 0}},
		{"draining", map[int]float64{300: 4, 306: 7, 312: 3, 330: 0}}, {"failed", map[int]float64{150: 1, 190: 0, 340: 1}},
	},
	"Agents": {
		{"running", map[int]float64{0: 12, 123: 16, 126: 19, 300: 19, 312: 15, 330: 12}},
		{"connected", map[int]float64{0: 12, 123: 16, 126: 19, 210: 2, 218: 0, 230: 14, 232: 19, 300: 19, 312: 15, 330: 12}},
		{"with a job", map[int]float64{0: 5, 40: 8, 90: 12, 123: 16, 160: 18, 210: 11, 222: 6, 235: 15, 290: 9, 330: 4}},
		{"disabled", map[int]float64{80: 1, 110: 0}}, {"paused", map[int]float64{250: 1, 275: 0}},
		{"draining", map[int]float64{300: 4, 306: 7, 312: 3, 330: 0}}, {"retiring", map[int]float64{40: 1, 55: 0}}, {"held", map[int]float64{0: 3, 120: 0, 135: 3}},
	},
	"The next VM leaves by its age in": {{"time", map[int]float64{0: 7200, 30: 3600, 50: 600, 56: 18000, 180: 10800, 300: 3600}}},
	"Registered by config.sh instead":  {{"VMs", map[int]float64{0: 0, 126: 1}}},
	"How long phases take: the middle VM": {
		{"register", map[int]float64{0: 21, 123: 24}}, {"online", map[int]float64{0: 6, 126: 8}}, {"credential", map[int]float64{0: 1.2}},
	},
	"How long phases take: the slowest VM": {
		{"register", map[int]float64{0: 33, 126: 71}}, {"online", map[int]float64{0: 11, 126: 30}}, {"credential", map[int]float64{0: 4, 126: 19}},
	},
	"Passing faults in 15 minutes": {
		{"vault", map[int]float64{121: 9, 136: 0}}, {"network", map[int]float64{210: 14, 220: 31, 235: 12, 247: 0}},
	},
	"Room for jobs: the fullest VM": {
		{"work", map[int]float64{0: 61e9, 60: 52e9, 120: 40e9, 180: 22e9, 240: 9e9, 262: 58e9, 330: 50e9}}, {"agent", map[int]float64{0: 19e9}},
	},
	"Free inodes: the fullest VM": {
		{"work", map[int]float64{0: 3.9e6, 120: 3.1e6, 240: 1.2e6, 262: 3.8e6}}, {"agent", map[int]float64{0: 1.8e6}},
	},
	"Processes killed for want of memory, in an hour": {{"killed", map[int]float64{170: 3, 230: 0}}},
	"Jobs that ended, in an hour":                     {{"jobs", map[int]float64{0: 31, 60: 44, 120: 71, 180: 82, 225: 40, 270: 77, 320: 35}}},
	"How long a job takes":                            {{"mean of an hour", map[int]float64{0: 410, 90: 450, 215: 690, 260: 440}}},
	"How far jobs get to the metadata service":        {{"closed", map[int]float64{0: 12, 126: 20, 312: 16, 330: 13}}, {"open", map[int]float64{0: 0}}, {"unknown", map[int]float64{120: 8, 126: 0}}},
	"Joined in the last hour":                         {{"VMs", map[int]float64{123: 4, 126: 7, 183: 3, 186: 0}}},
}

var sampledWords = map[string][]string{
	"VMs": {"13"}, "Ready": {"12"}, "With a job": {"4"}, "Joining": {"0"}, "Failed": {"1"}, "The secret ends in": {"23 days"},
	"VMs whose agent does not run": {"instance   class   attempts", "web_17   target   3"},
	"Versions":                     {"version   VMs", "1.4.0   11", "1.3.2   2"},
}

func picture(t *testing.T, d dashboard) string {
	const column, row, minutes = 50, 30, 360
	colours := []string{"#56a64b", "#3274d9", "#e0b400", "#e02f44", "#8f3bb8", "#ff780a", "#5c6b7a", "#b5a27f"}
	high := 0
	for _, p := range d.Panels {
		high = max(high, (p.GridPos.Y+p.GridPos.H)*row)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">
<title>The dashboard azp-bootstrap, drawn from sample data</title>
<rect width="100%%" height="100%%" fill="#f4f5f5"/>
`, 24*column, high)
	text := func(x, y int, colour, more, words string) {
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s"%s>%s</text>`+"\n", x, y, colour, more, html.EscapeString(words))
	}
	for _, p := range d.Panels {
		x, y, w, h := p.GridPos.X*column+4, p.GridPos.Y*row+4, p.GridPos.W*column-8, p.GridPos.H*row-8
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%d" height="%d" fill="#ffffff" stroke="#d8d9da" rx="2"/>`+"\n", x, y, w, h)
		text(x+8, y+18, "#24292e", ` font-weight="bold"`, p.Title)
		lines, words := sampled[p.Title], sampledWords[p.Title]
		switch {
		case p.Type == "stat" && len(words) == 1:
			text(x+w/2, y+h/2+22, colours[0], ` font-size="34" text-anchor="middle"`, words[0])
		case p.Type == "table" && len(words) > 0:
			for i, each := range words {
				for j, cell := range strings.Split(each, "   ") {
					text(x+12+j*w/3, y+48+i*22, []string{"#6e7781", "#24292e"}[min(i, 1)], "", cell)
				}
			}
		case p.Type == "timeseries" && len(lines) > 0:
			top := 0.0
			for _, l := range lines {
				for _, v := range l.from {
					top = max(top, v*1.1)
				}
			}
			left, base, wide, tall := x+52, y+h-46, w-64, h-82
			for i := range 3 {
				at := base - tall*i/2
				fmt.Fprintf(&b, `<path d="M%d %dh%d" stroke="#e5e7e9"/>`+"\n", left, at, wide)
				text(left-6, at+4, "#6e7781", ` text-anchor="end"`, value(top*float64(i)/2, p.FieldConfig.Defaults.Unit))
			}
			legend := left
			for i, l := range lines {
				fmt.Fprintf(&b, `<path fill="none" stroke="%s" stroke-width="1.5" d="`, colours[i%len(colours)])
				for m, before := 0, -1; m <= minutes; m += 3 {
					at := base - int(float64(tall)*l.at(m)/top)
					if at != before || m == minutes { // between its changes a line is straight
						if before >= 0 {
							fmt.Fprintf(&b, "H%d", left+wide*m/minutes)
						} else {
							fmt.Fprintf(&b, "M%d %d", left, at)
						}
						fmt.Fprintf(&b, "V%d", at)
					}
					before = at
				}
				b.WriteString("\"/>\n")
				fmt.Fprintf(&b, `<rect x="%d" y="%d" width="10" height="3" fill="%s"/>`+"\n", legend, base+32, colours[i%len(colours)])
				text(legend+14, base+37, "#24292e", "", l.name)
				legend += 24 + 6*len(l.name)
			}
			for hour := 0; hour <= 6; hour += 2 {
				text(left-16+(wide-20)*hour/6, base+16, "#6e7781", "", fmt.Sprintf("%02d:00", 8+hour))
			}
		default:
			t.Errorf("there is no sample for %s (%s)", p.Title, p.Type)
		}
	}
	return b.String() + "</svg>\n"
}

func value(v float64, unit string) string {
	switch {
	case unit == "bytes":
		return fmt.Sprintf("%.0f GiB", v/(1<<30))
	case unit == "s" && v >= 3600:
		return fmt.Sprintf("%.1f h", v/3600)
	case unit == "s":
		return fmt.Sprintf("%.0f s", v)
	case v >= 1e6:
		return fmt.Sprintf("%.1f M", v/1e6)
	case v > 0 && v < 2:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
