#!/bin/bash
# Runs as root on the machine that becomes the image: installs the daemon's package, its configuration and
# the agent that the lock file pins. Packer puts the files into /tmp.
set -euo pipefail
cd /tmp
# SSH answers before the first boot is done; what cloud-init writes later would miss the sealing.
if command -v cloud-init >/dev/null; then
    cloud-init status --wait || true
fi
if command -v dpkg >/dev/null; then
    dpkg -i ./azp-bootstrap_*.deb
else
    rpm -U --replacepkgs ./azp-bootstrap-*.rpm
fi
install -o root -g root -m 644 config.yaml /etc/azp-bootstrap/config.yaml
azp-bootstrap config check
shopt -s nullglob
packages=(./vsts-agent-*.tar.gz)
if [ ${#packages[@]} -gt 0 ]; then # a build without a network
    azp-bootstrap prepare --lock agent.lock --package "${packages[0]}"
else
    azp-bootstrap prepare --lock agent.lock
fi
rm -f ./azp-bootstrap_*.deb ./azp-bootstrap-*.rpm ./vsts-agent-*.tar.gz config.yaml agent.lock
[ "$(systemctl is-enabled azp-bootstrap)" = enabled ]
