#!/usr/bin/env bash
# Builds an image with Packer's qemu builder: a Debian disk, booted, provisioned over SSH as an image for Azure
# would be, sealed, shut down. With the stand-in agent, unless PACKAGE and LOCK name another. The image is
# BUILD/image/azp-bootstrap.qcow2; the kernel to boot it with lies beside it.
#
#   scripts/image.sh BUILD
set -euo pipefail
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
"$here/apt.sh" qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils mmdebstrap:mmdebstrap mke2fs:e2fsprogs ssh-keygen:openssh-client python3:python3
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
base=$("$here/vm/root.sh" "$build")
# shellcheck source=scripts/vm/lib.sh
. "$here/vm/lib.sh"
accel=$(accelerator)
accelerator=tcg
case $accel in *kvm*) accelerator=kvm ;; esac
echo "== the machine runs with $accelerator"

version=$("$build/azp-bootstrap" version --json | sed -n 's/.*"version": *"\([^"]*\)".*/\1/p')
KINDS=deb "$here/package.sh" "$version" "$dir/dist" amd64
if [ -z "${PACKAGE:-}" ]; then
    PACKAGE=$dir/vsts-agent-linux-x64-4.248.0.tar.gz LOCK=$dir/agent.lock
    sum=$("$build/azp-sim" agent-package "$PACKAGE")
    echo "linux-x64 4.248.0 $sum" >"$LOCK"
fi

echo "== making the disk to begin with"
mkdir -p "$dir/root" "$dir/seed"
tar -xf "$base/root.tar" -C "$dir/root"
printf '[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n' >"$dir/root/etc/systemd/network/10-eth0.network"
printf 'datasource_list: [NoCloud]\nnetwork: {config: disabled}\nlocale: false\nssh_genkeytypes: [ed25519]\n' >"$dir/root/etc/cloud/cloud.cfg.d/90-image.cfg"
echo '127.0.0.1 localhost' >"$dir/root/etc/hosts"
chroot "$dir/root" systemctl --quiet enable systemd-networkd systemd-networkd-wait-online
chroot "$dir/root" systemctl --quiet mask networking apt-daily.timer apt-daily-upgrade.timer
mke2fs -q -t ext4 -d "$dir/root" "$dir/base.raw" 2G
qemu-img convert -O qcow2 "$dir/base.raw" "$dir/base.qcow2"
rm -rf "$dir/root" "$dir/base.raw"
ssh-keygen -q -t ed25519 -N '' -C packer -f "$dir/seed.key"
cat >"$dir/seed/user-data" <<YAML
#cloud-config
users:
  - name: packer
    shell: /bin/bash
    sudo: "ALL=(ALL) NOPASSWD:ALL"
    ssh_authorized_keys: ["$(cat "$dir/seed.key.pub")"]
YAML
printf 'instance-id: image-build\nlocal-hostname: image-build\n' >"$dir/seed/meta-data"

packer=$(scripts/packer.sh which "$build")
folder=$(scripts/packer.sh folder "$packer" packer/local -- "$dir")
rm -rf "$build/image"
echo "== packer build, by $("$packer" version | head -n 1)"
PACKER_CACHE_DIR=$dir/cache "$packer" build -color=false \
    -var "base_image=$dir/base.qcow2" -var "kernel=$base/vmlinuz" -var "initrd=$base/initrd" -var "accelerator=$accelerator" \
    -var "seed=$dir/seed" -var "ssh_key=$dir/seed.key" -var "package=$(echo "$dir"/dist/*.deb)" -var "agent_package=$PACKAGE" -var "lock=$LOCK" \
    -var "output=$build/image" "$folder"
echo "== looking into the image"
qemu-img convert -O raw "$build/image/azp-bootstrap.qcow2" "$dir/image.raw"
mkdir "$dir/mnt"
if mount -o loop,ro "$dir/image.raw" "$dir/mnt"; then
    "$build/azp-bootstrap" seal --deep --check --root "$dir/mnt" || { umount "$dir/mnt"; exit 1; }
    umount "$dir/mnt"
else
    echo "no loop devices here: not looked into" >&2
fi
cp "$base/vmlinuz" "$base/initrd" "$build/image/"
ls -l "$build/image"
