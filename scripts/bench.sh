#!/usr/bin/env bash
# The benchmark: one boot after the other by azp-bootstrap, by scripts that people write, and by the least that
# the protocols allow, against the same simulated Azure at its production names in a network of its own.
#
#   scripts/bench.sh BUILD [-bench-runs N] [-bench-docs DIR]
set -euo pipefail
exec 2>&1
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
shift
[ "$(id -u)" -eq 0 ] || { echo "bench needs root: it makes a network namespace and empties the page cache." >&2; exit 1; }
"$here/apt.sh" az:azure-cli ip:iproute2 jq:jq curl:curl setpriv:util-linux

dir=$(mktemp -d)
chmod 755 "$dir"
ns=azp-bench-$$
cleanup() {
    status=$?
    ip netns del "$ns" 2>/dev/null || true
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

echo "Building the benchmark"
(cd "$here/.." && go test -c -o "$dir/bench.test" ./cmd/azp-bootstrap)
ip netns add "$ns"
ip -n "$ns" link set lo up
ip -n "$ns" addr add 169.254.169.254/32 dev lo
echo '127.0.0.1 localhost contoso.vault.azure.net dev.azure.com vstoken.dev.azure.com login.microsoftonline.com management.azure.com' >"$dir/hosts"
cd "$here/../cmd/azp-bootstrap"
# shellcheck disable=SC2016 # the inner shell expands them
ip netns exec "$ns" unshare --mount sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$dir/hosts" \
    "$dir/bench.test" -test.run '^TestBench$' -test.v -test.timeout 3h -bench-programs "$build" "$@"
