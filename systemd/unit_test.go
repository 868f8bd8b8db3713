package systemd

import (
	"slices"
	"strings"
	"testing"
)

// What the daemon's unit says, and why. A directive that is added, changed or left out is one that
// a test must know of.
func TestDirectives(t *testing.T) {
	const (
		description   = "Description=Join this VM to Azure Pipelines"
		documentation = "Documentation=file:/usr/share/doc/azp-bootstrap/README.md"
		after         = "After=network.target cloud-init.service cloud-init-network.service dbus.service nss-user-lookup.target"
		reload        = `ExecReload=/bin/sh -c 'kill -HUP "$MAINPID"'`
		capabilities  = "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_KILL"
		families      = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK"
	)
	whys := map[string]string{
		"StartLimitIntervalSec=0":                        "a daemon that systemd gives up on never joins its VM",
		"Type=notify":                                    "the boot goes on when the daemon is up, not when the agent is online",
		"NotifyAccess=main":                              "what the daemon starts must not speak for it",
		"ExecStart=/usr/bin/azp-bootstrap run":           "install and the packages replace this very line",
		"Restart=on-failure":                             "a daemon that crashed or was killed watches again",
		"RestartSec=30":                                  "not in a loop that takes a processor, and asks Azure over and over",
		"RestartPreventExitStatus=2":                     "a command line that is wrong stays wrong",
		"KillMode=control-group":                         "config.sh, which holds the PAT, goes with the daemon",
		"TimeoutStopSec=60":                              "the agent is told to go before the VM is down",
		"StateDirectory=azp-bootstrap":                   "the state is root's own folder",
		"StateDirectoryMode=0755":                        "status is for everyone to read, and for nobody else to write",
		"ExecReload=/usr/bin/azp-bootstrap config check": "a bad file fails the reload where the operator sees it",
		"LogsDirectory=azure/azp-bootstrap":              "the last words of a VM that failed lie where the guest agent collects them",
		"ConfigurationDirectory=azp-bootstrap":           "it is there for whoever writes the configuration",
		"LimitCORE=0":                                    "a core file may hold the PAT",
		"MemorySwapMax=0":                                "a swap device may hold the PAT",
		"OOMScoreAdjust=-950":                            "the kernel ends jobs first, then the agent, then the daemon",
		"OOMPolicy=continue":                             "a process of config.sh's that is killed ends alone",
		"NoNewPrivileges=yes":                            "no set-user-ID program helps config.sh",
		"ProtectSystem=full":                             "/usr and /etc are not the daemon's to write",
		"ReadWritePaths=/etc/systemd/system":             "but for the agent's unit",
		"PrivateTmp=yes":                                 "what others put into /tmp is not what the daemon finds",
		"ProtectKernelTunables=yes":                      "no business of the daemon's",
		"ProtectKernelModules=yes":                       "no business of the daemon's",
		"ProtectKernelLogs=yes":                          "no business of the daemon's",
		"ProtectControlGroups=yes":                       "the daemon reads control groups, and changes none",
		"ProtectClock=yes":                               "no business of the daemon's",
		"ProtectHostname=yes":                            "no business of the daemon's",
		"RestrictNamespaces=yes":                         "no business of the daemon's",
		"RestrictRealtime=yes":                           "no business of the daemon's",
		"RestrictSUIDSGID=yes":                           "nobody leaves a program behind that runs as root",
		"LockPersonality=yes":                            "no business of the daemon's",
		"SystemCallArchitectures=native":                 "another architecture's calls pass the filter by",
		"SystemCallFilter=@system-service":               "no business of the daemon's",
		"SystemCallErrorNumber=EPERM":                    "a program that tries gets an error, and is not killed",
		"UMask=0022":                                     "what the daemon writes is root's to change",
		"WantedBy=multi-user.target":                     "it starts at each boot",
		after:                                            "cloud-init writes configuration that user data brings",
		reload:                                           "a reload reads the configuration anew; a minimal image has no /bin/kill",
		capabilities:                                     "config.sh runs as another user, gets a folder, and is ended; no more",
		families:                                         "D-Bus and the network, name resolution included",
		description:                                      "people read it",
		documentation:                                    "people read it",
	}
	var is []string
	for _, line := range strings.Split(Unit, "\n") {
		if strings.Contains(line, "=") && !strings.HasPrefix(line, "#") {
			is = append(is, line)
		}
	}
	for _, line := range is {
		if whys[line] == "" {
			t.Errorf("why does the unit say %s?", line)
		}
	}
	for line, why := range whys {
		if n := strings.Count("\n"+strings.Join(is, "\n")+"\n", "\n"+line+"\n"); n != 1 {
			t.Errorf("the unit says %s %d times: %s", line, n, why)
		}
	}
	sections := slices.DeleteFunc(
		strings.Split(Unit, "\n"),
		func(line string) bool { return !strings.HasPrefix(line, "[") },
	)
	if !slices.Equal(sections, []string{"[Unit]", "[Service]", "[Install]"}) {
		t.Errorf("sections: %q", sections)
	}
}
