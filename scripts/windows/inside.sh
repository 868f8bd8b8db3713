#!/usr/bin/env bash
# Runs a script in a root file system, apart from this machine: with a loopback of its own and no other
# network, and with processes of its own, which end with it, whatever they are.
#
# What it writes there is gone afterwards, unless KEEP=1.
#
#   scripts/windows/inside.sh ROOT SCRIPT [FOLDER...]     each folder is at its own path there, to be read
set -euo pipefail
# shellcheck disable=SC2016 # the inner shell's
exec unshare --net --pid --mount --fork --kill-child -- bash -c '
    set -e
    root=$1 script=$2
    shift 2
    ip link set lo up
    if [ "${KEEP:-}" = 1 ]; then
        mount --bind "$root" "$root"
    else
        mount -t tmpfs tmpfs /mnt
        mkdir /mnt/upper /mnt/work /mnt/root
        mount -t overlay overlay -o "lowerdir=$root,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
        root=/mnt/root
    fi
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/tmp"
    for folder; do
        [ -d "$folder" ] || continue
        mkdir -p "$root$folder"
        mount --bind -o ro "$folder" "$root$folder"
    done
    install -m 755 "$script" "$root/tmp/inside.sh"
    cd "$root"
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb \
        chroot "$root" /tmp/inside.sh "$@"
' inside "$@"
