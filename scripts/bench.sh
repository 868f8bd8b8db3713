#!/usr/bin/env bash
# The benchmark: one boot after the other by azp-bootstrap, by scripts that people write, and by the least that
# the protocols allow, against the same simulated Azure at its production names, on a Debian with its own systemd
# (systemd-nspawn) and its own network.
#
#   scripts/bench.sh BUILD [-bench-runs N] [-bench-only REGEXP] [-bench-docs /docs]
set -euo pipefail
exec 2>&1
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
shift
[ "$(id -u)" -eq 0 ] || { echo "bench needs root: it boots a machine and empties the page cache." >&2; exit 1; }
"$here/apt.sh" systemd-nspawn:systemd-container mmdebstrap:mmdebstrap
root=$("$here/systemd/root.sh" "$build" azure-cli,curl,iproute2,jq)

dir=$(mktemp -d /var/tmp/azp-bench-XXXXXX) # a disk, not memory
chmod 755 "$dir"
machine=""
cleanup() {
    status=$?
    if [ -n "$machine" ]; then
        kill "$machine" 2>/dev/null || true
        wait "$machine" 2>/dev/null || true
    fi
    ! mountpoint -q "$dir/root" || umount "$dir/root"
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

echo "Building the benchmark"
mkdir -p "$dir"/{bench,disk,upper,work,root}
(cd "$here/.." && go test -c -o "$dir/bench/bench.test" ./cmd/azp-bootstrap)
mount -t overlay overlay -o "lowerdir=$root,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
echo '127.0.0.1 localhost contoso.vault.azure.net dev.azure.com vstoken.dev.azure.com login.microsoftonline.com management.azure.com' >"$dir/root/etc/hosts"
cat >"$dir/root/etc/systemd/system/azp-bench.service" <<UNIT
[Unit]
Description=The benchmark
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/src/scripts/bench/machine.sh $(printf '"%s" ' "${@//\$/\$\$}")
ExecStopPost=/bin/systemctl --no-block poweroff
TimeoutStartSec=infinity
UNIT
mkdir -p "$dir/root/etc/systemd/system/multi-user.target.wants"
ln -s ../azp-bench.service "$dir/root/etc/systemd/system/multi-user.target.wants/"
: >"$dir/bench/log"
systemd-nspawn -q --register=no --keep-unit --private-network -D "$dir/root" --boot \
    --bind="$dir/bench:/bench" --bind="$dir/disk:/var/tmp" --bind-ro="$here/..:/src" --bind="$here/../docs:/docs" --bind-ro="$build:/programs" >"$dir/console.log" </dev/null &
machine=$!
tail -n +1 --pid="$machine" -f "$dir/bench/log"
wait "$machine" || true
machine=""
[ "$(cat "$dir/bench/status" 2>/dev/null)" = 0 ] || {
    tail -n 20 "$dir/console.log"
    echo "bench failed" >&2
    exit 1
}
