package azure

import (
	"context"
	"errors"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// ofRequest is the subject of IMDS's refusals of a request, such as one for a version that it does not have.
const ofRequest = "request"

// InStandbyPool asks whether this VM stands in a standby pool of its scale set
// (learn.microsoft.com/azure/virtual-machine-scale-sets/standby-pools-get-details, "Instance details":
// isVmInStandbyPool is true there, and false when the VM has moved to the scale set). IMDS gives it as a text,
// empty elsewhere. An IMDS that does not know the version, or the field, has no such pools.
func (i *IMDS) InStandbyPool(ctx context.Context) (bool, error) {
	var compute struct {
		Standby any `json:"isVmInStandbyPool"`
	}
	err := i.get(ctx, i.client, "/metadata/instance/compute?api-version=2023-11-15", &compute)
	var f *fault.Error
	if errors.As(err, &f) && f.Subject == ofRequest {
		return false, nil
	}
	switch is := compute.Standby.(type) {
	case bool:
		return is, err
	case string:
		return strings.EqualFold(is, "true"), err
	}
	return false, err
}
