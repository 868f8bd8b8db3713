#!/bin/sh
# The agent stays as it is and goes on; azp-bootstrap deregister, before this, takes the VM out.
set -e
case "${1:-}" in
remove | 0) ;;
*) exit 0 ;; # an upgrade
esac
command -v systemctl >/dev/null || exit 0
if [ -d /run/systemd/system ]; then
    systemctl stop azp-bootstrap.service
fi
systemctl --no-reload disable azp-bootstrap.service >/dev/null 2>&1 || true
