#!/usr/bin/env bash
# Validates the Packer templates, with empty files where a build has real ones.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/apt.sh packer:packer ssh-keygen:openssh-client
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
touch "$dir/azp-bootstrap_1.0.0_amd64.deb" "$dir/azp-bootstrap_1.0.0_windows_amd64.zip" "$dir/base.qcow2"
mkdir "$dir/seed"
ssh-keygen -q -t ed25519 -N '' -f "$dir/key"
echo "packer/azure.pkr.hcl"
packer validate -var "package=$dir/azp-bootstrap_1.0.0_amd64.deb" -var "program=$dir/azp-bootstrap_1.0.0_windows_amd64.zip" -var use_azure_cli=true packer/azure.pkr.hcl
echo "packer/local.pkr.hcl"
packer validate -var "package=$dir/azp-bootstrap_1.0.0_amd64.deb" -var "base_image=$dir/base.qcow2" -var "base_checksum=none" -var "seed=$dir/seed" -var "ssh_key=$dir/key" packer/local.pkr.hcl
