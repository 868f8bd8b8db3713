package agent

import (
	"debug/elf"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// processors are this program's architectures, in the words of ELF and of the agent's packages.
var processors = map[string]struct {
	machine elf.Machine
	name    string
}{
	"amd64": {elf.EM_X86_64, "x64"},
	"arm64": {elf.EM_AARCH64, "arm64"},
	"arm":   {elf.EM_ARM, "arm"},
}

// foreign refuses an unpacked package whose program cannot run here: one of another processor, or of the other C
// library. Its sum may well be the pinned one, if a line of the lock file has another platform's. Where no ELF
// program is, nothing is known, and config.sh will say what is wrong.
func (h Home) foreign(folder string) error {
	file, err := h.Tree.Open(filepath.Join(folder, "bin", "Agent.Listener"))
	if err != nil {
		return nil //nolint:nilerr // not such a package
	}
	defer file.Close() //nolint:errcheck // only read
	machine, loader, err := program(file)
	if err != nil {
		return nil //nolint:nilerr // not an ELF program
	}
	refuse := func(why string, args ...any) error {
		return fault.New(fault.Agent, "the package is of another platform: "+why, args...).
			Hint("This machine takes %s. If the sum was right, a line of the lock file has another platform's: "+
				"write it again with azp-bootstrap prepare --pin VERSION.", Pin{Platform(), "VERSION", ""}.File())
	}
	here := processors[runtime.GOARCH]
	if machine != here.machine {
		name := machine.String()
		for _, p := range processors {
			if p.machine == machine {
				name = p.name
			}
		}
		return refuse("its program is for %s, and this machine is %s", name, here.name)
	}
	if loader == "" {
		return nil
	}
	if _, err := h.Tree.Stat(loader); errors.Is(err, os.ErrNotExist) {
		library := "glibc"
		if strings.Contains(loader, "musl") {
			library = "musl"
		}
		return refuse("its program is for %s, and %s is not here", library, loader)
	}
	return nil
}

// program reads for which processor an ELF program is, and which loader starts it ("" = none).
func program(file io.ReaderAt) (machine elf.Machine, loader string, err error) {
	f, err := elf.NewFile(file)
	if err != nil {
		return 0, "", err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 1<<10 {
			text, err := io.ReadAll(p.Open())
			return f.Machine, strings.TrimRight(string(text), "\x00"), err
		}
	}
	return f.Machine, "", nil
}
