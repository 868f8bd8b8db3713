//go:build linux

package bootstrap_test

import (
	"fmt"
	"os"
	"strings"
)

// writeStorm writes what was measured as a page with a plot.
func writeStorm(folder string, all []storm) error {
	var rows, asked strings.Builder
	most := 0
	for _, s := range all {
		if s.Client != "azp-bootstrap" {
			most = max(most, s.VMs)
		}
	}
	var curves []storm
	for _, s := range all {
		if s.VMs == most {
			curves = append(curves, s)
		}
		last, times := "never", "–"
		if s.Last >= 0 {
			last, times = fmt.Sprintf("%.1f s", s.Last), fmt.Sprintf("× %.2f", s.Last/s.Least)
		}
		fmt.Fprintf(
			&rows,
			"| %s | %d | %d | %d | %s | %s | %s | %.1f s | %s |\n",
			s.Client,
			s.VMs,
			s.Ready,
			s.Agents,
			seconds(s.Half),
			seconds(s.Most),
			last,
			s.Least,
			times,
		)
		fmt.Fprintf(
			&asked,
			"| %s | %d | %d | %+.0f %% | %d | %d | %d | %d | %d | %d |\n",
			s.Client,
			s.VMs,
			s.Requests,
			100*float64(s.Requests-s.Needed)/float64(s.Needed),
			s.Refused,
			s.Delayed,
			s.Peak,
			s.Each,
			s.Busiest,
			s.Told,
		)
	}
	if err := os.WriteFile(folder+"/storm.svg", []byte(plot(curves)), 0o644); err != nil { //nolint:gosec // a page
		return err
	}
	return os.WriteFile(
		folder+"/storm.md",
		[]byte(fmt.Sprintf(stormPage, most, rows.String(), asked.String())),
		0o644,
	) //nolint:gosec // a page
}

func seconds(s float64) string {
	if s < 0 {
		return "never"
	}
	return fmt.Sprintf("%.1f s", s)
}

// plot draws which share of the VMs is ready by when.
func plot(curves []storm) string {
	const left, top, width, height = 60, 30, 700, 320
	end := 60.0
	for _, c := range curves {
		end = max(end, c.Least)
		if n := len(c.Curve); n > 0 {
			end = max(end, c.Curve[n-1])
		}
	}
	x := func(s float64) float64 { return left + width*s/end }
	y := func(percent float64) float64 { return top + height - height*percent/100 }
	var b strings.Builder
	fmt.Fprintf(
		&b,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
		left+width+30,
		top+height+70,
	)
	for p := 0; p <= 100; p += 25 {
		fmt.Fprintf(
			&b,
			"<line x1=\"%d\" y1=\"%.0f\" x2=\"%d\" y2=\"%.0f\" stroke=\"#ddd\"/><text x=\"%d\" y=\"%.0f\" text-anchor=\"end\">%d %%</text>\n",
			left,
			y(float64(p)),
			left+width,
			y(float64(p)),
			left-6,
			y(float64(p))+4,
			p,
		)
	}
	for s := 0.0; s <= end; s += 300 {
		fmt.Fprintf(&b, "<text x=\"%.0f\" y=\"%d\" text-anchor=\"middle\">%.0f s</text>\n", x(s), top+height+18, s)
	}
	colours := []string{"#0b6", "#c33", "#36c", "#a60"}
	for i, c := range curves {
		var points []string
		for p, s := range c.Curve {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(s), y(float64(p+1))))
		}
		fmt.Fprintf(
			&b,
			"<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"%s\"/>\n",
			colours[i%len(colours)],
			strings.Join(points, " "),
		)
		fmt.Fprintf(
			&b,
			"<text x=\"%d\" y=\"%d\" fill=\"%s\">%s</text>\n",
			left+10+i*175,
			top+height+45,
			colours[i%len(colours)],
			c.Client,
		)
	}
	if len(curves) > 0 {
		fmt.Fprintf(
			&b,
			"<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#888\" stroke-dasharray=\"4\"/><text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" fill=\"#666\">the last, at best</text>\n",
			x(curves[0].Least),
			top,
			x(curves[0].Least),
			top+height,
			x(curves[0].Least),
			top-8,
		)
		fmt.Fprintf(
			&b,
			"<text x=\"%d\" y=\"16\">%d VMs: share that is ready, by seconds since the first began</text>\n",
			left,
			curves[0].VMs,
		)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

const stormPage = `<!-- Made by make storm from what it measured. Do not edit. -->
# Thousands of VMs at once

A scale set that grows by thousands boots them within the same second, against limits that they share. ` + "`make storm`" + ` runs
that in virtual time: the whole client with its TLS, its state and its waiting, once for each VM, against a
simulated Azure with latencies (IMDS 5 ms, a token 60 ms, the vault 35 ms, Azure DevOps 60 ms) and these limits:

| limit | value | from |
| --- | --- | --- |
| secrets read from one vault | 4,000 in 10 s | Azure Key Vault service limits |
| requests of one user (the PAT's) in Azure DevOps | 30,000 in 5 minutes | rate and usage limits: 200 TSTU in 5 minutes. What a request costs is not public: 1/150 TSTU is assumed |

What is over a limit is answered 429 with Retry-After: the rest of the window. Before that, from 80 %% of its limit on, Azure DevOps
delays its answers, by up to 30 seconds (public), more and more (assumed). config.sh takes 5 seconds and four requests of
its own, which count; the agent needs 3 more until it is connected. One VM in a hundred bears the name of another: it must say so
and leave that one's agent alone. The peers are the bootstrap that people write, with the same requests, each tried again
every 10 seconds, or by exponential backoff to 20 s without jitter, or with full jitter to 40 s; none of them reads Retry-After,
nor waits until its agent is connected.

![share of %[1]d VMs that is ready, by time](storm.svg)

## Time

| client | VMs | ready | agents | 50 %% | 99 %% | last | at best | last ÷ best |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
%[2]s
*Ready* is what the VMs believe; *agents* is on how many of them one stands: a script that gives --replace takes its twin's place,
and neither knows. *At best*: every window is full, and the last VM begins the last one that is needed. *Never*: at the
deadline of 30 minutes. The times are those of the VMs that have a name of their own.

## Requests

| client | VMs | requests | in vain | refused | delayed | most in a second | a VM makes | the busiest | refusals of one VM |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
%[3]s
*In vain*: requests beyond those that as many lone VMs would make. *A VM makes*: the one in the middle. How fair it is, the last two
columns say: what the busiest VM asks, and how often the unluckiest is refused.

## How

A VM waits at least as long as the server asks, and up to a tenth more, so that a crowd does not come back in
one instant; a lone VM waits for nobody. An answer that came late, with Retry-After, is heeded before config.sh is started. The
PAT and the vault's token are held through such waits. See [one retry loop](../decisions/one-retry-loop.md).
`
