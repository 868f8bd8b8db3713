package config

import (
	"net"
	"net/url"
	"strings"

	"azp-bootstrap/bootstrap/line"
)

// A Server is an Azure DevOps organization or collection, told apart from its URL.
type Server struct {
	Hosted     bool   // Azure DevOps Services
	Name       string // organization or collection
	Root       string // on premises: the server's root, which the agent wants for groups and environments
	Base       string // organization or collection URL, without a trailing slash; REST calls start here
	Collection string // on premises; "" on Services
}

// serverOf reads the three URL shapes: https://dev.azure.com/{organization} and
// https://{organization}.visualstudio.com for Services; https://{server}/{collection} and
// https://{server}:8080/tfs/{collection} on premises, where the collection may stand in its own
// key.
func serverOf(rawURL, collection string) (Server, string, string) {
	u, err := url.Parse(strings.TrimSpace(rawURL))
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return Server{}, "not the URL of an Azure DevOps organization or " +
			"collection", "Write for example https://dev.azure.com/contoso or https://tfs.corp:8080/tfs/DefaultCollection."
	}
	switch {
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return Server{}, "http:// would send the PAT over the network " +
			"unencrypted", "Write https://; on premises, give the server a certificate (network.caFile for your own authority)."
	case u.Scheme != "https" && u.Scheme != "http":
		return Server{}, "the scheme is " + u.Scheme + ", want https", "Write https://."
	case u.User != nil:
		return Server{}, "a user name or token is written in " +
			"the URL", "Remove the part before @: the PAT comes from Key Vault."
	case line.Wrong(u.Path, line.Longest) != "": // which %0A may hide
		return Server{}, "the URL " + line.Wrong(u.Path, line.Longest), "Write it in one line, as plain text."
	case u.RawQuery != "" || u.Fragment != "":
		return Server{}, "the URL has a query or fragment", "Keep the part up to the organization or collection only."
	}
	var parts []string
	for _, p := range strings.Split(u.Path, "/") {
		if p != "" {
			parts = append(parts, p)
		}
	}
	origin := u.Scheme + "://" + strings.ToLower(u.Host)
	host := strings.ToLower(u.Hostname())
	join := func(base string, parts ...string) string {
		for _, p := range parts {
			base += "/" + url.PathEscape(p)
		}
		return base
	}

	if host == "dev.azure.com" {
		switch len(parts) {
		case 0:
			return Server{}, "the URL names no organization", "Write https://dev.azure.com/ followed by your " +
				"organization."
		case 1:
			return Server{Hosted: true, Name: parts[0], Base: join(origin, parts[0])}, "", ""
		}
		return Server{}, "the URL goes on behind the organization", "Write " + join(
			origin,
			parts[0],
		) + " and name the project in target."
	}
	if org, ok := strings.CutSuffix(host, ".visualstudio.com"); ok {
		if len(parts) > 1 || len(parts) == 1 && !strings.EqualFold(parts[0], "DefaultCollection") {
			return Server{}, "the URL goes on behind the " +
				"organization", "Write " + origin + " and name the project in target."
		}
		return Server{Hosted: true, Name: org, Base: origin}, "", ""
	}

	root := origin
	if len(parts) > 0 && strings.EqualFold(parts[0], "tfs") { // TFS's virtual directory
		root = join(origin, parts[0])
		parts = parts[1:]
	}
	switch {
	case len(parts) > 1:
		return Server{}, "the URL goes on behind the collection " + parts[0], "Write " + join(
			root,
			parts[0],
		) + " and name the project in target."
	case len(parts) == 1 && collection != "" && !strings.EqualFold(parts[0], collection):
		return Server{}, "the URL names the collection " + parts[0] + ", the key collection names " + collection, "Delete one of the two."
	case len(parts) == 1:
		collection = parts[0]
	case collection == "":
		collection = "DefaultCollection"
	}
	return Server{Name: collection, Root: root, Base: join(root, collection), Collection: collection}, "", ""
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
