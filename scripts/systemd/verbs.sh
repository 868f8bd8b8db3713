#!/bin/bash
# Runs inside the machine: the service manager fails at one thing after another.
set -u
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
rm -f /var/lib/azp-test/passed
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    cat /var/lib/azp-test/said
    systemctl --no-pager status 'vsts.agent.*'
    exit 1
}
azp-bootstrap status --wait --timeout 60s >/dev/null || fail "status --wait"
systemctl stop azp-bootstrap
unit=$(cat /opt/azp-agent/.service)
units=/etc/systemd/system
run() { # CODE COMMAND...
    local want=$1 code=0
    shift
    "$@" >/var/lib/azp-test/said 2>&1 || code=$?
    [ "$code" = "$want" ] || fail "$* ended with $code, not $want, while systemd fails at: $at"
}
breaks() {
    case $at in
    write) mount --bind "$units" "$units" && mount -o remount,bind,ro "$units" ;;
    enable) mv "$units/multi-user.target.wants" "$units/aside" && touch "$units/multi-user.target.wants" ;;
    start) mkdir -p "$units/$unit.d" && printf '[Service]\nExecStartPre=/bin/false\n' >"$units/$unit.d/fails.conf" ;;
    masked) ln -s /dev/null "$units/$unit" ;;
    bus) mount -t tmpfs tmpfs /run/dbus && mount -t tmpfs tmpfs /run/systemd ;;
    esac
}
mends() {
    case $at in
    write) umount "$units" ;;
    enable) rm "$units/multi-user.target.wants" && mv "$units/aside" "$units/multi-user.target.wants" ;;
    start) rm "$units/$unit.d/fails.conf" && systemctl daemon-reload ;;
    masked) rm "$units/$unit" ;;
    bus) umount /run/dbus /run/systemd ;;
    esac
}
for at in write enable start masked bus; do
    run 0 azp-bootstrap deregister --now
    [ ! -e "$units/$unit" ] || fail "after the VM left, its unit is still there"
    breaks || fail "it could not be broken at $at"
    run 18 azp-bootstrap run --once --set deadline=20s
    grep -q 'Next: ' /var/lib/azp-test/said || fail "no next step"
    mends || fail "it could not be mended at $at"
    run 0 azp-bootstrap run --once
    [ "$(systemctl is-active "$unit")$(systemctl is-enabled "$unit")" = activeenabled ] || fail "after $at failed, the agent is not active and enabled"
    echo "  ok: systemd fails ($at): class service, and the next run joins"
done
at=stop
mkdir -p "$units/$unit.d" && printf '[Unit]\nRefuseManualStop=yes\n' >"$units/$unit.d/stays.conf"
systemctl daemon-reload
run 18 azp-bootstrap deregister --now
rm "$units/$unit.d/stays.conf"
systemctl daemon-reload
run 0 azp-bootstrap deregister --now
[ ! -e "$units/$unit" ] || fail "the unit is still there"
[ "$(systemctl is-active "$unit")" != active ] || fail "the agent still runs"
run 0 azp-bootstrap run --once
echo "  ok: systemd does not stop the agent: class service, and the VM leaves when it does"
touch /var/lib/azp-test/passed
