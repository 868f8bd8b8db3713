# A first boot. Sourced by vm-test.sh, and by quick.
# shellcheck shell=bash disable=SC2154
say "first boot: cloud-init provisions the VM from Azure's CD, custom data and all; user data comes from IMDS"
azureDisk first
touch "$dir/first.azure"
power web_1 "$dir/first" first
keep "$dir/first" first
passed "$dir/first"
[ "$(count offline)" = 1 ] || fail "not exactly one agent after the first boot"
sim agents --json | jq -e '.[0].name == "web-000001-by-user-data"' >/dev/null || fail "the agent has another name than user data says"
grep -q '^POST /machine?comp=health .*<State>Ready</State>' "$dir/wire-web_1.log" || fail "cloud-init did not tell Azure that the VM is provisioned"
rm "$dir/first.ovf"
