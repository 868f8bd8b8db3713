#!/usr/bin/env bash
# Installs what is missing with apt: each argument is COMMAND:PACKAGE.
set -euo pipefail
missing=()
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "Installing ${missing[*]} with apt" >&2
exec 9>/tmp/azp-bootstrap-apt.lock && flock 9 # suites that run side by side install one after the other
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
