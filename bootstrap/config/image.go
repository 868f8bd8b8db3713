package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"azp-bootstrap/bootstrap/tree"
)

// ImageTime is what image time needs of the configuration, the rest of which may come later.
type ImageTime struct {
	Dir, User string // of the agent
	Groups    []string
	Start     string // folder of start scripts
	Metadata  string // agent.metadata
	Network   Network
}

// ForImage reads what image time needs. Without a file it is the defaults.
func ForImage(file string, flags []string) (ImageTime, error) {
	return ForImageIn(tree.Tree{}, file, flags)
}

// ForImageIn is ForImage for another image than this machine.
func ForImageIn(image tree.Tree, file string, flags []string) (t ImageTime, err error) {
	l, err := LoadFrom(image, file, os.Environ(), flags)
	if err != nil {
		if _, statErr := image.Stat(file); !errors.Is(statErr, fs.ErrNotExist) {
			return t, err
		}
		l = &Loader{}
	}
	values := map[string]string{}
	for _, key := range []string{
		"agent.dir", "agent.user", "agent.metadata", "start.run", "network.proxy", "network.noProxy", "network.caFile",
	} {
		values[key], _ = defaults[key].(string)
		for _, layer := range append(append([]Layer{}, l.local...), l.top...) {
			if v, ok := layer.Values[key]; ok {
				values[key], _ = v.Any.(string)
			}
		}
	}
	for _, layer := range append(append([]Layer{}, l.local...), l.top...) {
		if v, ok := layer.Values["agent.groups"]; ok {
			t.Groups, _ = v.Any.([]string)
		}
	}
	t.Dir, t.User = filepath.Clean(values["agent.dir"]), values["agent.user"]
	t.Start, t.Metadata = values["start.run"], values["agent.metadata"]
	t.Network = Network{
		Proxy:   values["network.proxy"],
		NoProxy: values["network.noProxy"],
		CAFile:  values["network.caFile"],
	}
	wrong := &findings{of: &Config{Agent: Agent{User: t.User, Groups: t.Groups}}}
	if wrong.of.checkGroups(wrong); len(wrong.all) > 0 {
		return t, wrong.all.Err()
	}
	if !filepath.IsAbs(t.Dir) || t.Dir == "/" {
		return t, Problems{
			{file, "agent.dir", "not an absolute path of a folder of its own", "Write for example /opt/azp-agent."},
		}.Err()
	}
	return t, nil
}
