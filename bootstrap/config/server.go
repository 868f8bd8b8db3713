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

// serverOf reads the URL shapes: https://dev.azure.com/{organization} and
// https://{organization}.visualstudio.com for Services; on premises https://{server}/{collection}
// and, below a virtual directory of any name (tfs by default),
// https://{server}/{directory}/{collection}. There the collection may stand in its own key.
func serverOf(rawURL, collection string) (s Server, problem, fix string) {
	u, err := url.Parse(strings.TrimSpace(rawURL))
	if err != nil || u.Host == "" || u.Hostname() == "" {
		return s, "not the URL of an Azure DevOps organization or collection",
			"Write for example https://dev.azure.com/contoso or https://tfs.corp:8080/tfs/DefaultCollection."
	}
	if problem, fix := unfit(u); problem != "" {
		return s, problem, fix
	}
	parts := strings.FieldsFunc(u.Path, func(r rune) bool { return r == '/' })
	origin := u.Scheme + "://" + strings.ToLower(u.Host)
	host := strings.ToLower(u.Hostname())
	if host == "dev.azure.com" || strings.HasSuffix(host, ".visualstudio.com") {
		return organization(origin, host, parts)
	}
	if strings.HasSuffix(host, ".dev.azure.com") {
		return s, "that is the address of one service of Azure DevOps (" + host + "), not of an organization",
			"Write https://dev.azure.com/ followed by your organization."
	}
	return onPremises(origin, parts, collection)
}

// unfit is why a URL, whatever its host, cannot be one.
func unfit(u *url.URL) (problem, fix string) {
	_, password := u.User.Password()
	switch {
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return "http:// would send the PAT over the network unencrypted",
			"Write https://; on premises, give the server a certificate (network.caFile for your own authority)."
	case u.Scheme != "https" && u.Scheme != "http":
		return "the scheme is " + u.Scheme + ", want https", "Write https://."
	case password || u.User != nil && len(u.User.Username()) > longestName:
		return "a token or password is written in the URL",
			"Remove the part before @, and revoke it: whoever reads this file has it. The PAT comes from Key Vault."
	case u.User != nil: // as the portal gives it for git
		return "a user name is written in the URL", "Remove the part before @."
	case line.Wrong(u.Path, line.Longest) != "": // which %0A may hide
		return "the URL " + line.Wrong(u.Path, line.Longest), "Write it in one line, as plain text."
	case u.RawQuery != "" || u.Fragment != "":
		return "the URL has a query or fragment", "Keep the part up to the organization or collection only."
	}
	return "", ""
}

// longestName is beyond what an organization's name can be (50 characters), which stands before @ in
// the addresses that the portal gives for git; a PAT has 52 or more.
const longestName = 50

// organization is one of Services.
func organization(origin, host string, parts []string) (s Server, problem, fix string) {
	if host == "dev.azure.com" {
		switch len(parts) {
		case 0:
			return s, "the URL names no organization", "Write https://dev.azure.com/ followed by your organization."
		case 1:
			return Server{Hosted: true, Name: parts[0], Base: below(origin, parts[0])}, "", ""
		}
		return s, "the URL has more after the organization",
			"Write " + below(origin, parts[0]) + " and name the project in target."
	}
	name := strings.TrimSuffix(host, ".visualstudio.com")
	switch {
	case strings.Contains(name, ".") || services[name]:
		return s, "that is the address of one service of Azure DevOps (" + host + "), not of an organization",
			"Write https://dev.azure.com/ followed by your organization."
	case len(parts) > 1 || len(parts) == 1 && !strings.EqualFold(parts[0], "DefaultCollection"):
		return s, "the URL has more after the organization", "Write " + origin + " and name the project in target."
	}
	return Server{Hosted: true, Name: name, Base: origin}, "", ""
}

// services are hosts below visualstudio.com that are no organizations (learn.microsoft.com, "Allowed
// IP addresses and domain URLs" of Azure DevOps).
var services = map[string]bool{"app": true, "aex": true, "vsaex": true, "vssps": true, "marketplace": true, "www": true, "my": true}

// onPremises is a collection of Azure DevOps Server or Team Foundation Server: the URL's last part, or
// named apart; what stands before it is the virtual directory.
func onPremises(origin string, parts []string, collection string) (s Server, problem, fix string) {
	directory := parts
	switch n := len(parts); {
	case n > 0 && (collection == "" || strings.EqualFold(parts[n-1], collection)):
		directory, collection = parts[:n-1], parts[n-1]
		if n == 1 && strings.EqualFold(collection, "tfs") { // TFS's own directory, and no more
			directory, collection = parts, "DefaultCollection"
		}
	case collection == "":
		collection = "DefaultCollection"
	}
	root := below(origin, directory...)
	if len(directory) > 1 || len(directory) == 1 && strings.EqualFold(directory[0], "DefaultCollection") {
		return s, "the URL has more after the collection",
			"Write " + below(origin, parts[:len(parts)-1]...) + " and name the project in target."
	}
	return Server{Name: collection, Root: root, Base: below(root, collection), Collection: collection}, "", ""
}

func below(base string, parts ...string) string {
	for _, p := range parts {
		base += "/" + url.PathEscape(p)
	}
	return base
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
