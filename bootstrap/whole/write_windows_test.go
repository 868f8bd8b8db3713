package whole

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// TestWriteIsWhole: who reads meanwhile finds an old file or a new one, never less.
func TestWriteIsWhole(t *testing.T) {
	name := filepath.Join(t.TempDir(), "state.json")
	whole := func(n int) []byte { return bytes.Repeat([]byte(fmt.Sprintf("%04d", n)), 1<<14) }
	if err := Write(name, whole(0), 0o600); err != nil {
		t.Fatal(err)
	}
	stop, read := make(chan struct{}), make(chan int)
	go func() {
		seen := 0
		for {
			select {
			case <-stop:
				read <- seen
				return
			case <-time.After(5 * time.Millisecond): // nobody reads it without a pause
			}
			data, err := os.ReadFile(name)
			if inUse(err) || errors.Is(err, os.ErrNotExist) { // Wine replaces by removing first
				continue
			}
			if err != nil || len(data) != 4<<14 || !bytes.Equal(data, bytes.Repeat(data[:4], 1<<14)) {
				t.Errorf("read %d bytes, %v", len(data), err)
			}
			seen++
		}
	}()
	for n := 1; n <= 30; n++ {
		if err := Write(name, whole(n), 0o600); err != nil {
			t.Error(n, err)
		}
	}
	close(stop)
	if seen := <-read; seen == 0 {
		t.Error("nothing was read meanwhile")
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(name), ".*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestWriteWaits: a file that another program holds for a moment is no reason to fail.
func TestWriteWaits(t *testing.T) {
	name := filepath.Join(t.TempDir(), "state.json")
	write(t, name)
	p, _ := windows.UTF16PtrFromString(name)
	alone, err := windows.CreateFile(p, windows.GENERIC_READ, 0, nil, windows.OPEN_EXISTING, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		time.Sleep(300 * time.Millisecond)
		_ = windows.CloseHandle(alone)
	}()
	if err := Write(name, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(name); string(data) != "new" {
		t.Errorf("%q, %v", data, err)
	}
}
