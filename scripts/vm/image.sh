#!/usr/bin/env bash
# Builds the image for vm-test: a Debian root with the daemon's package installed, the agent package
# prepared, and sealed. DIR holds the simulator's CA; image.raw is written there.
#
#   scripts/vm/image.sh BUILD DIR BASE PACKAGE SHA256 [next]      (ARCH=arm64, by default amd64)
set -euo pipefail
build=$1 dir=$2 base=$3 package=$4 sum=$5
arch=${ARCH:-amd64}
here=$(cd "$(dirname "$0")/.." && pwd)
version=$("$build/azp-bootstrap" version --json | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p')
KINDS=deb "$here/package.sh" "$version" "$dir/package" "$arch" >"$dir/package.log" 2>&1 || { cat "$dir/package.log" >&2; exit 1; }

echo "== building the image"
root=$dir/root
mkdir -p "$root"
tar -xf "$base/root.tar" -C "$root"
emulated=()
[ "$arch" = amd64 ] || emulated=("$here/arm64/emulated.sh" "$build")
inside() { DEBIAN_FRONTEND=noninteractive "${emulated[@]}" chroot "$root" "$@"; }
mount -t proc proc "$root/proc"
cp "$dir"/package/*.deb "$root/tmp/azp-bootstrap.deb"
cp "$package" "$root/tmp/"
inside dpkg -i /tmp/azp-bootstrap.deb >/dev/null
cat >"$root/etc/azp-bootstrap/config.yaml" <<'YAML'
url: https://dev.azure.com/contoso
target: {pool: {name: Default}}
credential:
  keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}
YAML
inside azp-bootstrap config check >/dev/null
inside azp-bootstrap prepare --package "/tmp/$(basename "$package")" --sha256 "$sum"
rm "$root"/tmp/*
if [ "${6:-}" = next ]; then # to upgrade to
    KINDS=deb "$here/package.sh" 99.0.0 "$dir/next" "$arch" >"$dir/package.log" 2>&1 || { cat "$dir/package.log" >&2; exit 1; }
    cp "$dir"/next/*.deb "$root/root/next.deb"
fi

# What stands for Azure: its names, and the authority that signs for them.
cat "$dir/azure/ca.pem" >>"$root/etc/ssl/certs/ca-certificates.crt"
printf '127.0.0.1 localhost\n10.0.2.2 contoso.vault.azure.net dev.azure.com vstoken.dev.azure.com\n' >"$root/etc/hosts"
printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/10-eth0.network"
inside systemctl --quiet enable systemd-networkd systemd-networkd-wait-online
for service in docker.socket docker containerd firewalld; do # for the part "wall", which starts them
    [ ! -e "$root/lib/systemd/system/${service%.socket}.service" ] || inside systemctl --quiet disable "$service"
done
inside systemctl --quiet mask networking ifupdown-pre apt-daily.timer apt-daily-upgrade.timer e2scrub_reap.service
cat >"$root/etc/cloud/cloud.cfg.d/90-test.cfg" <<'YAML'
datasource_list: [NoCloud, Azure]
network: {config: disabled}
locale: false
ssh_genkeytypes: [ed25519]
manage_etc_hosts: false
YAML

# The examples of the documentation, checked by the cloud-init of this image.
cp "$here/../docs/deploy/cloud-init.yaml" "$root/tmp/"
inside cloud-init schema --config-file /tmp/cloud-init.yaml
rm "$root/tmp/cloud-init.yaml"

# The test, which powers the machine off.
install -m 755 "$here/vm/guest.sh" "$root/usr/local/sbin/azp-test"
cat >"$root/etc/systemd/system/azp-test.service" <<'UNIT'
[Unit]
Description=The test
After=multi-user.target
[Service]
Type=simple
ExecStart=/usr/local/sbin/azp-test
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=default.target
UNIT
inside systemctl --quiet enable azp-test
inside azp-bootstrap seal --deep
inside azp-bootstrap seal --deep --check
umount "$root/proc"
mke2fs -q -t ext4 -d "$root" "$dir/image.raw" 2500M
rm -rf "$root"
