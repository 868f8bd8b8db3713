//go:build linux

package bootstrap_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"time"

	"azp-bootstrap/bootstrap/agent"
	"azp-bootstrap/bootstrap/azure"
	"azp-bootstrap/bootstrap/secret"
)

// A client boots a VM, until it is ready or gives up.
type client func(ctx context.Context, m *machine) error

var clients = map[string]client{
	"azp-bootstrap": func(ctx context.Context, m *machine) error {
		if err := m.boot(ctx, 30*time.Minute); err != nil {
			return err
		}
		return nil
	},
	"every 10 s":        scripted(func(int) time.Duration { return 10 * time.Second }),
	"plain exponential": scripted(func(n int) time.Duration { return min(time.Second<<min(n, 10), 20*time.Second) }),
	"jitter, no wishes": scripted(func(n int) time.Duration {
		return time.Duration(rand.Float64() * float64(min(time.Second<<min(n, 10), 40*time.Second)))
	}),
}

// scripted is the bootstrap that people write: the same requests, each tried again after a wait of
// the client's own, whatever the server asks for.
func scripted(wait func(tries int) time.Duration) client {
	return func(ctx context.Context, m *machine) error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
		defer cancel()
		http1, err := (azure.Network{CAFile: filepath.Join(m.dir, "ca.pem"), Dial: m.dial}).Client()
		if err != nil {
			return err
		}
		defer http1.CloseIdleConnections()
		get := func(address string, header map[string]string, into any) error {
			for n := 0; ; n++ {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
				if err != nil {
					return err
				}
				for k, v := range header {
					req.Header.Set(k, v)
				}
				res, err := http1.Do(req)
				if err == nil {
					data, e := io.ReadAll(res.Body)
					_ = res.Body.Close()
					if err = e; err == nil && res.StatusCode == http.StatusOK {
						return json.Unmarshal(data, into)
					}
				}
				select {
				case <-time.After(wait(n)):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		var any map[string]json.RawMessage
		metadata := map[string]string{"Metadata": "true"}
		var token struct {
			AccessToken string `json:"access_token"`
		}
		var given struct{ Value string }
		steps := []func() error{
			func() error {
				return get("http://169.254.169.254/metadata/instance?api-version=2021-12-13", metadata, &any)
			},
			func() error {
				return get(
					"http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net",
					metadata,
					&token,
				)
			},
			func() error {
				return get(
					"https://contoso.vault.azure.net/secrets/azp-pat?api-version=7.4",
					map[string]string{"Authorization": "Bearer " + token.AccessToken},
					&given,
				)
			},
		}
		for _, do := range steps {
			if err := do(); err != nil {
				return err
			}
		}
		basic := map[string]string{
			"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(":"+given.Value)),
		}
		members := "https://dev.azure.com/contoso/Shop/_apis/pipelines/environments"
		var found struct{ Value []struct{ ID int } }
		for _, address := range []string{"https://dev.azure.com/contoso/_apis/connectionData?api-version=7.1-preview", members + "?name=production&api-version=7.1-preview"} {
			if err := get(address, basic, &found); err != nil {
				return err
			}
		}
		mine := fmt.Sprintf(
			"%s/%d/providers/virtualmachines?name=%s&api-version=7.1-preview",
			members,
			found.Value[0].ID,
			url.QueryEscape(m.agentName()),
		)
		if err := get(mine, basic, &any); err != nil {
			return err
		}
		pat, err := secret.NewPAT(given.Value)
		if err != nil {
			return err
		}
		for n := 0; ; n++ {
			_, err := m.Configure(
				ctx,
				agent.Registration{
					Kind:      "environment",
					Project:   "Shop",
					Name:      "production",
					URL:       "https://dev.azure.com/contoso",
					AgentName: m.agentName(),
					Marks: agent.Marks{
						InstanceID: m.name,
					},
					Timeout: 10 * time.Minute,
					Replace: true,
				},
				pat,
				nil,
				func(string) {},
			)
			if err == nil {
				_, _ = m.Start(context.Background(), agent.Service{}, "")
				break
			}
			select {
			case <-time.After(wait(n)):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return get(mine, basic, &any)
	}
}
