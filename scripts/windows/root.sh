#!/usr/bin/env bash
# Makes a Debian 13 root file system with Wine, and in it a Windows that was booted once; prints its
# folder. Debian 12's Wine 8 starts no program of today's Go, and knows less of files; Wine 10 does.
#
#   scripts/windows/root.sh BUILD
set -euo pipefail
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
suite=trixie packages=ca-certificates,wine,wine64
mkdir -p "$build/cache"
exec 9>"$build/cache/wine.lock" && flock 9
root=$build/cache/wine-$suite-$( (printf %s "$packages"; cat "$0" "$here/boot.sh") | sha256sum | cut -c1-12)
if [ ! -f "$root.done" ]; then
    echo "Making a Debian $suite root with $packages (once, about two minutes; kept in $root)" >&2
    rm -rf "$root"
    mmdebstrap --quiet --variant=minbase --include="$packages" --dpkgopt='path-exclude=/usr/share/doc/*' "$suite" "$root" >&2
    KEEP=1 "$here/inside.sh" "$root" "$here/boot.sh" >&2
    touch "$root.done"
fi
echo "$root"
