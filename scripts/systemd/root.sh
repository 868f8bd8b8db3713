#!/usr/bin/env bash
# Makes a small Debian root file system with systemd for containers, once for each list of packages, and
# prints its folder.
#
#   scripts/systemd/root.sh BUILD [MORE,PACKAGES]
set -euo pipefail
build=$(cd "$1" && pwd)
# shellcheck disable=SC1091 # the system's own
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
packages=systemd,systemd-sysv,dbus,ca-certificates${2:+,$2}
mkdir -p "$build/cache"
exec 9>"$build/cache/root.lock" && flock 9 # suites that run side by side make it once
root=$build/cache/$suite-$(printf %s "$packages" | sha256sum | cut -c1-12)
if [ ! -f "$root.done" ]; then
    echo "Making a Debian $suite root with $packages (once; kept in $root)" >&2
    rm -rf "$root"
    mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$root" >&2
    touch "$root.done"
fi
echo "$root"
