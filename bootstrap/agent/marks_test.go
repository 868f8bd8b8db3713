package agent

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const at = "2026-11-26T12:00:00.123Z"

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
		before, rest, found := strings.Cut(string(data), "AZP_BOOTSTRAP_REGISTERED="+at+"\n")
		if !found {
			t.Errorf("%s does not say when", data)
		}
		shown := before + rest
		for _, l := range environmentLines(h.jobs(nil)) { // this machine's own
			shown = strings.Replace(shown, l+"\n", "", 1)
		}
		return shown
	}
	want := "AZP_BOOTSTRAP_INSTANCE_ID=id\nAZP_BOOTSTRAP_RESOURCE_GROUP=shop (1)\nAZP_BOOTSTRAP_SCALE_SET=web\n" +
		"AZP_BOOTSTRAP_SUBSCRIPTION_ID=1\nLANG=C.UTF-8\n"
	if got := shown(
		Registration{
			Marks: Marks{
				InstanceID:     "id",
				ScaleSet:       "web",
				ResourceGroup:  "shop (1)",
				SubscriptionID: "1",
				Registered:     at,
			},
		},
	); got != want {
		t.Errorf("%q", got)
	}
	want = "AZP_BOOTSTRAP_INSTANCE_ID=id\nLANG=C.UTF-8\n" // a single VM is of no scale set
	if got := shown(Registration{Marks: Marks{InstanceID: "id", Registered: at}}); got != want {
		t.Errorf("%q", got)
	}
	if err := (Registration{Marks: Marks{InstanceID: "id", SubscriptionID: "1\nLD_PRELOAD=x"}}).check(); err == nil {
		t.Error("a line break would begin a variable of its own")
	}
}

// .env is the service user's: before the agent starts, the marks are what the daemon knows,
// whatever a job made of them.
func TestMarksAreWrittenAnew(t *testing.T) {
	h := Home{Dir: t.TempDir(), User: "nobody"}
	m := Marks{InstanceID: "id", ScaleSet: "web", Registered: at}
	const marks = "AZP_BOOTSTRAP_INSTANCE_ID=id\nAZP_BOOTSTRAP_REGISTERED=" + at + "\nAZP_BOOTSTRAP_SCALE_SET=web\n"
	for before, want := range map[string]string{
		marks + "LANG=C.UTF-8\n": marks + "LANG=C.UTF-8\n",
		"LANG=C.UTF-8\n" + marks + "JAVA_HOME=/opt/java\nAZP_BOOTSTRAP_INSTANCE_ID=forged\n": marks + "LANG=C.UTF-8\nJAVA_HOME=/opt/java\n",
		" azp_bootstrap_instance_id=forged\r\nAZP_BOOTSTRAP_RESOURCE_GROUP=x\nA=b":           marks + "A=b\n",
		"": marks,
		"X=1\rAZP_BOOTSTRAP_INSTANCE_ID=forged\rY=2\nVSO_AGENT_IGNORE=a,AZP_BOOTSTRAP_INSTANCE_ID\n": marks + "X=1\nY=2\n",
	} {
		if err := os.WriteFile(filepath.Join(h.Dir, ".env"), []byte(before), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := h.mark(m); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(filepath.Join(h.Dir, ".env")); string(got) != want {
			t.Errorf("%q became %q", before, got)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	if err := errors.Join(
		os.WriteFile(other, []byte("X=y\n"), 0o644),
		os.Remove(filepath.Join(h.Dir, ".env")),
		os.Symlink(other, filepath.Join(h.Dir, ".env")),
	); err != nil {
		t.Fatal(err)
	}
	if err := h.mark(m); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(filepath.Join(h.Dir, ".env"))
	if left, _ := os.ReadFile(other); string(left) != "X=y\n" || string(got) != marks {
		t.Errorf("through a link: %q, %q", left, got)
	}
	folder := filepath.Join(h.Dir, ".env")
	if err := errors.Join(os.Remove(folder), os.MkdirAll(filepath.Join(folder, "a", "b"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := h.mark(m); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(folder); string(got) != marks {
		t.Errorf("in place of a folder: %q", got)
	}
}

// The agent's .capabilities holds what is configured, and what somebody else wrote there but for marks of a
// VM, which a job would forge: they count more than those of .env.
func TestCapabilities(t *testing.T) {
	h := Home{Dir: t.TempDir(), User: "nobody"}
	file := filepath.Join(h.Dir, ".capabilities")
	own := capabilitiesHead + "\ndotnet=8\nrack=a=b\n"
	for _, c := range []struct {
		name, before string
		configured   []string
		want         string
	}{
		{"none", "", nil, ""},
		{"first", "", []string{"dotnet=8", "rack=a=b"}, own},
		{"again", own, []string{"dotnet=8", "rack=a=b"}, own},
		{"a job changed ours", own + "AZP_BOOTSTRAP_INSTANCE_ID=forged\n", []string{"dotnet=8", "rack=a=b"}, own},
		{"configured no more", own, nil, ""},
		{"somebody else's", "gpu=1\n", nil, "gpu=1\n"},
		{"somebody else's, then configured", "gpu=1\n", []string{"dotnet=8", "rack=a=b"}, own},
		{"a job forges", "gpu=1\r\nazp_bootstrap_instance_id=forged\n", nil, "gpu=1\n"},
		{"a job hides it behind much", strings.Repeat("\n", 20<<20) + "AZP_BOOTSTRAP_INSTANCE_ID=forged\n", nil, ""},
		{"a job hides it in UTF-16", "\xff\xfeA\x00Z\x00P\x00_\x00B\x00=\x00x\x00", nil, ""},
		{"a job hides it behind a mark of UTF-16", "\xff\xfe=A", nil, ""},
		{"a job hides it in UTF-32", "\x00\x00\xfe\xff\x00\x00\x00A\x00\x00\x00=", nil, ""},
		{"a job forges, alone", "AZP_BOOTSTRAP_REGISTERED=x", nil, ""},
	} {
		if err := os.WriteFile(file, []byte(c.before), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := h.tell(Service{Capabilities: c.configured}); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(file); string(got) != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	other := filepath.Join(t.TempDir(), "other")
	_ = os.Remove(file)
	if err := errors.Join(os.WriteFile(other, []byte("X=y\n"), 0o644), os.Symlink(other, file)); err != nil {
		t.Fatal(err)
	}
	if err := h.tell(Service{Capabilities: []string{"dotnet=8"}}); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadFile(other); string(left) != "X=y\n" {
		t.Errorf("through a link: %q", left)
	}
}
