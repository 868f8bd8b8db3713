package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheAgentShowsWhoseItIs(t *testing.T) {
	h := Home{Dir: t.TempDir(), User: "nobody"}
	shown := func(r Registration) string {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(h.Dir, ".env")); err != nil {
			t.Fatal(err)
		}
		if err := h.furnish(r); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(h.Dir, ".env"))
		if err != nil {
			t.Fatal(err)
		}
		before, rest, _ := strings.Cut(string(data), "AZP_BOOTSTRAP_REGISTERED=")
		at, rest, _ := strings.Cut(rest, "\n")
		if when, err := time.Parse(time.RFC3339, at); err != nil || time.Since(when) > time.Minute {
			t.Errorf("registered %q", at)
		}
		return before + rest
	}
	want := "AZP_BOOTSTRAP_INSTANCE_ID=id\nAZP_BOOTSTRAP_RESOURCE_GROUP=shop (1)\nAZP_BOOTSTRAP_SCALE_SET=web\n" +
		"AZP_BOOTSTRAP_SUBSCRIPTION_ID=1\nLANG=C.UTF-8\n"
	if got := shown(Registration{InstanceID: "id", ScaleSet: "web", ResourceGroup: "shop (1)", SubscriptionID: "1"}); got != want {
		t.Errorf("%q", got)
	}
	want = "AZP_BOOTSTRAP_INSTANCE_ID=id\nLANG=C.UTF-8\n" // a single VM is of no scale set
	if got := shown(Registration{InstanceID: "id"}); got != want {
		t.Errorf("%q", got)
	}
	if err := (Registration{InstanceID: "id", SubscriptionID: "1\nLD_PRELOAD=x"}).check(); err == nil {
		t.Error("a line break would begin a variable of its own")
	}
}
