package sim

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

const tenant = "99999999-8888-7777-6666-555555555555"

type token struct {
	objectID, resource string
	expires            time.Time
}

func (s *Sim) vm(name string) VM {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.scenario.VMs {
		if v.Name == name {
			return v
		}
	}
	return VM{}
}

// imds serves one VM's metadata.
func (s *Sim) imds(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service := "imds"
		if strings.HasPrefix(r.URL.Path, "/metadata/identity/") {
			service = "identity"
		}
		s.serve(service, name, w, r, func(w http.ResponseWriter, r *http.Request) { s.answerIMDS(s.vm(name), w, r) })
	})
}

func (s *Sim) answerIMDS(vm VM, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "IMDS/150.870.65.1854")
	q := r.URL.Query()
	switch {
	case !strings.EqualFold(r.Header.Get("Metadata"), "true") || r.Header.Get("X-Forwarded-For") != "":
		reply(w, http.StatusBadRequest, object{"error": "Bad request. Required metadata header not specified"})
	case q.Get("api-version") == "":
		reply(
			w,
			http.StatusBadRequest,
			object{
				"error":           "Bad request. api-version was not specified in the request",
				"newest-versions": []string{"2021-12-13", "2021-11-15", "2021-11-01"},
			},
		)
	case !served(r.URL.Path, q.Get("api-version")):
		reply(w, http.StatusBadRequest, object{
			"error":           "Bad request. api-version is invalid or was not specified in the request. For more information refer to aka.ms/azureimds",
			"newest-versions": []string{"2021-12-13", "2021-11-15", "2021-11-01"},
		})
	case r.URL.Path == "/metadata/instance":
		reply(w, http.StatusOK, instance(vm))
	case r.URL.Path == "/metadata/instance/compute":
		compute := instance(vm)["compute"].(object)
		if q.Get("api-version") >= "2023-07-01" { // versions are dates
			compute["isVmInStandbyPool"] = vm.Standby
		}
		reply(w, http.StatusOK, compute)
	case r.URL.Path == "/metadata/instance/compute/subscriptionId" && q.Get("format") == "text":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, vm.SubscriptionID)
	case r.URL.Path == "/metadata/scheduledevents":
		s.scheduledEvents(vm, w, r)
	case r.URL.Path == "/metadata/identity/oauth2/token":
		s.answerToken(vm, w, r)
	default:
		reply(w, http.StatusNotFound, object{"error": "Not found"})
	}
}

// The versions of what IMDS serves (learn.microsoft.com/azure/virtual-machines, instance-metadata-service
// "Supported API versions", linux/scheduled-events; cloud-init asks for 2021-08-01).
var versionsOf = map[string]string{
	"/metadata/instance": ` 2017-03-01 2017-04-02 2017-08-01 2017-10-01 2017-12-01 2018-02-01 2018-04-02 2018-10-01 2019-02-01
		2019-03-11 2019-04-30 2019-06-01 2019-06-04 2019-08-01 2019-08-15 2019-11-01 2020-06-01 2020-07-15 2020-09-01 2020-10-01
		2020-12-01 2021-01-01 2021-02-01 2021-03-01 2021-05-01 2021-08-01 2021-10-01 2021-11-01 2021-11-15 2021-12-13 2023-07-01
		2023-11-15 2025-04-07 `,
	"/metadata/scheduledevents": " 2017-03-01 2017-08-01 2017-11-01 2019-01-01 2019-04-01 2019-08-01 2020-07-01 ",
	"/metadata/identity":        " 2018-02-01 2019-06-01 2019-08-01 2019-11-01 2020-06-01 ",
}

// served reports whether IMDS has a version of what is asked for; of what it has not at all, any.
func served(path, version string) bool {
	for of, versions := range versionsOf {
		if path == of || strings.HasPrefix(path, of+"/") {
			return slices.Contains(strings.Fields(versions), version)
		}
	}
	return true
}

func instance(vm VM) object {
	tags := []object{}
	for k, v := range vm.Tags {
		tags = append(tags, object{"name": k, "value": v})
	}
	return object{
		"compute": object{
			"azEnvironment":     vm.Cloud,
			"location":          vm.Location,
			"name":              vm.Name,
			"osType":            "Linux",
			"provider":          "Microsoft.Compute",
			"resourceGroupName": vm.ResourceGroup,
			"resourceId":        vm.resourceID(),
			"subscriptionId":    vm.SubscriptionID,
			"tagsList":          tags,
			"userData": base64.StdEncoding.EncodeToString(
				[]byte(vm.UserData),
			),
			"vmId":           vm.ID,
			"vmScaleSetName": vm.ScaleSet,
			"vmSize":         "Standard_D2s_v5",
			"priority":       vm.Priority,
			"storageProfile": object{"imageReference": object{
				"id": vm.Image, "offer": "", "publisher": "", "sku": "", "version": "",
			}},
			"zone": vm.Zone,
			"osProfile": object{
				"adminUsername":                 "azureuser",
				"computerName":                  vm.ComputerName,
				"disablePasswordAuthentication": "true",
			},
		},
		"network": object{
			"interface": []object{
				{
					"ipv4": object{
						"ipAddress": []object{{"privateIpAddress": "10.0.0.4", "publicIpAddress": ""}},
						"subnet":    []object{{"address": "10.0.0.0", "prefix": "24"}},
					},
					"macAddress": "000D3AF806EC",
				},
			},
		},
	}
}

func (s *Sim) answerToken(vm VM, w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	bad := func(description string) {
		reply(w, http.StatusBadRequest, object{"error": "invalid_request", "error_description": description})
	}
	id, problem := pick(vm.Identities, q.Get("client_id"), q.Get("object_id"), q.Get("msi_res_id")+q.Get("mi_res_id"))
	resource := strings.TrimSuffix(q.Get("resource"), "/")
	switch {
	case problem != "":
		bad(problem)
	case resource == "":
		bad("Required query variable 'resource' is missing")
	default:
		expires := time.Now().Add(24 * time.Hour)
		t := jwt(
			object{
				"aud":       resource,
				"iss":       issuerOf(resource),
				"tid":       tenant,
				"oid":       id.ObjectID,
				"sub":       id.ObjectID,
				"appid":     id.ClientID,
				"iat":       time.Now().Unix(),
				"nbf":       time.Now().Unix(),
				"exp":       expires.Unix(),
				"xms_mirid": id.ResourceID,
			},
		)
		s.mu.Lock()
		s.tokens[t] = token{id.ObjectID, resource, expires}
		s.mu.Unlock()
		reply(
			w,
			http.StatusOK,
			object{
				"access_token":   t,
				"client_id":      id.ClientID,
				"expires_in":     "86399",
				"expires_on":     strconv.FormatInt(expires.Unix(), 10),
				"ext_expires_in": "86399",
				"not_before":     strconv.FormatInt(time.Now().Unix(), 10),
				"resource":       q.Get("resource"),
				"token_type":     "Bearer",
			},
		)
	}
}

func pick(ids []Identity, client, object, resource string) (Identity, string) {
	named := client + object + resource
	if named == "" {
		users := 0
		for _, id := range ids {
			if id.Kind == "system" {
				return id, ""
			}
			users++
		}
		switch users {
		case 0:
			return Identity{}, "Identity not found"
		case 1:
			return ids[0], ""
		}
		return Identity{}, "Multiple user assigned identities exist, please specify the clientId / resourceId of " +
			"the identity in the token request"
	}
	for _, id := range ids {
		if strings.EqualFold(id.ClientID, client) && client != "" ||
			strings.EqualFold(id.ObjectID, object) && object != "" ||
			strings.EqualFold(id.ResourceID, resource) && resource != "" {
			return id, ""
		}
	}
	return Identity{}, "Identity not found"
}

// jwt has the shape of a token; clients read its claims, only this simulator takes it.
func jwt(claims object) string {
	part := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return part(
		object{"typ": "JWT", "alg": "RS256"},
	) + "." + part(
		claims,
	) + "." + base64.RawURLEncoding.EncodeToString(
		[]byte("simulated signature"),
	)
}
