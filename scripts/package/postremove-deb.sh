#!/bin/sh
# What debhelper writes for dh_installsystemd: what is removed is masked, because its links stay until the purge: they
# tell the next installation that the unit was enabled. A purge removes them, and what is not a file of the package: the
# state, and pieces of the configuration. The agent's own folder is no part of the package: it is left alone.
set -e
unit=azp-bootstrap.service
helper() {
    ! command -v deb-systemd-helper >/dev/null || deb-systemd-helper "$1" $unit >/dev/null || true
}
case "${1:-}" in
remove) helper mask ;;
purge)
    state=/var/lib/azp-bootstrap/state.json
    if [ -f $state ] && ! grep -q '"phase": *"removed"' $state &&
        tr -d '\n' <$state | grep -q '"agent": *{[^}]*"id": *[1-9]'; then
        cat >&2 <<END
azp-bootstrap: the purge deletes what was known of the agent of this VM, which stays registered.
  Next: stop and disable its service (systemctl list-units 'vsts.agent.*'), and delete the agent in Azure DevOps.
END
    fi
    helper purge
    helper unmask
    rm -f /etc/systemd/system/$unit.before-package # see azp-bootstrap install
    rm -rf /var/lib/azp-bootstrap /etc/azp-bootstrap /var/log/azure/azp-bootstrap
    ;;
esac
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
