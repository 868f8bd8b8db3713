#!/bin/sh
# Debian gives "remove", RPM the number of versions that stay. The agent stays as it is and goes on.
set -e
case "${1:-}" in
remove | 0) ;;
*) exit 0 ;; # an upgrade
esac
unit=azp-bootstrap.service
state=/var/lib/azp-bootstrap/state.json
if [ -f $state ] && ! grep -q '"phase": *"removed"' $state; then
    agent=$(tr -d '\n' <$state | sed -n 's/.*"agent": *{ *"name": *"\([^"]*\)", *"id": *[1-9].*/\1/p')
    if [ -n "$agent" ]; then
        cat >&2 <<END
azp-bootstrap: the agent $agent of this VM stays registered in Azure DevOps and takes jobs until the next boot; nobody watches over it.
  Next: to take this VM out, azp-bootstrap deregister comes first; install the package again for that.
END
    fi
fi
if [ -d /run/systemd/system ]; then
    if command -v deb-systemd-invoke >/dev/null; then
        deb-systemd-invoke stop $unit >/dev/null || true
    else
        systemctl stop $unit || true
    fi
fi
# The wall before Azure's metadata service (agent.metadata) goes with the daemon that looks after it.
wall=azp-bootstrap-metadata.service units=/etc/systemd/system
if [ -f $units/$wall ]; then
    rm -f $units/$wall $units/sysinit.target.wants/$wall
    if [ -d /run/systemd/system ]; then
        systemctl stop $wall || true
        ! command -v nft >/dev/null || nft delete table inet azp_bootstrap 2>/dev/null || true
    fi
fi
for file in "$units"/vsts.agent.*.service.d/azp-bootstrap-metadata.conf; do
    if [ -f "$file" ]; then
        rm -f "$file"
        rmdir "${file%/*}" 2>/dev/null || true
    fi
done
# As %systemd_preun. Debian keeps the links and masks the unit (see postremove-deb.sh).
if command -v systemctl >/dev/null && { [ "$1" = 0 ] || ! command -v deb-systemd-helper >/dev/null; }; then
    systemctl --no-reload disable $unit >/dev/null 2>&1 || true
fi
