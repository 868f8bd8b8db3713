package azure

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	armruntime "github.com/Azure/azure-sdk-for-go/sdk/azcore/arm/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"azp-bootstrap/bootstrap/fault"
	"azp-bootstrap/bootstrap/retry"
)

// A Fate is what becomes of this VM by its own request.
type Fate string

// The fates. Each needs a right of its own on the VM, by which Azure names it.
const (
	Delete  Fate = "delete"  // a scale set has one VM less
	Reimage Fate = "reimage" // the same VM boots anew from its image
)

// armVersion is of Microsoft.Compute, for single VMs and for those of scale sets.
const armVersion = "2024-07-01"

// clouds are Azure's, by compute.azEnvironment of IMDS. Their endpoints are the SDK's.
var clouds = map[string]cloud.Configuration{
	"AzurePublicCloud":       cloud.AzurePublic,
	"AzureUSGovernmentCloud": cloud.AzureGovernment,
	"AzureChinaCloud":        cloud.AzureChina,
}

// A VM of a uniform scale set is a part of it; one of a flexible scale set, or of none, stands for itself
// (compute.resourceId of IMDS).
var resourceID = regexp.MustCompile(`^(?i:/subscriptions/[0-9a-f-]{36}/resourceGroups/[^/?#%]+/providers/Microsoft\.Compute/` +
	`(virtualMachineScaleSets/[^/?#%]+/)?virtualMachines/[^/?#%]+)$`)

// A Platform is Azure Resource Manager, asked by this VM's identity for what becomes of this VM, and of no other.
type Platform struct {
	pipeline runtime.Pipeline
	endpoint string
	host     string
	vm       Instance
	kind     string // of resource, as in the names of rights
	id       Identity
}

// NewPlatform makes a client for the VM that IMDS describes.
func NewPlatform(vm Instance, imds *IMDS, id Identity, client *http.Client) (*Platform, error) {
	of, known := clouds[vm.Cloud]
	service := of.Services[cloud.ResourceManager]
	at, err := url.Parse(service.Endpoint)
	switch {
	case !known || err != nil || at.Host == "":
		return nil, fault.New(fault.Identity, "where Azure Resource Manager is in the cloud %q, nobody has said", vm.Cloud).
			Hint("Set retire.then: poweroff or none: delete and reimage work in Azure's public, US government and China clouds.")
	case !resourceID.MatchString(vm.ResourceID):
		return nil, fault.New(fault.Identity, "IMDS does not say which resource this VM is (resourceId: %q)", vm.ResourceID).
			Hint("Set retire.then: poweroff or none.")
	}
	cred, err := newCredential(imds, id)
	if err != nil {
		return nil, err
	}
	o := &arm.ClientOptions{ClientOptions: options(only{client, at.Host}), DisableRPRegistration: true}
	o.Cloud = of
	pipeline, err := armruntime.NewPipeline("azp-bootstrap", "v1.0.0", cred, runtime.PipelineOptions{}, o)
	if err != nil {
		return nil, fault.New(fault.Identity, "Azure Resource Manager at %s", at.Host).Because(err)
	}
	kind := "Microsoft.Compute/virtualMachines"
	if strings.Contains(strings.ToLower(vm.ResourceID), "/virtualmachinescalesets/") {
		kind = "Microsoft.Compute/virtualMachineScaleSets/virtualMachines"
	}
	return &Platform{pipeline, service.Endpoint, at.Host, vm, kind, id}, nil
}

// only lets requests to one host out: the answer to a request names where to ask how it goes, and the token goes along.
type only struct {
	policy.Transporter
	host string
}

func (o only) Do(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" || r.URL.Host != o.host {
		return nil, errors.New("a token for " + o.host + " is not sent to " + r.URL.Host)
	}
	return o.Transporter.Do(r)
}

// Right is the name of the right that a fate needs.
func (p *Platform) Right(f Fate) string {
	if f == Delete {
		return p.kind + "/delete"
	}
	return p.kind + "/" + string(f) + "/action"
}

// An Operation is Azure at work on this VM.
type Operation struct {
	poller   *runtime.Poller[struct{}]
	platform *Platform
	fate     Fate
}

// Take asks for a fate. With an Operation Azure has begun: this VM's time is over soon. That the VM is
// gone already is no error.
func (p *Platform) Take(ctx context.Context, f Fate) (*Operation, error) {
	method, path, body := http.MethodDelete, p.vm.ResourceID, ""
	if f != Delete {
		method, path, body = http.MethodPost, path+"/"+string(f), "{}"
	}
	req, err := runtime.NewRequest(ctx, method, runtime.JoinPaths(p.endpoint, path))
	if err != nil {
		return nil, p.explain(f, err)
	}
	req.Raw().URL.RawQuery = url.Values{"api-version": {armVersion}}.Encode()
	req.Raw().Header.Set("Accept", "application/json")
	if body != "" {
		if err := req.SetBody(streaming.NopCloser(strings.NewReader(body)), "application/json"); err != nil {
			return nil, p.explain(f, err)
		}
	}
	res, err := p.pipeline.Do(req)
	if err != nil {
		return nil, p.explain(f, err)
	}
	if !runtime.HasStatusCode(res, http.StatusOK, http.StatusAccepted, http.StatusNoContent) {
		return nil, p.explain(f, runtime.NewResponseError(res))
	}
	poller, err := runtime.NewPoller(res, p.pipeline, &runtime.NewPollerOptions[struct{}]{
		FinalStateVia: runtime.FinalStateViaAzureAsyncOp,
	})
	if err != nil && res.StatusCode == http.StatusOK {
		return nil, fault.New(fault.Identity, "%s: what answers as %s is not Azure Resource Manager", string(f)+" of "+p.vm.Name, p.host).
			Because(err).Hint("A proxy or a captive portal may stand in between: look at what this VM's network does with that name.")
	}
	if err != nil { // it was accepted: how it goes on cannot be followed
		poller = nil
	}
	return &Operation{poller, p, f}, nil
}

// asked is how often Azure is asked how an operation goes, if it names no time itself.
const asked = 10 * time.Second

// Wait waits until Azure says how the operation went, or ctx ends. It is nil if Azure is still at it, or if this
// identity may not ask (Microsoft.Compute/locations/operations/read): mostly the VM ends first.
func (o *Operation) Wait(ctx context.Context) error {
	for o.poller != nil && !o.poller.Done() {
		res, err := o.poller.Poll(ctx)
		pause := asked
		if err == nil {
			pause = max(fault.RetryAfter(res.Header), time.Second)
		} else if f := fault.From(o.platform.explain(o.fate, err)); f.Wait {
			pause = max(f.After, asked)
		} else {
			break
		}
		if !o.poller.Done() && !retry.Pause(ctx, pause) {
			return nil
		}
	}
	if o.poller == nil || !o.poller.Done() { // nobody says
		<-ctx.Done()
		return nil
	}
	if _, err := o.poller.Result(ctx); err != nil && ctx.Err() == nil {
		return o.platform.explain(o.fate, err)
	}
	return nil
}

// lacking finds the right that is missing in ARM's words for AuthorizationFailed.
var lacking = regexp.MustCompile(`perform action(?:\(s\))? '([^']+)'`)

// explain reads the errors of Azure Resource Manager
// (learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors).
func (p *Platform) explain(f Fate, err error) error {
	what := string(f) + " of " + p.vm.Name
	var own *fault.Error
	if errors.As(err, &own) { // the identity's
		return own
	}
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) || answer.RawResponse == nil {
		var uerr *url.Error
		if errors.As(err, &uerr) {
			err = uerr.Err
		}
		return fault.Connection(fault.Identity, what, p.host, err)
	}
	body, _ := runtime.Payload(answer.RawResponse)
	var parsed struct {
		Error struct{ Code, Message string }
	}
	_ = json.Unmarshal(body, &parsed)
	code, message, status := parsed.Error.Code, snippet([]byte(parsed.Error.Message)), answer.StatusCode
	if code == "" {
		code, message = cmp.Or(answer.ErrorCode, http.StatusText(status)), snippet(body)
	}
	fails := func(format string, args ...any) *fault.Error {
		e := fault.New(fault.Identity, "%s: "+format, append([]any{what}, args...)...)
		e.Message += fmt.Sprintf(" (%s answered %d %s: %s)", p.host, status, code, message)
		return e
	}
	switch {
	case fault.PassingStatus(status):
		return fails("Azure does not serve us now").Passing().Retry(fault.RetryAfter(answer.RawResponse.Header)).
			Hint("It is asked again by itself.")
	case status == http.StatusForbidden && (code == "AuthorizationFailed" || code == "LinkedAuthorizationFailed"):
		right := p.Right(f)
		if all := lacking.FindAllStringSubmatch(parsed.Error.Message, -1); len(all) > 0 {
			right = all[len(all)-1][1] // of a linked one, the second is what is missing
		}
		return fails("%s lacks the right %s", p.id, right).
			Hint("Give the identity a role with %s on this VM or its scale set: docs/deploy/one-job-one-vm.md has one. "+
				"Assignments take up to 10 minutes to spread.", right)
	case status == http.StatusForbidden:
		return fails("Azure refuses it").
			Hint("A policy or a deny assignment may stand in the way: the code and the words above name it.")
	case status == http.StatusUnauthorized:
		return fails("the token of %s is rejected", p.id).
			Hint("The identity must be of the tenant that the VM's subscription trusts.")
	case status == http.StatusConflict && code == "ScopeLocked":
		return fails("a lock protects it").
			Hint("Remove the lock on the VM, its scale set or its resource group (az lock list), or set retire.then: poweroff or none.")
	case status == http.StatusConflict:
		return fails("Azure is at something else with this VM").Passing().Hint("It is asked again by itself.")
	case status == http.StatusNotFound:
		return fails("Azure knows no such VM").
			Hint("IMDS gives %s: was the VM moved to another group or subscription? A restart makes IMDS know.", p.vm.ResourceID)
	case status == http.StatusOK:
		return fails("it failed").Hint("Look at the VM's activity log in the portal.")
	}
	return fails("Azure refuses it").Hint("Look the code up in the documentation of Azure Resource Manager's errors.")
}
