package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"

	"golang.org/x/sys/unix"
)

// At image time the account is not there yet.
func TestAFolderOfAnAccountToBe(t *testing.T) {
	h, _ := asNews(t)
	h.User = "azp-that-is-to-be"
	if err := h.ours(); err != nil {
		t.Error(err)
	}
}

// What a job has mounted in the agent's folder holds no registration up, and goes when it can.
func TestAMountInTheFolderHoldsNothingUp(t *testing.T) {
	h, _ := asNews(t)
	file, sum := archive(t, honest...)
	m, err := h.Prepare(file, sum, quiet)
	if err != nil {
		t.Fatal(err)
	}
	inside := h.path("_work/m")
	if err := os.MkdirAll(inside, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", inside, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("no mount here: %v", err)
	}
	left := func() (found []string) {
		found, _ = filepath.Glob(filepath.Join(h.keep(), asideName+"*", "_work/m"))
		return found
	}
	t.Cleanup(func() {
		for _, name := range append(left(), inside) {
			_ = unix.Unmount(name, unix.MNT_DETACH)
		}
	})
	if err := h.layFresh(m); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(inside); err == nil || !h.fresh(m.SHA256) {
		t.Errorf("the folder is not fresh: %v", err)
	}
	if len(left()) != 1 {
		t.Fatalf("the mount is in %v", left())
	}
	if err := unix.Unmount(left()[0], 0); err != nil {
		t.Fatal(err)
	}
	if err := h.layFresh(m); err != nil || len(left()) != 0 {
		t.Errorf("%v is still there: %v", left(), err)
	}
}

// Whatever a job has made of the files of a registration, folders or mounts, the VM can leave.
func TestWipeTakesWhatAJobMadeOfIt(t *testing.T) {
	for _, mounted := range []bool{false, true} {
		h, _ := asNews(t)
		file, sum := archive(t, honest...)
		if _, err := h.Prepare(file, sum, quiet); err != nil {
			t.Fatal(err)
		}
		if err := laid(h, "5c7a1b1e"); err != nil {
			t.Fatal(err)
		}
		for _, n := range registration {
			if err := os.MkdirAll(h.path(n+"/deep"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if inside := h.path(".env/deep"); mounted {
			if err := unix.Mount("tmpfs", inside, "tmpfs", 0, "size=64k"); err != nil {
				t.Skipf("no mount here: %v", err)
			}
			t.Cleanup(func() {
				all, _ := filepath.Glob(filepath.Join(h.keep(), asideName+"*", ".env/deep"))
				for _, name := range append(all, inside) {
					_ = unix.Unmount(name, unix.MNT_DETACH)
				}
			})
		}
		if err := h.Wipe(); err != nil {
			t.Fatalf("mounted %v: %v", mounted, err)
		}
		for _, n := range registration {
			if _, err := os.Lstat(h.path(n)); err == nil {
				t.Errorf("mounted %v: %s is still there", mounted, n)
			}
		}
		if id, err := h.Registered(); id != 0 || err != nil || h.LaidFor() != "" {
			t.Errorf("mounted %v: registered as %d for %q, %v", mounted, id, h.LaidFor(), err)
		}
		if err := laid(h, "another"); err != nil {
			t.Errorf("mounted %v: it cannot be laid again: %v", mounted, err)
		}
	}
}

// A file system that lets nothing run is named, at image time and before anything is registered.
func TestAFolderWhereNothingRuns(t *testing.T) {
	h, _ := asNews(t)
	folder := filepath.Dir(h.Dir)
	if err := unix.Mount("tmpfs", folder, "tmpfs", unix.MS_NOEXEC, "size=1m,mode=755"); err != nil {
		t.Skipf("no mount here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	file, sum := archive(t, honest...)
	_, err := h.Prepare(file, sum, quiet)
	for when, err := range map[string]error{"prepare": err, "run": (Runner{Home: h, Process: true}).Runnable()} {
		if f := fault.From(err); f == nil || f.Class != fault.Agent || !strings.Contains(f.Error(), "noexec") || f.Advice == "" {
			t.Errorf("%s: %v", when, err)
		}
	}
}

// An agent that is to be a service is not registered where nothing keeps services.
func TestAServiceNeedsSystemd(t *testing.T) {
	h := Home{Dir: t.TempDir()}
	if err := (Runner{Home: h, Process: true}).Runnable(); err != nil {
		t.Errorf("as a process: %v", err)
	}
	_, systemd := os.Stat("/run/systemd/system")
	err := Runner{Home: h}.Runnable()
	if able := systemd == nil && os.Geteuid() == 0; able != (err == nil) || err != nil && fault.From(err).Class != fault.Service {
		t.Errorf("as a service: %v", err)
	}
}
