package vm_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/vm"
)

const text = `url: https://dev.azure.com/contoso
target: {environment: {project: Shop, name: production, tags: ["{{.ScaleSet}}"]}}
credential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}
imds: {endpoint: %q}
`

// What IMDS says completes the configuration, and fills in the names: once, and without an effect
// on what was read before.
func TestIdentify(t *testing.T) {
	userData := base64.StdEncoding.EncodeToString([]byte("target: {environment: {name: staging}}\n"))
	for name, c := range map[string]struct {
		cloud, more string
		target      string
		wrong       string
	}{
		"user data is not read":    {"AzurePublicCloud", "", "production", ""},
		"user data is read":        {"AzurePublicCloud", "sources: {userData: true}\n", "staging", ""},
		"the VM is in other hands": {"AzureChinaCloud", "", "", "cloud"},
	} {
		t.Run(name, func(t *testing.T) {
			imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(
					w,
					`{"compute":{"vmId":"5c7a1b1e-0001-4d3a-9a00-000000000001","name":"web_1","vmScaleSetName":"web","azEnvironment":%q,"userData":%q,
					"osProfile":{"computerName":"web-000001"}}}`,
					c.cloud,
					userData,
				)
			}))
			defer imds.Close()
			file := filepath.Join(t.TempDir(), "config.yaml")
			if err := os.WriteFile(file, fmt.Appendf(nil, text+c.more, imds.URL), 0o600); err != nil {
				t.Fatal(err)
			}
			s, err := vm.Read(file, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			before := s.Config.Show()
			if s.Unknown().Known() {
				t.Error("it is known before IMDS has answered")
			}
			for range 2 { // asked twice, it says the same
				v, err := s.Identify(t.Context())
				if c.wrong != "" {
					if f := fault.From(
						err,
					); f == nil || f.Class != fault.Config ||
						!strings.Contains(f.Error(), c.wrong) {
						t.Errorf("got %v", err)
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				if !v.Known() || v.AgentName != "web-000001" || !slices.Equal(v.AgentTags, []string{"web"}) ||
					v.Target().Name != c.target {
					t.Errorf("%q %q in %q", v.AgentName, v.AgentTags, v.Target().Name)
				}
			}
			if s.Config.Show() != before {
				t.Error("what was read before has changed")
			}
		})
	}
}
