#!/usr/bin/env bash
# Boots real virtual machines (QEMU; KVM where it works, else emulated) from an image with the daemon's
# package in it. Only Azure is simulated, at its true addresses and names: IMDS at 169.254.169.254, the vault and
# Azure DevOps behind TLS.
#
#   scripts/vm-test.sh BUILD PART...     quick, first, clones, cuts, late, memory, wall, idle; full is all of them but first
#
# RELEASE=trixie boots that Debian, by default this machine's. ARCH=arm64 boots machines for arm64, always emulated.
set -euo pipefail
build=$(cd "$1" && pwd)
parts=" ${*:2} "
case $parts in *" full "*) parts=" quick clones cuts late memory wall idle " ;; esac
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" -eq 0 ] || { echo "vm-test needs root: it makes network namespaces and a disk image." >&2; exit 1; }
case ${ARCH:=amd64} in
amd64) platform=linux-x64 system=(qemu-system-x86_64:qemu-system-x86) ;;
arm64)
    platform=linux-arm64 system=(qemu-system-aarch64:qemu-system-arm)
    [ -f /usr/share/qemu-efi-aarch64/QEMU_EFI.fd ] || system+=(QEMU_EFI.fd:qemu-efi-aarch64)
    ;;
*)
    echo "ARCH=$ARCH is unknown: amd64 or arm64" >&2
    exit 2
    ;;
esac
export ARCH
"$here/apt.sh" "${system[@]}" qemu-img:qemu-utils mmdebstrap:mmdebstrap ip:iproute2 jq:jq socat:socat genisoimage:genisoimage mke2fs:e2fsprogs python3:python3

dir=$(mktemp -d)
chmod 755 "$dir"
# shellcheck source=scripts/vm/lib.sh
. "$here/vm/lib.sh"
status=0
trap 'status=$?; vm_cleanup; rm -rf "$dir"; exit "$status"' EXIT
trap 'exit 130' INT TERM
say() { printf '== %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
has() { case $parts in *" $1 "*) return 0 ;; *) return 1 ;; esac }
keep() { # consoles are artifacts
    mkdir -p "$build/vm-test"
    cp "$1.console" "$build/vm-test/$(basename "$1")-$2.console"
}
# What jobs may reach the metadata service by; no other part needs it, and its services start with the part alone.
reaches=cron,at,uidmap,dbus-user-session,libpam-systemd,docker.io,busybox-static,ufw,firewalld
base=$("$here/vm/root.sh" "$build" "$(! has wall || echo $reaches)")
accel=$(accelerator)
say "machines run Debian ${RELEASE:-as this one} for $ARCH with: $accel"

# A PAT of this run's own, so that finding it anywhere means a leak.
pat=$(tr -dc a-z2-7 </dev/urandom | head -c 52 || true)
{
    echo "vms:"
    for n in 1 2 3 4 5; do # web_5 has the name of web_3
        echo "  - {id: 5c7a1b1e-000$n-4d3a-9a00-00000000000$n, name: web_$n, computerName: web-00000${n/5/3}, scaleSet: web, location: westeurope, resourceGroup: shop, subscriptionId: 11111111-2222-3333-4444-555555555555,"
        [ "$n" != 1 ] || echo "     userData: 'agent: {name: \"{{.ComputerName}}-by-user-data\"}',"
        echo "     identities: [{kind: system, clientId: aaaaaaaa-0000-4000-8000-000000000001, objectId: bbbbbbbb-0000-4000-8000-000000000001}]}"
    done
    "$build/azp-sim" scenario | sed "1,/^vaults:/{/^vaults:/!d}" | sed "s/simulatedpersonalaccesstoken[a-z2-7]*/$pat/"
} >"$dir/azure.yaml"
azure

package=vsts-agent-$platform-4.248.0.tar.gz
if [ "$ARCH" = amd64 ]; then
    sum=$("$build/azp-sim" agent-package "$dir/$package")
else # made of the program that makes it
    CGO_ENABLED=0 GOARCH=$ARCH go build -trimpath -ldflags '-s -w' -o "$dir/azp-sim" "$here/../cmd/azp-sim"
    sum=$("$here/arm64/emulated.sh" "$build" "$dir/azp-sim" agent-package "$dir/$package")
fi
"$here/vm/image.sh" "$build" "$dir" "$base" "$dir/$package" "$sum" "$(! has late || echo next)"

# disk NAME: a new disk from the image, and the user data that this VM is given.
disk() {
    qemu-img create -q -f qcow2 -F raw -b "$dir/image.raw" "$dir/$1"
    mkdir -p "$dir/seed"
    cat >"$dir/seed/user-data" <<'YAML'
#cloud-config
write_files:
  - path: /etc/azp-bootstrap/conf.d/50-target.yaml
    owner: root:root
    permissions: "0644"
    content: |
      target:
        environment: {project: Shop, name: production, tags: [written-by-cloud-init]}
YAML
    printf 'instance-id: %s\nlocal-hostname: %s\n' "$1" "$1" >"$dir/seed/meta-data"
    genisoimage -quiet -V cidata -J -r -o "$dir/$1.seed" "$dir/seed/user-data" "$dir/seed/meta-data" 2>/dev/null
}
# azureDisk NAME: a new disk from the image, and the provisioning CD that Azure gives a VM, with custom data in it.
azureDisk() {
    qemu-img create -q -f qcow2 -F raw -b "$dir/image.raw" "$dir/$1"
    mkdir -p "$dir/provisioning"
    custom=$(base64 -w 0 <<'YAML'
#cloud-config
write_files:
  - path: /etc/azp-bootstrap/conf.d/50-target.yaml
    owner: root:root
    permissions: "0644"
    content: |
      target:
        environment: {project: Shop, name: production, tags: [written-by-cloud-init]}
      sources: {userData: true}
YAML
    )
    cat >"$dir/provisioning/ovf-env.xml" <<XML
<?xml version="1.0" encoding="utf-8"?>
<ns0:Environment xmlns="http://schemas.dmtf.org/ovf/environment/1" xmlns:ns0="http://schemas.dmtf.org/ovf/environment/1" xmlns:ns1="http://schemas.microsoft.com/windowsazure">
  <ns1:ProvisioningSection><ns1:Version>1.0</ns1:Version><ns1:LinuxProvisioningConfigurationSet>
    <ns1:ConfigurationSetType>LinuxProvisioningConfiguration</ns1:ConfigurationSetType>
    <ns1:HostName>web-000001</ns1:HostName><ns1:UserName>azureuser</ns1:UserName>
    <ns1:DisableSshPasswordAuthentication>true</ns1:DisableSshPasswordAuthentication>
    <ns1:CustomData>$custom</ns1:CustomData>
  </ns1:LinuxProvisioningConfigurationSet></ns1:ProvisioningSection>
  <ns1:PlatformSettingsSection><ns1:Version>1.0</ns1:Version><ns1:PlatformSettings>
    <ns1:ProvisionGuestAgent>false</ns1:ProvisionGuestAgent><ns1:PreprovisionedVm>false</ns1:PreprovisionedVm>
  </ns1:PlatformSettings></ns1:PlatformSettingsSection>
</ns0:Environment>
XML
    genisoimage -quiet -V rd_rdfe_stable -udf -J -r -o "$dir/$1.ovf" "$dir/provisioning" 2>/dev/null
}
count() { sim agents --json | jq "[.[] | select(.status==\"$1\")] | length"; }
awaitOnline() {
    local _
    for _ in $(seq 1500); do
        [ "$(count online)" -lt "$1" ] || return 0
        sleep 0.2
    done
    return 1
}

for vm in web_1 web_2 web_3 web_4 web_5; do place "$vm"; done

passed=0
for part in $parts; do
    # shellcheck source=/dev/null
    . "$here/vm/$part.sh"
    passed=$((passed + 1))
done
say "vm-test:$parts($passed parts) passed; the consoles are in $build/vm-test"
