#!/usr/bin/env bash
# Tests the packages: two builds give the same bytes; in a Debian root the .deb installs enabled and not
# started, an upgrade keeps the configuration, a purge leaves nothing; the .rpm holds the same files.
#
#   scripts/package-test.sh BUILD
set -euo pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "package-test needs root: it installs into a root file system." >&2; exit 1; }
scripts/apt.sh mmdebstrap:mmdebstrap rpm:rpm

dir=$(mktemp -d)
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

scripts/package.sh 1.0.0 "$dir/one" amd64
scripts/package.sh 1.0.0 "$dir/two" amd64 >/dev/null
cmp "$dir/one/SHA256SUMS" "$dir/two/SHA256SUMS" || fail "two builds of the same commit differ"
echo "  ok: two builds, the same bytes"
scripts/package.sh 1.0.1 "$dir/next" amd64 >/dev/null

root=$(scripts/systemd/root.sh "$build")
mkdir -p "$dir"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$root,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cp "$dir/one/"*.deb "$dir/root/one.deb"
cp "$dir/next/"*.deb "$dir/root/next.deb"
inside() { DEBIAN_FRONTEND=noninteractive chroot "$dir/root" "$@"; }

inside dpkg -i one.deb >/dev/null
inside azp-bootstrap version --json | grep -Eq '"version": ?"1\.0\.0"' || fail "the version is not that of the package"
[ "$(inside systemctl is-enabled azp-bootstrap)" = enabled ] || fail "not enabled after the installation"
! inside azp-bootstrap config check 2>/dev/null || fail "the configuration as it comes says something"
echo "  ok: installed, enabled, nothing configured"
cat >"$dir/root/etc/azp-bootstrap/config.yaml" <<'YAML'
url: https://dev.azure.com/contoso
target: {pool: {name: Default}}
credential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}
YAML
inside azp-bootstrap config check >/dev/null || fail "config check"
inside systemctl disable azp-bootstrap 2>/dev/null
mkdir -p "$dir/root/var/lib/azp-bootstrap"
echo '{}' >"$dir/root/var/lib/azp-bootstrap/state.json"
inside dpkg -i next.deb >/dev/null
inside azp-bootstrap config check >/dev/null || fail "the upgrade lost the configuration"
[ "$(inside systemctl is-enabled azp-bootstrap || true)" = disabled ] || fail "the upgrade enabled what was disabled"
[ -f "$dir/root/var/lib/azp-bootstrap/state.json" ] || fail "the upgrade lost the state"
echo "  ok: upgraded; configuration, state and the wish to be disabled are kept"
inside dpkg -r azp-bootstrap >/dev/null 2>&1
[ -f "$dir/root/etc/azp-bootstrap/config.yaml" ] || fail "removing it lost the configuration"
inside dpkg -P azp-bootstrap >/dev/null 2>&1
left=$(find "$dir/root"/{etc,usr,var/lib} -name '*azp-bootstrap*' | sed "s,^$dir/root,," | grep -v /var/lib/dpkg/ || true)
[ -z "$left" ] || fail "the purge left: $left"
echo "  ok: purged, nothing is left"

files() { grep -v '/$' | sort; }
dpkg-deb -c "$dir"/one/*.deb | awk '{print $6}' | sed 's/^\.//' | files >"$dir/deb.list"
rpm -qlp "$dir"/one/*.rpm >"$dir/rpm.all"
while read -r f; do grep -qxF "$f" "$dir/rpm.all" || fail "the .rpm lacks $f"; done <"$dir/deb.list"
rpm -qp --configfiles "$dir"/one/*.rpm | grep -qx /etc/azp-bootstrap/config.yaml || fail "the .rpm's configuration is not one"
rpm -K --nosignature "$dir"/one/*.rpm | grep -q 'digests OK' || fail "the .rpm's digests"
grep -q '"bomFormat": "CycloneDX"' "$dir"/one/*.cdx.json || fail "no bill of materials"
grep -q 'pkg:golang/github.com/sirupsen/logrus@' "$dir"/one/*.cdx.json || fail "the bill of materials names no modules"
echo "  ok: the .rpm holds the same files; the bill of materials names every module"
echo "package-test: passed"
