#!/usr/bin/env bash
# The demo's whole boot as linux-arm64: the .deb for arm64 is installed in a Debian root in which every program is for
# arm64, run by QEMU (scripts/arm64/emulated.sh), with the agent's stand-in and all that the daemon starts.
#
#   scripts/arm64-test.sh BUILD
set -euo pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "arm64-test needs root: it makes a root file system." >&2; exit 1; }
scripts/apt.sh mmdebstrap:mmdebstrap
# shellcheck disable=SC1091 # the system's own
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")

dir=$(mktemp -d)
chmod 755 "$dir"
cleanup() {
    status=$?
    ! mountpoint -q "$dir/root" || umount "$dir/root"
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
fail() {
    echo "FAILED: $1" >&2
    exit 1
}

KINDS=deb scripts/package.sh 1.0.0 "$dir/package" arm64
mkdir -p "$dir"/{upper/build,work,root}
CGO_ENABLED=0 GOARCH=arm64 go build -trimpath -ldflags '-s -w' -o "$dir/upper/build/" ./cmd/azp-sim

# Unpacked only, which runs nothing: a few seconds.
base=$build/cache/arm64-$suite
if [ ! -f "$base.done" ]; then
    echo "Unpacking a Debian $suite root for arm64 (once; kept in $base)"
    rm -rf "$base"
    mmdebstrap --quiet --variant=extract --arch=arm64 --include=dpkg,libc-bin,dash,bash,coreutils,sed,grep,mawk,tar,gzip,diffutils,findutils "$suite" "$base" 2>/dev/null
    printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n' >"$base/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$base/etc/group"
    touch "$base.done"
fi
mount -t overlay overlay -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cp "$dir"/package/*.deb "$dir/root/build/"
"$build/azp-sim" agent-package "$dir/root/build/vsts-agent-linux-x64-4.248.0.tar.gz" >/dev/null # for this machine
cat >"$dir/root/build/test" <<'SH'
set -euo pipefail
[ "$(uname -m)" = aarch64 ]
dpkg -i /build/*.deb
ln -s /usr/bin/azp-bootstrap /build/azp-bootstrap
azp-bootstrap version --json | grep '"linux/arm64"'
printf 'url: https://dev.azure.com/contoso\ntarget: {pool: {name: Default}}\nagent: {user: nobody}\ncredential: {keyVault: {url: https://contoso.vault.azure.net}}\n' >/etc/azp-bootstrap/config.yaml
cd /build
sum=$(sha256sum vsts-agent-linux-x64-*.tar.gz)
code=0
azp-bootstrap prepare --package vsts-agent-linux-x64-*.tar.gz --sha256 "${sum%% *}" 2>&1 | tee refused || code=$?
[ "$code" = 17 ]
grep 'its program is for x64, and this machine is arm64' refused
grep 'This machine takes vsts-agent-linux-arm64-VERSION.tar.gz' refused
echo "ok: a package of an x64 machine is refused"
/build/azp-sim demo --target environment --server services 2>&1 | tee demo
grep '^unpacking into' demo
grep 'verifying .*/vsts-agent-linux-arm64-4.248.0.tar.gz' demo
grep '^● ready' demo
grep '^online   web-000001 ' demo
SH
began=$SECONDS
# shellcheck disable=SC2016 # of that shell
scripts/arm64/emulated.sh "$build" sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" /bin/bash /build/test' "$dir/root" >"$dir/said" 2>&1 || { cat "$dir/said"; fail "as linux-arm64"; }
grep -E '^  (ready|target)|^online|^Setting up|^ok:' "$dir/said"
echo "arm64-test: passed; $((SECONDS - began)) s emulated"
