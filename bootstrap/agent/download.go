package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"azp-bootstrap/bootstrap/fault"
)

// DownloadSource is Microsoft's download host for the agent (releaseNote.md of its repository).
const DownloadSource = "https://download.agent.dev.azure.com/agent"

// maxPackage bounds a download: real packages have 100 to 250 MB.
const maxPackage = 2 << 30

// Download fetches the package of a pin to a temporary file beside root's copy of the package,
// which the caller removes. What does not have the pinned sum is refused and leaves nothing.
// progress hears how much has come, and of how much (-1 = not known).
func (h Home) Download(
	ctx context.Context,
	client *http.Client,
	source string,
	pin Pin,
	progress func(done, total int64),
) (file string, err error) {
	file, got, err := h.Fetch(ctx, client, source, pin, progress)
	if err == nil && got != pin.SHA256 {
		h.Discard(file)
		return "", mismatch(pin.address(source), got, pin.SHA256)
	}
	return file, err
}

func (p Pin) address(source string) string {
	return strings.TrimRight(source, "/") + "/" + p.Version + "/" + p.File()
}

// Fetch is Download of a package whose sum is not known yet: sum is what came.
func (h Home) Fetch(
	ctx context.Context,
	client *http.Client,
	source string,
	pin Pin,
	progress func(done, total int64),
) (file, sum string, err error) {
	address := pin.address(source)
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return "", "", fault.New(fault.Usage, "--source %s is not an https URL", source).
			Hint("Write for example %s.", DownloadSource)
	}
	if err := os.MkdirAll(h.keep(), 0o755); err != nil { //nolint:gosec // readable on purpose: nothing secret
		return "", "", diskFault(err, "the package's folder "+h.keep())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", "", fault.Connection(fault.Network, "downloading "+address, u.Host, err)
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if res.StatusCode != http.StatusOK {
		e := fault.New(fault.Agent, "%s answered %s", address, res.Status).
			Hint("Is there such a version? See the agent's release page. Without a way out, give the file: " +
				"--package FILE.")
		if fault.PassingStatus(res.StatusCode) {
			return "", "", e.Passing().Retry(fault.RetryAfter(res.Header))
		}
		return "", "", e
	}
	dir, err := os.MkdirTemp(h.keep(), ".download-*")
	if err != nil {
		return "", "", diskFault(err, h.keep())
	}
	file = filepath.Join(dir, pin.File())
	sum, err = receive(res, file, progress)
	if err != nil {
		_ = os.RemoveAll(dir)
		var pe *os.PathError
		if errors.As(err, &pe) {
			return "", "", diskFault(err, file)
		}
		var own *fault.Error
		if errors.As(err, &own) {
			return "", "", err
		}
		return "", "", fault.Connection(fault.Network, "downloading "+address, u.Host, err)
	}
	return file, sum, nil
}

// Discard removes a download.
func (h Home) Discard(file string) { _ = os.RemoveAll(filepath.Dir(file)) }

func receive(res *http.Response, file string, progress func(done, total int64)) (sum string, err error) {
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		if e := out.Close(); err == nil {
			err = e
		}
	}()
	hash := sha256.New()
	buffer := make([]byte, 256<<10)
	for done := int64(0); ; {
		n, err := res.Body.Read(buffer)
		if done += int64(n); done > maxPackage {
			return "", fault.ErrTooLarge
		}
		_, _ = hash.Write(buffer[:n])
		if _, e := out.Write(buffer[:n]); e != nil {
			return "", e
		}
		progress(done, res.ContentLength)
		if err == io.EOF {
			return hex.EncodeToString(hash.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}
