#!/usr/bin/env bash
# Makes a Debian root file system that boots in a virtual machine, with its kernel and a small initrd;
# once for each list of packages. Prints the folder that holds them: root.tar, vmlinuz, initrd.
#
#   scripts/vm/root.sh BUILD [MORE,PACKAGES]   (RELEASE=trixie, by default this machine's; ARCH=arm64, by default amd64)
set -euo pipefail
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
arch=${ARCH:-amd64}
# shellcheck disable=SC1091 # the system's own
suite=${RELEASE:-$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")}
# openssh-server is how packer comes in; nftables is what the daemon's package recommends.
packages=systemd,systemd-sysv,dbus,udev,cloud-init,linux-image-cloud-$arch,initramfs-tools,ca-certificates,iproute2,curl,procps,openssh-server,sudo,nftables${2:+,$2}
out=$build/cache/vm-$suite-$arch-$( (printf %s "$packages"; cat "$0") | sha256sum | cut -c1-12)
if [ ! -f "$out/done" ]; then
    echo "Making a Debian $suite root for $arch with $packages (once, about two minutes, emulated ten; kept in $out)" >&2
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
    make=(mmdebstrap --quiet "--arch=$arch" --variant=important "--include=$packages" "--customize-hook=$out/initrd.sh" "$suite" "$out/root.tar")
    if [ "$arch" != amd64 ]; then # sysfs is not mounted in a user namespace, and nothing here wants it
        make=("$here/../arm64/emulated.sh" "$build" "${make[@]}" "--skip=check/qemu,chroot/mount/sys")
    fi
    "${make[@]}" >&2
    tar -xf "$out/root.tar" -C "$out" --wildcards --strip-components=2 './boot/vmlinuz-*' './boot/initrd.img-*'
    mv "$out"/vmlinuz-* "$out/vmlinuz"
    mv "$out"/initrd.img-* "$out/initrd"
    touch "$out/done"
fi
echo "$out"
