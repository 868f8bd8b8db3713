//go:build linux

package agent

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"azp-bootstrap/bootstrap/fault"
)

// anELF is the beginning of a program for a processor, which a loader starts ("" = none).
func anELF(machine elf.Machine, loader string) []byte {
	header := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56,
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
	}
	var out bytes.Buffer
	if loader != "" {
		header.Phnum = 1
	}
	_ = binary.Write(&out, binary.LittleEndian, header)
	if loader != "" {
		size := uint64(len(loader) + 1)
		_ = binary.Write(&out, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 120, Filesz: size, Memsz: size})
		out.WriteString(loader + "\x00")
	}
	return out.Bytes()
}

// A package whose sum is right and whose program cannot run here is refused before it is laid, and leaves nothing.
func TestAForeignPackageIsRefused(t *testing.T) {
	here, other := processors[runtime.GOARCH].machine, elf.EM_AARCH64
	if here == other {
		other = elf.EM_X86_64
	}
	loader := filepath.Join(t.TempDir(), "ld.so")
	if err := os.WriteFile(loader, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		program []byte
		want    string // "" = taken
	}{
		"this machine's":             {anELF(here, loader), ""},
		"static":                     {anELF(here, ""), ""},
		"a script":                   {[]byte("#!/bin/sh\n"), ""},
		"cut short":                  {anELF(here, "")[:30], ""},
		"another processor's":        {anELF(other, loader), "its program is for " + processors[map[bool]string{true: "arm64", false: "amd64"}[other == elf.EM_AARCH64]].name},
		"one that nobody knows":      {anELF(elf.EM_S390, ""), "EM_S390"},
		"musl's":                     {anELF(here, "/nowhere/ld-musl-x86_64.so.1"), "for musl, and /nowhere/ld-musl-x86_64.so.1 is not here"},
		"glibc's, where there is no": {anELF(here, "/nowhere/ld-linux-x86-64.so.2"), "for glibc"},
	} {
		t.Run(name, func(t *testing.T) {
			file, sum := archive(t, append(honest, entry{name: "./bin/Agent.Listener", text: string(c.program), kind: tar.TypeReg})...)
			h := home(t)
			_, err := h.Prepare(file, sum, quiet)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f := fault.From(err)
			if err == nil || f.Class != fault.Agent || !strings.Contains(err.Error(), c.want) || !strings.Contains(f.Advice, Platform()) {
				t.Errorf("%v; %v", err, f)
			}
			if _, err := os.Stat(h.Dir); err == nil {
				t.Error("it was laid")
			}
			left(t, h)
		})
	}
}

func TestPinOf(t *testing.T) {
	for name, want := range map[string]Pin{
		"vsts-agent-linux-x64-4.248.0.tar.gz": {"linux-x64", "4.248.0", ""}, "vsts-agent-linux-musl-arm64-4.1.0.tar.gz": {"linux-musl-arm64", "4.1.0", ""},
		"vsts-agent-win-x64-4.248.0.zip": {"win-x64", "4.248.0", ""}, "agent.tar.gz": {}, "vsts-agent-linux-x64.tar.gz": {},
	} {
		if pin, ok := PinOf(name); pin != want || ok != (want != Pin{}) {
			t.Errorf("%s: %+v %v", name, pin, ok)
		}
	}
}
