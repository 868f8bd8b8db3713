package compare

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v3"

	"azp-bootstrap/bootstrap/secret"
	"azp-bootstrap/bootstrap/sim"
)

// A Mirror is a simulator in which the targets of the questions stand. Nothing of it leaves the
// process.
type Mirror struct {
	transport http.RoundTripper
	pat       secret.PAT
	vault     Vault
}

// The managed identity of the mirror's VM.
const clientID, objectID = "aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000001"

// NewMirror makes one that lasts until ctx ends. Its files are in dir. wrap, if not nil, stands
// before each of its services.
func NewMirror(ctx context.Context, q Questions, v Vault, dir string, wrap func(http.Handler) http.Handler) (*Mirror, error) {
	pat := "simulated" + random(21) + "a"
	identities := []any{map[string]string{"kind": "system", "clientId": clientID, "objectId": objectID}}
	if v.Identity != "" {
		identities = append(identities, map[string]string{"kind": "user", "clientId": v.Identity, "objectId": objectID})
	}
	scenario := map[string]any{
		"pats": []any{map[string]any{
			"value": pat, "user": "azp-sim", "scopes": []string{"agentPools", "deploymentGroup", "environment"},
		}},
		"vms": []any{map[string]any{
			"id": "5c7a1b1e-0001-4d3a-9a00-000000000001", "name": vm, "computerName": "web-000001", "scaleSet": "web",
			"location": "westeurope", "zone": "1", "resourceGroup": "shop", "tags": map[string]string{"role": "web"},
			"subscriptionId": "11111111-2222-3333-4444-555555555555",
			"identities":     identities,
		}},
	}
	if q.URL != "" {
		server := map[string]any{"url": q.URL}
		if q.Version != "" {
			server["apiVersion"] = q.Version
		}
		if q.Pool != "" {
			server["pools"] = []string{q.Pool}
		}
		if q.Project != "" {
			project := map[string]any{"name": q.Project}
			if q.DeploymentGroup != "" {
				project["deploymentGroups"] = []string{q.DeploymentGroup}
			}
			if q.Environment != "" {
				project["environments"] = []string{q.Environment}
			}
			server["projects"] = []any{project}
		}
		scenario["servers"] = []any{server}
	}
	if u, err := url.Parse(v.URL); err == nil && u.Host != "" {
		scenario["vaults"] = []any{map[string]any{
			"host": u.Host, "readers": []string{objectID},
			"secrets": map[string]any{v.Secret: map[string]string{"value": pat}},
		}}
	}
	text, err := yaml.Marshal(scenario)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "mirror.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	s, err := sim.Load(file)
	if err != nil {
		return nil, err
	}
	azure, err := sim.New(s, dir)
	if err != nil {
		return nil, err
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(azure.CA())
	m := &Mirror{vault: v, transport: &http.Transport{
		DialContext:     azure.Memory(ctx, wrap).Dial(vm),
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted},
	}}
	m.pat, err = secret.NewPAT(pat)
	return m, err
}

// vm is the name of the mirror's VM.
const vm = "web_1"

// Side asks the mirror.
func (m *Mirror) Side(q Questions) *Side { return NewSide(q, m.transport, m.pat) }
