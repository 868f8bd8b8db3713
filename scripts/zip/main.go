// Command zip writes an archive of which the same files give the same bytes.
//
//	zip OUT SECONDS NAME=FILE...     all of this time, in the order given
package main

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := write(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(to, seconds string, files []string) error {
	at, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return err
	}
	out, err := os.Create(to) //nolint:gosec // the caller names it
	if err != nil {
		return err
	}
	z := zip.NewWriter(out)
	for _, pair := range files {
		name, file, _ := strings.Cut(pair, "=")
		if err := add(z, name, file, time.Unix(at, 0).UTC()); err != nil {
			return err
		}
	}
	if err := z.Close(); err != nil {
		return err
	}
	return out.Close()
}

func add(z *zip.Writer, name, file string, at time.Time) error {
	in, err := os.Open(file) //nolint:gosec // the caller names it
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // only read
	w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: at})
	if err != nil {
		return err
	}
	_, err = io.Copy(w, in)
	return err
}
