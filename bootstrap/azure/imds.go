package azure

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"azp-bootstrap/bootstrap/fault"
)

// imdsHost is the address that Azure fixed for every VM; the SDK has it built in as well.
const imdsHost = "169.254.169.254"

// IMDS is the Instance Metadata Service
// (learn.microsoft.com/azure/virtual-machines/instance-metadata-service).
type IMDS struct {
	client  *http.Client
	patient *http.Client // for scheduled events, whose first answer takes up to two minutes
	host    string       // that is asked, for messages
	away    atomic.Int64 // since when it is not reached, in nanoseconds of Unix time; 0: it is
}

// NewIMDS makes a client that asks for the fixed address and reaches it at endpoint, with dial (nil
// = the system's). It never goes through a proxy.
func NewIMDS(endpoint string, dial Dial) *IMDS {
	addr := net.JoinHostPort(imdsHost, "80")
	if u, err := url.Parse(endpoint); err == nil && u.Host != "" {
		addr = u.Host
		if u.Port() == "" {
			addr = net.JoinHostPort(u.Hostname(), "80")
		}
	}
	dial = dial.within(3 * time.Second)
	within := func(headers time.Duration) *http.Transport {
		return &http.Transport{
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return dial(ctx, network, addr)
			},
			ResponseHeaderTimeout: headers,
			IdleConnTimeout:       idle,
		}
	}
	return &IMDS{client: client(within(15*time.Second), 20*time.Second, maxBody),
		patient: client(within(150*time.Second), 155*time.Second, maxBody), host: strings.TrimSuffix(addr, ":80")}
}

// arcFolders are where Azure Arc's agent keeps its data (learn.microsoft.com/azure/azure-arc/servers,
// "Agent overview").
var arcFolders = []string{"/var/opt/azcmagent", `C:\ProgramData\AzureConnectedMachineAgent`}

// notAzure is what to do if IMDS does not answer as it should.
func (i *IMDS) notAzure() string {
	for _, f := range arcFolders {
		if _, err := os.Stat(f); err == nil {
			return "This machine is connected by Azure Arc, whose metadata service is another one: azp-bootstrap is for VMs in Azure."
		}
	}
	return "Is this an Azure VM? If it is, check that nothing (firewall, proxy, container network) blocks " + i.host + "."
}

// vmID is a GUID in practice; it goes into files by the line.
var vmID = regexp.MustCompile(`^[0-9A-Za-z._-]+$`)

const longestVMID = 64

// again is when IMDS is asked anew if it is not reached: the boot may be ahead of the VM's network
// by a moment, or by minutes. Nobody else asks this one.
func (i *IMDS) again() time.Duration {
	now := time.Now().UnixNano()
	i.away.CompareAndSwap(0, now)
	return max(50*time.Millisecond, min(time.Duration(now-i.away.Load())/4, time.Second))
}

// An Instance is what IMDS says of this VM (GET /metadata/instance, api-version 2021-12-13).
type Instance struct {
	VMID, Name, ComputerName      string
	ResourceID, ResourceGroup     string
	SubscriptionID, Location      string
	Zone, ScaleSet, Cloud, OSType string
	Size, Image                   string // of the VM; the gallery image's ID, or publisher:offer:sku:version
	Spot                          bool
	Tags                          map[string]string
	UserData                      string // base64, as IMDS gives it
}

// Instance asks for this VM's facts.
func (i *IMDS) Instance(ctx context.Context) (Instance, error) {
	var body struct {
		Compute struct {
			VMID              string `json:"vmId"`
			Name              string `json:"name"`
			ResourceID        string `json:"resourceId"`
			SubscriptionID    string `json:"subscriptionId"`
			ResourceGroupName string `json:"resourceGroupName"`
			Location          string `json:"location"`
			Zone              string `json:"zone"`
			AzEnvironment     string `json:"azEnvironment"`
			VMScaleSetName    string `json:"vmScaleSetName"`
			OSType            string `json:"osType"`
			UserData          string `json:"userData"`
			TagsList          []struct {
				Name  string `json:"name"`
				Value string `json:"value"`
			} `json:"tagsList"`
			VMSize         string `json:"vmSize"`
			Priority       string `json:"priority"`
			StorageProfile struct {
				ImageReference struct{ ID, Publisher, Offer, SKU, Version string } `json:"imageReference"`
			} `json:"storageProfile"`
			OSProfile struct {
				ComputerName string `json:"computerName"`
			} `json:"osProfile"`
		} `json:"compute"`
	}
	if err := i.get(ctx, i.client, "/metadata/instance?api-version=2021-12-13", &body); err != nil {
		return Instance{}, err
	}
	c := body.Compute
	if len(c.VMID) > longestVMID || !vmID.MatchString(c.VMID) {
		return Instance{}, fault.New(fault.IMDS, "IMDS answered without a vmId (it gave %q)", snippet([]byte(c.VMID))).
			Passing().
			Hint("Something else than Azure's metadata service answers at %s; is this an Azure VM?", i.host)
	}
	v := Instance{
		VMID: strings.ToLower(c.VMID), Name: c.Name, ComputerName: c.OSProfile.ComputerName,
		ResourceID: c.ResourceID, ResourceGroup: c.ResourceGroupName, SubscriptionID: c.SubscriptionID,
		Location: c.Location, Zone: c.Zone, ScaleSet: c.VMScaleSetName, Cloud: c.AzEnvironment,
		OSType: c.OSType, UserData: c.UserData, Tags: map[string]string{},
		Size: c.VMSize, Image: c.StorageProfile.ImageReference.ID, Spot: c.Priority == "Spot" || c.Priority == "Low",
	}
	if i := c.StorageProfile.ImageReference; i.ID == "" && i.Publisher != "" {
		v.Image = strings.Join([]string{i.Publisher, i.Offer, i.SKU, i.Version}, ":")
	}
	if v.ComputerName == "" {
		v.ComputerName = c.Name // flexible scale sets and specialized images may have no osProfile
	}
	for _, t := range c.TagsList {
		v.Tags[t.Name] = t.Value
	}
	return v, nil
}

// Index is the number of this VM in its uniform scale set (web_3 → 3); "" elsewhere.
func (v Instance) Index() string {
	if i := strings.LastIndex(v.Name, "_"); i >= 0 && v.ScaleSet != "" && v.Name[:i] == v.ScaleSet {
		return v.Name[i+1:]
	}
	return ""
}

func (i *IMDS) get(ctx context.Context, client *http.Client, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+imdsHost+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Metadata", "true")
	res, err := client.Do(req)
	if err != nil {
		return fault.Connection(fault.IMDS, "the Instance Metadata Service", i.host, err).
			Passing().
			Retry(i.again()).
			Hint("%s", i.notAzure())
	}
	defer res.Body.Close() //nolint:errcheck // nothing was written
	i.away.Store(0)
	data, err := io.ReadAll(res.Body)
	if err != nil {
		return fault.Connection(fault.IMDS, "the Instance Metadata Service", i.host, err).Hint("%s", i.notAzure())
	}
	if res.StatusCode != http.StatusOK {
		e := fault.New(fault.IMDS, "the Instance Metadata Service answered %s: %s", res.Status, snippet(data)).
			Hint("%s", i.notAzure())
		if res.StatusCode == http.StatusBadRequest {
			e = e.About(ofRequest)
		}
		// 404 and 410 are answers of a service that is starting or being updated (up to 70 s).
		if res.StatusCode == http.StatusNotFound || fault.PassingStatus(res.StatusCode) {
			return e.Passing().Retry(fault.RetryAfter(res.Header))
		}
		return e
	}
	if err := json.Unmarshal(data, into); err != nil {
		e := fault.New(fault.IMDS, "%s answered something that is not instance metadata: %s", i.host, snippet(data)).
			Because(err).
			Hint("%s", i.notAzure())
		if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") {
			return e.Passing() // cut short
		}
		return e
	}
	return nil
}

// snippet is the beginning of an answer, on one line, for an error message.
func snippet(b []byte) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(b[:min(len(b), 300)]), "")), " ")
	if s == "" {
		return "(empty)"
	}
	return s
}
