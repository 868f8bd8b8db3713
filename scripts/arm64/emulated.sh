#!/usr/bin/env bash
# Runs COMMAND, as root, where programs for arm64 run by QEMU as if this machine were one. The kernel is told how by
# binfmt_misc, in a user namespace of its own (Linux 6.7): nothing is registered with, or installed on, the machine.
# Processes are of a namespace of their own as well, and end with COMMAND.
#
#   scripts/arm64/emulated.sh BUILD COMMAND...
set -euo pipefail
build=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
if [ "${EMULATED:-}" = "$here" ]; then # inside
    mount -t proc proc /proc
    mount -t tmpfs tmpfs /dev/shm # what others mount in there could not be bound elsewhere from here
    if mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc; then
        # An ELF header of 64 bits, little endian, a program (2) or a shared object (3), EM_AARCH64; F: QEMU is opened here.
        printf '%s' ':arm64:M::\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00' \
            ":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:$build/cache/qemu-aarch64-static:F" \
            >/proc/sys/fs/binfmt_misc/register
    elif [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ]; then
        echo "this kernel has no binfmt_misc for a user namespace, as Linux 6.7 has: install qemu-user-static" >&2
        exit 1
    fi
    unset EMULATED
    exec "$@"
fi

"$here/../apt.sh" unshare:util-linux
qemu=$build/cache/qemu-aarch64-static
dir=$(mktemp -d)
inside=""
# shellcheck disable=SC2317 # by the trap
cleanup() {
    status=$?
    [ -z "$inside" ] || kill "$inside" 2>/dev/null || true
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
if [ ! -x "$qemu" ]; then # only unpacked: installed, it would register itself with the machine
    echo "Fetching Debian's qemu-user-static (once; kept in $qemu)" >&2
    mkdir -p "$build/cache"
    (cd "$dir" && { apt-get download -qq qemu-user-static || { apt-get update -qq && apt-get download -qq qemu-user-static; }; } >/dev/null 2>&1 && dpkg -x qemu-user-static_*.deb x) ||
        { echo "apt has no qemu-user-static" >&2; exit 1; }
    cp "$dir/x/usr/bin/qemu-aarch64-static" "$dir/qemu"
    mv "$dir/qemu" "$qemu"
fi

# All numbers of users, not one range of them: who runs here owns the files of the agent's account, too.
mkfifo "$dir/ready" "$dir/go"
# shellcheck disable=SC2016 # of that shell
EMULATED=$here unshare --user --mount --pid --fork --kill-child \
    sh -c 'echo >"$0/ready"; read -r _ <"$0/go"; exec "$@"' "$dir" "$0" "$build" "$@" &
inside=$!
read -t 20 -r _ <>"$dir/ready" || { echo "no user namespace can be made here" >&2; exit 1; }
echo "0 0 65536" >"/proc/$inside/uid_map"
echo "0 0 65536" >"/proc/$inside/gid_map"
echo >"$dir/go"
status=0
wait "$inside" || status=$?
inside=""
exit "$status"
