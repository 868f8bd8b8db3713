# Virtual machines for tests, and the network that they stand in: each has a network namespace of its own,
# where IMDS answers at 169.254.169.254 and Azure's names lead to the simulator, as in production. Sourced.
# Needs: build, here (the folder scripts), dir (a temporary folder), base (root.tar, vmlinuz, initrd).
# shellcheck shell=bash
: "${build:?}" "${dir:?}" "${here:?}" # and base, accel and pat, by the time they are used

pids=()
namespaces=()
vm_cleanup() {
    local p n
    for p in "${pids[@]}"; do kill "$p" 2>/dev/null || true; done
    for n in "${namespaces[@]}"; do ip netns del "$n" 2>/dev/null || true; done
    ! mountpoint -q "$dir/root/proc" || umount "$dir/root/proc"
}

# accelerator says kvm where it really boots a kernel, and tcg elsewhere.
accelerator() {
    if [ "${ARCH:-amd64}" = arm64 ]; then
        echo "-accel tcg,thread=multi,tb-size=512 -cpu max,pauth-impdef=on" # authenticated pointers as Arm says take half the time
        return
    fi
    # shellcheck disable=SC2154
    if [ -w /dev/kvm ] && [ ! -f "$build/cache/no-kvm" ]; then
        timeout 20 qemu-system-x86_64 -accel kvm -cpu host -m 256 -display none -monitor none -no-reboot -serial "file:$dir/kvm.log" \
            -kernel "$base/vmlinuz" -append "console=ttyS0 panic=-1" -nic none >/dev/null 2>&1 || true
        if grep -qa 'Linux version' "$dir/kvm.log" 2>/dev/null; then
            echo "-accel kvm -cpu host"
            return
        fi
        touch "$build/cache/no-kvm"
    fi
    echo "-accel tcg,thread=multi,tb-size=512 -cpu max"
}

bridge() { # NAMESPACE LISTEN CONNECT: socat, in a namespace
    ip netns exec "$1" socat "$2,fork,reuseaddr" "$3" 2>>"$dir/socat.log" &
    pids+=($!)
}

# azure: the simulator, in a namespace of its own, from $dir/azure.yaml.
azure() {
    azure=azp-$$-azure
    namespaces+=("$azure")
    ip netns add "$azure"
    ip -n "$azure" link set lo up
    ip netns exec "$azure" "$build/azp-sim" serve --dir "$dir/azure" --scenario "$dir/azure.yaml" --tls 127.0.0.1:443 --tls 127.0.0.1:8080 2>"$dir/sim.log" &
    pids+=($!)
    local _
    for _ in $(seq 200); do
        [ ! -f "$dir/azure/sim.json" ] || break
        sleep 0.05
    done
    bridge "$azure" "UNIX-LISTEN:$dir/tls.sock" TCP:127.0.0.1:443
}
sim() { ip netns exec "$azure" "$build/azp-sim" --dir "$dir/azure" "$@"; }

# place VM: the network of a VM of the scenario.
place() {
    local ns=azp-$$-$1 port
    port=$(jq -r ".imds[\"$1\"]" "$dir/azure/sim.json")
    namespaces+=("$ns")
    ip netns add "$ns"
    ip -n "$ns" link set lo up
    ip -n "$ns" addr add 169.254.169.254/32 dev lo
    bridge "$azure" "UNIX-LISTEN:$dir/imds-$1.sock" "TCP:${port#http://}"
    ip -n "$ns" addr add 168.63.129.16/32 dev lo
    ip netns exec "$ns" "$here/vm/wireserver.py" 168.63.129.16 "$dir/wire-$1.log" &
    pids+=($!)
    bridge "$ns" TCP-LISTEN:443,bind=127.0.0.1 "UNIX-CONNECT:$dir/tls.sock"
    imdsUp "$1"
}
imdsUp() { bridge "azp-$$-$1" TCP-LISTEN:80,bind=169.254.169.254 "UNIX-CONNECT:$dir/imds-$1.sock"; }
imdsDown() { pkill -f "UNIX-CONNECT:$dir/imds-$1.sock"; }

# power VM DISK MODE [QEMU ARGUMENTS]: one boot, to its power-off or the limit; the console is in
# DISK.console.
power() {
    local vm=$1 disk=$2 mode=$3
    shift 3
    local seed=()
    [ ! -f "$disk.seed" ] || seed=(-drive "file=$disk.seed,if=virtio,format=raw,readonly=on")
    # Azure's VMs say so in their chassis' asset tag, and find their provisioning data on a CD, which is gone at the next boot.
    [ ! -f "$disk.azure" ] || seed=(-smbios "type=3,asset=7783-7084-3265-9085-8269-3286-77")
    [ ! -f "$disk.ovf" ] || seed+=(-cdrom "$disk.ovf")
    local rc=0 try
    for try in 1 2 3; do
        qemu "$@" || rc=$?
        [ "$rc" = 139 ] && [ "$try" != 3 ] || return "$rc"
        echo "QEMU itself crashed; for the VM that is a power cut: it boots again" >&2
        rc=0
    done
}
# uuid VM: its SMBIOS UUID, which is its vmId; web_4 is of the first generation, which shows three groups in the other byte order.
uuid() {
    case ${1#web_} in
    4) echo 1e1b7a5c-0400-3a4d-9a00-000000000004 ;;
    *) echo "5c7a1b1e-000${1#web_}-4d3a-9a00-00000000000${1#web_}" ;;
    esac
}
qemu() { # with power's vm, disk, mode and seed
    local machine=(qemu-system-x86_64) console=ttyS0
    if [ "${ARCH:-amd64}" = arm64 ]; then # as Azure's, which start by UEFI; it hands SMBIOS on
        machine=(qemu-system-aarch64 -machine virt -bios /usr/share/qemu-efi-aarch64/QEMU_EFI.fd) console=ttyAMA0
    fi
    # shellcheck disable=SC2086,SC2154 # words; accel is set by the caller from accelerator
    ip netns exec "azp-$$-$vm" timeout "${limit:-900}" "${machine[@]}" $accel -smp 2 -m 1024 -uuid "$(uuid "$vm")" -display none -monitor none -no-reboot \
        -serial "file:$disk.console" -kernel "$base/vmlinuz" -initrd "$base/initrd" \
        -append "root=/dev/vda rw console=$console net.ifnames=0 azptest=$mode ${append:-}" \
        -drive "file=$disk,if=virtio,format=qcow2,cache=unsafe" "${seed[@]}" \
        -netdev user,id=n0 -device virtio-net-pci,netdev=n0,romfile= "$@"
}

# powerCut DISK: the power of the machine that runs on this disk.
powerCut() { pkill -KILL -f "qemu-system.*file=$1,"; }

# passed DISK: what the guest found, from its disk.
passed() {
    qemu-img convert -O raw "$1" "$1.raw"
    debugfs -R "cat /var/lib/azp-test/log" "$1.raw" 2>/dev/null || true
    # shellcheck disable=SC2154 # set by the caller
    ! grep -qaF "$pat" "$1.raw" "$1.console" || { echo "FAILED: the PAT is on the disk or the console of $1" >&2; return 1; }
    debugfs -R "stat /var/lib/azp-test/passed" "$1.raw" 2>/dev/null | grep -q Inode || {
        echo "FAILED: the end of the console:" >&2
        tail -n 40 "$1.console" >&2
        return 1
    }
    rm -f "$1.raw"
}
