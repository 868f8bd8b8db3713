#!/bin/sh
# What %systemd_post does. RPM gives the number of versions that are installed now. The unit is enabled by its preset,
# and not started, because the image is not the VM; an upgrade leaves enabled or disabled as it is.
set -e
command -v systemctl >/dev/null || exit 0
if [ "${1:-}" = 1 ]; then
    systemctl --no-reload preset azp-bootstrap.service >/dev/null || true # it fails where the operator has masked it
fi
if [ -d /run/systemd/system ]; then # systemd's own file triggers do it as well, where there are any
    systemctl daemon-reload || true
fi
