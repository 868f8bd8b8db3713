package image

import "os"

func (i *image) hostName() string {
	name, _ := os.Hostname()
	return name
}

// On Windows, sysprep makes the image anew: logs and the machine's identity are its business.
func (i *image) cleanLogs() error { return nil }
func (i *image) cleanDeep() error { return nil }
func (i *image) lintDeep()        {}
