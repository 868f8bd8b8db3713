#!/bin/bash
# Runs as root on the machine that becomes the image: installs the daemon's package, its configuration and
# the agent that the lock file pins. Packer puts the files into /tmp.
set -euo pipefail
cd "${FROM:-/tmp}" # elsewhere in scripts/provision-test.sh
# SSH answers before the first boot is done; what cloud-init writes later would miss the sealing.
if command -v cloud-init >/dev/null; then
    cloud-init status --wait || true
fi
# The package must be this system's: what the package manager says of another does not name the way out.
shopt -s nullglob
if command -v dpkg >/dev/null; then
    kind=deb machine=$(dpkg --print-architecture) ours=(./azp-bootstrap_*.deb) wanted="azp-bootstrap_VERSION_$machine.deb"
    architecture() { dpkg-deb -f "$1" Architecture; }
    add() { dpkg -i "$1"; }
else
    kind=rpm machine=$(rpm --eval '%{_arch}') ours=(./azp-bootstrap-*.rpm) wanted="azp-bootstrap-VERSION.$machine.rpm"
    architecture() { rpm -qp --nosignature --queryformat '%{ARCH}' "$1"; }
    add() { rpm -U --replacepkgs "$1"; }
fi
if [ ${#ours[@]} -ne 1 ]; then
    echo "This system takes one .$kind for $machine, and $(echo ./azp-bootstrap*.{deb,rpm}) is here. Set package to dist/$wanted (make packages builds it)." >&2
    exit 1
fi
if [ "$(architecture "${ours[0]}")" != "$machine" ]; then
    echo "${ours[0]} is for $(architecture "${ours[0]}"), and this machine is $machine. Set package to dist/$wanted, or vm_size and the source to the other architecture's." >&2
    exit 1
fi
add "${ours[0]}"
install -o root -g root -m 644 config.yaml /etc/azp-bootstrap/config.yaml
azp-bootstrap config check
packages=(./vsts-agent-*.tar.gz)
if [ ${#packages[@]} -gt 0 ]; then # a build without a network
    azp-bootstrap prepare --lock agent.lock --package "${packages[0]}"
else
    azp-bootstrap prepare --lock agent.lock
fi
rm -f ./azp-bootstrap_*.deb ./azp-bootstrap-*.rpm ./vsts-agent-*.tar.gz config.yaml agent.lock
[ "$(systemctl is-enabled azp-bootstrap)" = enabled ]
