#!/usr/bin/env bash
# Validates the folders of packer/, with empty files where a build has real ones, and holds their variables to what
# they refuse.
#
#   scripts/packer-validate.sh BUILD      (CI_FULL=1 builds Packer 1.9.4 first, if there is none but Debian's)
set -euo pipefail
cd "$(dirname "$0")/.."
build=$1
scripts/apt.sh ssh-keygen:openssh-client
packer=$(scripts/packer.sh which "$build")
if [ "${CI_FULL:-}" = 1 ] && [[ $("$packer" version) = *v1.[0-6].* ]]; then
    packer=$(scripts/packer.sh build "$build")
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
touch "$dir/azp-bootstrap_1.0.0_amd64.deb" "$dir/azp-bootstrap_1.0.0_windows_amd64.zip" "$dir/base.qcow2"
mkdir "$dir/seed"
ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
azure=(-var "package=$dir/azp-bootstrap_1.0.0_amd64.deb" -var "program=$dir/azp-bootstrap_1.0.0_windows_amd64.zip" -var subscription_id=00000000-0000-0000-0000-000000000000)
local=(-var "package=$dir/azp-bootstrap_1.0.0_amd64.deb" -var "base_image=$dir/base.qcow2" -var base_checksum=none -var "seed=$dir/seed" -var "ssh_key=$dir/key")
"$packer" version | head -n 1

echo "-- packer/local"
folder=$(scripts/packer.sh folder "$packer" packer/local "${local[@]}" -- "$dir")
quietly() { "$@" >"$dir/said" 2>&1 || { cat "$dir/said" >&2; exit 1; }; } # 1.9 warns that its plugins are of yesterday
quietly "$packer" validate "${local[@]}" "$folder"

folder=$(scripts/packer.sh folder "$packer" packer/azure "${azure[@]}" -- "$dir")
validate=("$packer" validate)
case "$folder, $("$packer" version)" in
packer/azure,*) echo "-- packer/azure, as it is" ;;
*v1.[0-6].*)
    echo "-- packer/azure: its syntax and variables only (make packer builds one whose plugin knows galleries)"
    validate+=(-syntax-only)
    ;;
*) echo "-- packer/azure, without what plugin 1.4 does not know: security_type and its like, target_region, OIDC by URL" ;;
esac
quietly "${validate[@]}" "${azure[@]}" "$folder"
for file in packer/azure/sources/*.pkrvars.hcl; do
    sed "s,\"dist/[^\"]*\",\"$dir/&,; s,$dir/\",$dir/," "$file" >"$dir/some.pkrvars.hcl"
    mkdir -p "$dir/dist" && sed -n 's,.*"dist/\(.*\)".*,\1,p' "$file" | while read -r name; do touch "$dir/dist/$name"; done
    quietly "${validate[@]}" "${azure[@]}" -var-file "$dir/some.pkrvars.hcl" "$folder"
    echo "   $file"
done

echo "-- what packer/azure refuses"
refused=0
refuse() { # what it must say, then the settings
    if "$packer" validate "${azure[@]}" "${@:2}" "$folder" >"$dir/said" 2>&1; then
        echo "taken: ${*:2}" >&2
        exit 1
    fi
    tr -s '\n│ ' ' ' <"$dir/said" | grep -qF "$1" || { echo "${*:2}: it does not say: $1" >&2; cat "$dir/said" >&2; exit 1; }
    refused=$((refused + 1))
}
refuse 'must be three numbers' -var image_version=v1.0.0
refuse 'must be three numbers' -var image_version=1.0.0-rc1
refuse 'must be three numbers' -var image_version=
refuse 'must be a GUID' -var subscription_id=Contoso
refuse 'the application ID, not the object ID' -var client_id=me
refuse 'must be cli, identity or oidc' -var sign_in=msi
refuse 'not West Europe' -var 'location=West Europe'
refuse 'not North Europe' -var 'target_regions={"North Europe"=1}'
refuse 'with 1 to 100 replicas' -var 'target_regions={northeurope=0}'
refuse 'Standard_ZRS or Premium_LRS' -var storage_account_type=StandardSSD_LRS
refuse 'TrustedLaunch or ConfidentialVM' -var security_type=Standard
refuse 'no hyphens' -var 'gallery={"resource_group"="images","name"="our-agents","linux_image"="a","windows_image"="b"}'
refuse 'name of an image definition' -var 'gallery={"resource_group"="images","name"="agents","linux_image"="azp linux","windows_image"="b"}'
refuse 'not client IDs' -var 'identities=["00000000-0000-0000-0000-000000000000"]'
refuse 'or none of them' -var 'virtual_network={"resource_group"="","name"="agents","subnet"="vms","public_ip"=false}'
refuse 'make packages builds both' -var package=dist/
refuse 'make packages builds it' -var program=azp-bootstrap
refuse 'no dot or hyphen at its end' -var build_resource_group_name=builds.
case "${validate[*]}" in
*syntax*) ;;
*)
    # No token must not become the identity of the machine by accident.
    refuse 'No valid set of authentication values' -var sign_in=oidc -var client_id=00000000-0000-0000-0000-000000000001
    quietly "${validate[@]}" "${azure[@]}" -var sign_in=identity -var tenant_id=00000000-0000-0000-0000-000000000002 "$folder"
    quietly "${validate[@]}" "${azure[@]}" -var build_resource_group_name=builds -var spot=true "$folder"
    quietly "${validate[@]}" "${azure[@]}" -var 'virtual_network={"resource_group"="net","name"="agents","subnet"="vms","public_ip"=false}' "$folder"
    ;;
esac
echo "$refused bad settings, each refused with what to write"

echo "-- the format"
case $("$packer" version) in
*v1.[0-6].*) for file in packer/*/*.hcl packer/azure/sources/*.hcl; do "$packer" fmt -check -diff "$file"; done ;;
*) "$packer" fmt -check -diff -recursive packer ;;
esac
