#!/usr/bin/env bash
# Makes a Debian root file system that boots in a virtual machine, with its kernel and a small initrd;
# once for each list of packages. Prints the folder that holds them: root.tar, vmlinuz, initrd.
#
#   scripts/vm/root.sh BUILD [MORE,PACKAGES]
set -euo pipefail
build=$(cd "$1" && pwd)
# shellcheck disable=SC1091 # the system's own
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
# openssh-server is how packer comes in; nftables is what the daemon's package recommends.
packages=systemd,systemd-sysv,dbus,udev,cloud-init,linux-image-cloud-amd64,initramfs-tools,ca-certificates,iproute2,curl,procps,openssh-server,sudo,nftables${2:+,$2}
out=$build/cache/vm-$suite-$( (printf %s "$packages"; cat "$0") | sha256sum | cut -c1-12)
if [ ! -f "$out/done" ]; then
    echo "Making a Debian $suite root with $packages (once, about two minutes; kept in $out)" >&2
    rm -rf "$out"
    mkdir -p "$out"
    cat >"$out/initrd.sh" <<'HOOK'
#!/bin/sh
# What the disk needs, and what shows a CD to cloud-init: a small initrd boots faster.
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/small"
printf '%s\n' virtio_pci virtio_blk virtio_net ext4 isofs udf ata_piix sr_mod cdrom >"$1/etc/initramfs-tools/modules"
chroot "$1" update-initramfs -u -k all
rm -f "$1/etc/hostname" "$1"/etc/ssh/ssh_host_*
HOOK
    chmod +x "$out/initrd.sh"
    mmdebstrap --quiet --variant=important --include="$packages" --customize-hook="$out/initrd.sh" "$suite" "$out/root.tar" >&2
    tar -xf "$out/root.tar" -C "$out" --wildcards --strip-components=2 './boot/vmlinuz-*' './boot/initrd.img-*'
    mv "$out"/vmlinuz-* "$out/vmlinuz"
    mv "$out"/initrd.img-* "$out/initrd"
    touch "$out/done"
fi
echo "$out"
