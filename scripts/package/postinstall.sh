#!/bin/sh
# Debian gives "configure" and, on an upgrade, the version before; RPM the number of installed versions.
set -e
case "${1:-}:${2:-}" in
configure: | 1:*) first=yes ;;
*) first= ;;
esac
command -v systemctl >/dev/null || exit 0
if [ -n "$first" ]; then
    # Enabled, not started: the image is not the VM. This works in a chroot as well.
    systemctl --no-reload preset azp-bootstrap.service >/dev/null 2>&1 || systemctl --no-reload enable azp-bootstrap.service
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload
if [ -z "$first" ]; then
    systemctl try-restart azp-bootstrap.service # on a VM that is ready it only verifies
fi
