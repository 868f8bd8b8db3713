# What the daemon costs a VM that is ready. Sourced by vm-test.sh.
# shellcheck shell=bash disable=SC2154
say "idle for ${IDLE:-600} s"
disk idle
limit=$((${IDLE:-600} + 400)) append="azpidle=${IDLE:-600}" power web_2 "$dir/idle" idle
keep "$dir/idle" idle
passed "$dir/idle"
sim delete-agent web-000002
