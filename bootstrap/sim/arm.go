package sim

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// armHost is Azure Resource Manager of Azure's public cloud.
const armHost = "management.azure.com"

// A Role is what a principal may do: actions by Azure's names, over a scope and all that is in it.
type Role struct {
	ObjectID string   `yaml:"objectId"`
	Actions  []string `yaml:"actions"`
	Scope    string   `yaml:"scope"` // a resource ID, or the beginning of one
}

// A Fate is what a VM's own request, or somebody's, made of a VM.
type Fate struct {
	VM     string    `json:"vm"`
	Action string    `json:"action"` // delete, reimage
	At     time.Time `json:"at"`
	By     string    `json:"by"`             // object ID
	Event  string    `json:"event,omitzero"` // the VM's notice: it goes when that has started
	Done   bool      `json:"done"`

	id string
}

// armTakes is how long an operation takes here. Azure takes a minute and more.
const armTakes = 5 * time.Second

// armVersions are some of Microsoft.Compute's (azure-rest-api-specs, specification/compute/resource-manager).
var armVersions = []string{"2023-03-01", "2023-07-01", "2023-09-01", "2024-03-01", "2024-07-01", "2024-11-01", "2025-04-01"}

var (
	armVM = regexp.MustCompile(`^(?i:(/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.Compute/` +
		`(virtualMachineScaleSets/[^/]+/)?virtualMachines/[^/]+))(/[A-Za-z]+)?$`)
	armOperation = regexp.MustCompile(`^(?i:/subscriptions/([^/]+)/providers/Microsoft\.Compute/locations/[^/]+/operations)/([^/]+)$`)
)

// Fates are what became of VMs, in order.
func (s *Sim) Fates() []Fate {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Fate{}
	for _, f := range s.fates {
		s.settle(f)
		all = append(all, *f)
	}
	return all
}

// settle ends an operation whose time has come. A VM whose scale set sends termination notices is deleted when its
// event has started (learn.microsoft.com/azure/virtual-machine-scale-sets, "Terminate notification").
func (s *Sim) settle(f *Fate) {
	if f.Done {
		return
	}
	if f.Event != "" {
		s.begin()
		e := s.event(f.Event)
		f.Done = e == nil || !e.Started.IsZero() && time.Since(e.Started) > underWay
		return
	}
	f.Done = time.Since(f.At) > armTakes
}

// arm answers Azure Resource Manager's requests: DELETE and POST reimage of a VM, and how an operation goes
// (azure-rest-api-specs, Microsoft.Compute: VirtualMachines_Delete and _Reimage, VirtualMachineScaleSetVMs_Delete and
// _Reimage; armrpc's asynchronous operations). What it refuses: learn.microsoft.com/azure/azure-resource-manager,
// "Troubleshoot common Azure deployment errors".
func (s *Sim) arm(w http.ResponseWriter, r *http.Request) {
	deny := func(status int, code, format string, args ...any) {
		reply(w, status, object{"error": object{"code": code, "message": fmt.Sprintf(format, args...)}})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if r.Method == http.MethodGet && strings.TrimSuffix(r.URL.Path, "/") == "/subscriptions" { // azure-cli, when it logs in
		reply(w, http.StatusOK, object{"value": []object{}})
		return
	}
	t, known := s.tokens[bearer]
	switch {
	case !ok:
		w.Header().Set("WWW-Authenticate", `Bearer authorization_uri="https://login.windows.net/`+tenant+
			`", error="invalid_token", error_description="The authentication failed because of missing 'Authorization' header."`)
		deny(http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
		return
	case !known || t.expires.Before(time.Now()):
		deny(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid.")
		return
	case t.resource != "https://management.azure.com" && t.resource != "https://management.core.windows.net":
		deny(http.StatusUnauthorized, "InvalidAuthenticationTokenAudience", "The access token has been obtained for wrong "+
			"audience or resource '%s'. It should exactly match with one of the allowed audiences "+
			"'https://management.core.windows.net/','https://management.core.windows.net','https://management.azure.com/',"+
			"'https://management.azure.com'.", t.resource)
		return
	}
	version := r.URL.Query().Get("api-version")
	if version == "" {
		deny(http.StatusBadRequest, "MissingApiVersionParameter", "The api-version query parameter (?api-version=) is required for all requests.")
		return
	}
	if m := armOperation.FindStringSubmatch(r.URL.Path); m != nil && r.Method == http.MethodGet {
		s.armOperation(w, t, m[1], m[2], deny)
		return
	}
	m := armVM.FindStringSubmatch(r.URL.Path)
	if m == nil {
		deny(http.StatusNotFound, "InvalidResourceType", "The resource type could not be found for the path '%s'.", r.URL.Path)
		return
	}
	id, kind, verb := m[1], "virtualMachines", strings.ToLower(strings.TrimPrefix(m[3], "/"))
	if m[2] != "" {
		kind = "virtualMachineScaleSets/virtualMachines"
	}
	if !slices.Contains(armVersions, version) {
		deny(http.StatusBadRequest, "NoRegisteredProviderFound", "No registered resource provider found for location 'westeurope' "+
			"and API version '%s' for type '%s'. The supported api-versions are '%s'.", version, kind, strings.Join(armVersions, ", "))
		return
	}
	action := "Microsoft.Compute/" + kind + "/read"
	switch {
	case r.Method == http.MethodDelete && verb == "":
		verb, action = "delete", "Microsoft.Compute/"+kind+"/delete"
	case r.Method == http.MethodPost && verb == "reimage":
		action = "Microsoft.Compute/" + kind + "/reimage/action"
	case r.Method != http.MethodGet || verb != "":
		deny(http.StatusMethodNotAllowed, "HttpMethodNotSupported", "The HTTP method '%s' is not supported at scope '%s'.", r.Method, id)
		return
	}
	if !s.may(t.objectID, action, id) {
		deny(http.StatusForbidden, "AuthorizationFailed", "The client '%s' with object id '%s' does not have authorization to "+
			"perform action '%s' over scope '%s' or the scope is invalid. If access was recently granted, please refresh your "+
			"credentials.", t.objectID, t.objectID, action, id)
		return
	}
	i := slices.IndexFunc(s.scenario.VMs, func(v VM) bool { return strings.EqualFold(v.resourceID(), id) })
	var last *Fate
	if i >= 0 {
		for _, f := range s.fates {
			if f.VM == s.scenario.VMs[i].Name {
				s.settle(f)
				last = f
			}
		}
	}
	gone := i < 0 || last != nil && last.Done && last.Action == "delete"
	switch {
	case gone && verb == "delete":
		w.WriteHeader(http.StatusNoContent)
	case gone:
		deny(http.StatusNotFound, "ResourceNotFound", "The Resource '%s' was not found. For more details please go to "+
			"https://aka.ms/ARMResourceNotFoundFix", strings.TrimPrefix(id[strings.Index(id, "Microsoft.Compute"):], "/"))
	case verb == "":
		reply(w, http.StatusOK, object{"id": id, "name": s.scenario.VMs[i].Name, "type": "Microsoft.Compute/" + kind,
			"location": s.scenario.VMs[i].Location})
	case last != nil && !last.Done:
		deny(http.StatusConflict, "OperationNotAllowed", "The request failed due to conflict with a concurrent request. To resolve it, "+
			"please refer to https://aka.ms/activitylog to get more details on the conflicting requests.")
	default:
		s.accept(w, s.scenario.VMs[i], verb, t.objectID, version)
	}
}

// accept begins an operation.
func (s *Sim) accept(w http.ResponseWriter, vm VM, action, by, version string) {
	f := &Fate{VM: vm.Name, Action: action, At: time.Now(), By: by, id: guid()}
	if action == "delete" && vm.TerminateNotice > 0 {
		e := ScheduledEvent{ID: guid(), Resources: []string{vm.Name}, Type: "Terminate", NotBefore: time.Now().Add(vm.TerminateNotice).UTC()}
		s.events = append(s.events, e)
		s.incarnation++
		f.Event = e.ID
	}
	s.fates = append(s.fates, f)
	at := "https://" + armHost + "/subscriptions/" + vm.SubscriptionID + "/providers/Microsoft.Compute/locations/" + vm.Location +
		"/operations/" + f.id + "?p=" + guid() + "&api-version=" + version
	w.Header().Set("Azure-AsyncOperation", at)
	w.Header().Set("Location", at+"&monitor=true")
	w.Header().Set("Retry-After", "10")
	w.WriteHeader(http.StatusAccepted)
}

func (s *Sim) armOperation(w http.ResponseWriter, t token, subscription, id string, deny func(int, string, string, ...any)) {
	const action = "Microsoft.Compute/locations/operations/read"
	if !s.may(t.objectID, action, "/subscriptions/"+subscription) {
		deny(http.StatusForbidden, "AuthorizationFailed", "The client '%s' with object id '%s' does not have authorization to "+
			"perform action '%s' over scope '/subscriptions/%s' or the scope is invalid. If access was recently granted, please "+
			"refresh your credentials.", t.objectID, t.objectID, action, subscription)
		return
	}
	i := slices.IndexFunc(s.fates, func(f *Fate) bool { return f.id == id })
	if i < 0 {
		deny(http.StatusNotFound, "NotFound", "The entity was not found.")
		return
	}
	f := s.fates[i]
	s.settle(f)
	status := map[bool]string{false: "InProgress", true: "Succeeded"}[f.Done]
	reply(w, http.StatusOK, object{"startTime": f.At.UTC().Format(time.RFC3339), "status": status, "name": f.id})
}

// may reports whether a principal has a right over a resource.
func (s *Sim) may(objectID, action, scope string) bool {
	return slices.ContainsFunc(s.scenario.Roles, func(r Role) bool {
		of := strings.ToLower(strings.TrimRight(r.Scope, "/"))
		within := strings.EqualFold(scope, of) || strings.HasPrefix(strings.ToLower(scope), of+"/")
		return r.ObjectID == objectID && within && slices.ContainsFunc(r.Actions, func(a string) bool { return strings.EqualFold(a, action) })
	})
}

// resourceID is the VM's, as IMDS and Azure Resource Manager know it. A VM of a uniform scale set has a number.
func (v VM) resourceID() string {
	if i := strings.LastIndex(v.Name, "_"); v.ScaleSet != "" && i >= 0 && !v.Flexible {
		return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/virtualMachineScaleSets/%s/virtualMachines/%s",
			v.SubscriptionID, v.ResourceGroup, v.ScaleSet, v.Name[i+1:])
	}
	return fmt.Sprintf("/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/virtualMachines/%s",
		v.SubscriptionID, v.ResourceGroup, v.Name)
}
