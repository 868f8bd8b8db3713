package agent

import (
	"maps"
	"slices"
	"testing"
)

// An image's file as actions/runner-images and people write it, and what jobs find of it.
func TestJobsEnvironment(t *testing.T) {
	const image = `# made by the image
PATH="/opt/pipx_bin:$HOME/.local/bin:/usr/local/bin:/usr/bin:/bin"
JAVA_HOME_17_X64=/usr/lib/jvm/temurin-17-jdk-amd64 # LTS
export ANDROID_HOME='/usr/local/lib/android'
  XDG_CONFIG_HOME=${HOME}/.config
EMPTY=
1BAD=x
no line at all
https_proxy=http://user:password@proxy:3128
AZP_BOOTSTRAP_INSTANCE_ID=another
CHROME_BIN=/usr/bin/chrome
`
	got := jobsEnvironment(image, []string{"CHROME_BIN=/opt/chrome", "EXTRA=a=b", "ANDROID_HOME="}, "/home/azp")
	want := map[string]string{
		"PATH":             "/opt/pipx_bin:/home/azp/.local/bin:/usr/local/bin:/usr/bin:/bin",
		"JAVA_HOME_17_X64": "/usr/lib/jvm/temurin-17-jdk-amd64",
		"XDG_CONFIG_HOME":  "/home/azp/.config",
		"CHROME_BIN":       "/opt/chrome",
		"EXTRA":            "a=b",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if lines := environmentLines(got); slices.ContainsFunc(lines, func(l string) bool { return l[:5] == "PATH=" }) || len(lines) != 4 {
		t.Errorf("the lines of .env: %q", lines)
	}
	if left := jobsEnvironment("", nil, ""); len(left) != 0 {
		t.Errorf("made of nothing: %v", left)
	}
}
