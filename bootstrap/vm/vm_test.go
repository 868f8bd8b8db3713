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

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
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

// Jobs learn of their VM what IMDS says, and nothing that does not fit in a line.
func TestFacts(t *testing.T) {
	for name, c := range map[string]struct {
		says string
		want agent.Facts
	}{
		"a gallery's image, spot": {`"vmSize":"Standard_D2s_v5","zone":"1","priority":"Spot","storageProfile":{"imageReference":{"id":"/subscriptions/1/x","publisher":""}}`, agent.Facts{VM: "web_1", Size: "Standard_D2s_v5", Zone: "1", Image: "/subscriptions/1/x", Spot: "true"}},
		"a marketplace's image":   {`"priority":"Regular","storageProfile":{"imageReference":{"publisher":"Debian","offer":"debian-12","sku":"12-gen2","version":"latest"}}`, agent.Facts{VM: "web_1", Image: "Debian:debian-12:12-gen2:latest"}},
		"nothing":                 {`"priority":""`, agent.Facts{VM: "web_1"}},
		"a line break":            {`"vmSize":"x\nLD_PRELOAD=y"`, agent.Facts{VM: "web_1"}},
	} {
		imds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"compute":{"vmId":"5c7a1b1e-0001-4d3a-9a00-000000000001","name":"web_1",%s}}`, c.says)
		}))
		i, err := azure.NewIMDS(imds.URL, nil).Instance(t.Context())
		imds.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := (vm.VM{Instance: i}).Marks("x").Facts; got != c.want {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
