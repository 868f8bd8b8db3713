package azure

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

const (
	ofSet  = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/shop/providers/Microsoft.Compute/virtualMachineScaleSets/web/virtualMachines/1"
	single = "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/shop/providers/Microsoft.Compute/virtualMachines/web_1"
)

// platform is one whose answers are given, after a token of IMDS'.
func platform(t testing.TB, vm Instance, then func(*http.Request) *http.Response) (*Platform, *[]string, error) {
	t.Helper()
	asked := &[]string{}
	p, err := NewPlatform(vm, metadata(t, asked), Identity{}, &http.Client{Transport: answerer(func(r *http.Request) *http.Response {
		if r.Header.Get("Authorization") != "Bearer managed-identity-token" {
			t.Errorf("%s %s without the identity's token", r.Method, r.URL)
		}
		return then(r)
	})})
	return p, asked, err
}

func refusal(code, message string) string {
	return `{"error":{"code":"` + code + `","message":"` + message + `"}}`
}

func TestAVMIsAskedForByItsOwnID(t *testing.T) {
	for name, c := range map[string]struct {
		id, cloud string
		fate      Fate
		want      string // method and URL
		body      string
		right     string
	}{
		"delete in a uniform set": {ofSet, "AzurePublicCloud", Delete, "DELETE https://management.azure.com" + ofSet + "?api-version=2024-07-01", "",
			"Microsoft.Compute/virtualMachineScaleSets/virtualMachines/delete"},
		"reimage in a uniform set": {ofSet, "AzurePublicCloud", Reimage, "POST https://management.azure.com" + ofSet + "/reimage?api-version=2024-07-01", "{}",
			"Microsoft.Compute/virtualMachineScaleSets/virtualMachines/reimage/action"},
		"delete of a VM": {single, "AzureUSGovernmentCloud", Delete, "DELETE https://management.usgovcloudapi.net" + single + "?api-version=2024-07-01", "",
			"Microsoft.Compute/virtualMachines/delete"},
		"reimage of a VM": {single, "AzureChinaCloud", Reimage, "POST https://management.chinacloudapi.cn" + single + "/reimage?api-version=2024-07-01", "{}",
			"Microsoft.Compute/virtualMachines/reimage/action"},
	} {
		t.Run(name, func(t *testing.T) {
			var got, body string
			p, asked, err := platform(t, Instance{Name: "web_1", ResourceID: c.id, Cloud: c.cloud}, func(r *http.Request) *http.Response {
				got = r.Method + " " + r.URL.String()
				if r.Body != nil {
					b, _ := io.ReadAll(r.Body)
					body = string(b)
				}
				return answer(r, 204, nil, "")
			})
			if err != nil {
				t.Fatal(err)
			}
			op, err := p.Take(t.Context(), c.fate)
			if err != nil || got != c.want || body != c.body || p.Right(c.fate) != c.right {
				t.Errorf("asked %s %q, right %s: %v", got, body, p.Right(c.fate), err)
			}
			if err := op.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			if len(*asked) != 1 || !strings.HasPrefix((*asked)[0], "https://management.core.") {
				t.Errorf("tokens for %v", *asked)
			}
		})
	}
}

func TestWhoHasNoPlatform(t *testing.T) {
	for name, vm := range map[string]Instance{
		"another cloud": {Cloud: "AzureStack", ResourceID: single},
		"no ID":         {Cloud: "AzurePublicCloud"},
		"another kind":  {Cloud: "AzurePublicCloud", ResourceID: strings.Replace(single, "virtualMachines", "disks", 1)},
		"a whole set":   {Cloud: "AzurePublicCloud", ResourceID: strings.TrimSuffix(ofSet, "/virtualMachines/1")},
		"a query":       {Cloud: "AzurePublicCloud", ResourceID: single + "?x"},
		"a way out":     {Cloud: "AzurePublicCloud", ResourceID: strings.Replace(single, "shop", "..%2f", 1)},
	} {
		if _, _, err := platform(t, vm, nil); fault.From(err) == nil || fault.From(err).Class != fault.Identity {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatThePlatformRefuses(t *testing.T) {
	const lacks = "The client 'b' with object id 'b' does not have authorization to perform action 'Microsoft.Compute/virtualMachines/delete' over scope '/x' or the scope is invalid."
	const linked = "The client has permission to perform action 'Microsoft.Compute/virtualMachines/reimage/action' on scope 's'; however, it does not have permission to perform action(s) 'Microsoft.Compute/galleries/images/read' on the linked scope(s) 'g'"
	for name, c := range map[string]struct {
		status int
		body   string
		passes bool
		words  string
	}{
		"no role":        {403, refusal("AuthorizationFailed", lacks), false, "the VM's managed identity lacks the right Microsoft.Compute/virtualMachines/delete ("},
		"a linked one":   {403, refusal("LinkedAuthorizationFailed", linked), false, "lacks the right Microsoft.Compute/galleries/images/read ("},
		"no word for it": {403, refusal("AuthorizationFailed", "Verboten."), false, "lacks the right Microsoft.Compute/virtualMachines/delete ("},
		"a policy":       {403, refusal("RequestDisallowedByPolicy", "Resource was disallowed by policy."), false, "RequestDisallowedByPolicy"},
		"a lock":         {409, refusal("ScopeLocked", "locked"), false, "a lock protects it"},
		"busy":           {409, refusal("OperationNotAllowed", "conflict with a concurrent request"), true, "something else with this VM"},
		"too many":       {429, refusal("TooManyRequests", "slow down"), true, "429"},
		"down":           {503, "<html>busy</html>", true, "503"},
		"token":          {401, refusal("InvalidAuthenticationTokenTenant", "wrong issuer"), false, "token"},
		"moved":          {404, refusal("ResourceNotFound", "not found"), false, "knows no such VM"},
		"a portal":       {302, "<html>login</html>", false, "302"},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, err := platform(t, Instance{Name: "web_1", ResourceID: single, Cloud: "AzurePublicCloud"}, func(r *http.Request) *http.Response {
				return answer(r, c.status, http.Header{"Retry-After": {"7"}, "Content-Type": {"application/json"}}, c.body)
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.Take(t.Context(), Delete)
			f := fault.From(err)
			if f == nil || f.Class != fault.Identity || f.Wait != c.passes || !strings.Contains(f.Error(), c.words) || f.Advice == "" {
				t.Fatalf("%+v", f)
			}
			if c.status == 429 && f.After != 7*time.Second {
				t.Errorf("again after %s", f.After)
			}
		})
	}
}

func TestAnOperationIsFollowed(t *testing.T) {
	const at = "https://management.azure.com/subscriptions/s/providers/Microsoft.Compute/locations/l/operations/1?api-version=2024-07-01"
	for name, c := range map[string]struct {
		at      string
		answers []string // "status body"; the last one again and again
		takes   time.Duration
		asks    int
		words   string
	}{
		"it ends well":       {at, []string{`200 {"status":"InProgress"}`, `200 {"status":"Succeeded"}`}, 20 * time.Second, 2, ""},
		"it fails":           {at, []string{`200 {"status":"Failed","error":{"code":"OSProvisioningTimedOut","message":"late"}}`}, 0, 1, "it failed"},
		"nobody may ask":     {at, []string{"403 " + refusal("AuthorizationFailed", "no")}, time.Hour, 1, ""},
		"it is busy":         {at, []string{"429 " + refusal("TooManyRequests", "no"), `200 {"status":"Succeeded"}`}, 20 * time.Second, 2, ""},
		"it never ends":      {at, []string{`200 {"status":"InProgress"}`}, time.Hour, 181, ""},
		"somebody else's":    {"https://evil.example/1", []string{`200 {"status":"Failed"}`}, time.Hour, 0, ""},
		"without encryption": {strings.Replace(at, "https", "http", 1), []string{`200 {"status":"Failed"}`}, time.Hour, 0, ""},
		"nowhere":            {"", nil, time.Hour, 0, ""},
		"nonsense":           {at, []string{"200 <html>"}, time.Hour, 361, ""},
	} {
		t.Run(name, func(t *testing.T) {
			asks := 0
			p, _, err := platform(t, Instance{Name: "web_1", ResourceID: single, Cloud: "AzurePublicCloud"}, func(r *http.Request) *http.Response {
				if r.Method == http.MethodDelete {
					h := http.Header{}
					if c.at != "" {
						h.Set("Azure-AsyncOperation", c.at)
					}
					return answer(r, 202, h, "")
				}
				status, body, _ := strings.Cut(c.answers[min(asks, len(c.answers)-1)], " ")
				asks++
				code := map[string]int{"200": 200, "403": 403, "429": 429}[status]
				return answer(r, code, http.Header{"Retry-After": {"20"}, "Content-Type": {"application/json"}}, body)
			})
			if err != nil {
				t.Fatal(err)
			}
			p.Take(t.Context(), Delete) //nolint:errcheck // the token is had before time is virtual
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				op, err := p.Take(ctx, Delete)
				if err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				err = op.Wait(ctx)
				if took := time.Since(begun); took != c.takes || asks != c.asks {
					t.Errorf("%s, %d questions", took, asks)
				}
				if (err == nil) != (c.words == "") || err != nil && !strings.Contains(err.Error(), c.words) {
					t.Error(err)
				}
			})
		})
	}
}
