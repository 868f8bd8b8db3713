#!/bin/sh
# Debian's purge removes what is not a file of the package: the state, and pieces of the configuration.
# The agent's own folder is no part of the package: it is left alone.
set -e
if [ "${1:-}" = purge ]; then
    rm -rf /var/lib/azp-bootstrap /etc/azp-bootstrap
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
