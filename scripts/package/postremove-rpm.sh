#!/bin/sh
# What %systemd_postun_with_restart does. RPM gives the number of versions that are installed still.
set -e
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || true
if [ "${1:-0}" -ge 1 ]; then # an upgrade; on a VM that is ready the daemon only verifies
    systemctl try-restart azp-bootstrap.service || true
fi
