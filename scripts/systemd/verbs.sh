#!/bin/bash
# Runs inside the machine: the service manager fails at one verb after another.
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
real=$(readlink -f "$(command -v systemctl)")
mv "$real" "$real.real"
cat >"$real" <<SH
#!/bin/bash
[ "\$1" != "\$(cat /run/fails 2>/dev/null)" ] || { echo "systemctl \$1: told to fail" >&2; exit 1; }
exec -a systemctl "$real.real" "\$@"
SH
chmod 755 "$real"
run() { # CODE COMMAND...
    local want=$1 code=0
    shift
    "$@" >/var/lib/azp-test/said 2>&1 || code=$?
    [ "$code" = "$want" ] || fail "$* ended with $code, not $want, while systemctl fails at: $(cat /run/fails 2>/dev/null)"
}
for verb in daemon-reload enable start; do
    run 0 azp-bootstrap deregister --now
    echo "$verb" >/run/fails
    run 18 azp-bootstrap run --once --set deadline=20s
    grep -q 'Next: ' /var/lib/azp-test/said || fail "no next step"
    rm /run/fails
    run 0 azp-bootstrap run --once
    [ "$(systemctl is-active "$(cat /opt/azp-agent/.service)")" = active ] || fail "after $verb failed, the agent does not run"
    echo "  ok: systemctl $verb fails: class service, and the next run joins"
done
for verb in stop disable; do
    unit=$(cat /opt/azp-agent/.service)
    echo "$verb" >/run/fails
    run 0 azp-bootstrap deregister --now
    rm /run/fails
    [ ! -e "/etc/systemd/system/$unit" ] || fail "after $verb failed, the unit is still there"
    [ "$(systemctl is-active "$unit")" != active ] || fail "after $verb failed, the agent still runs"
    run 0 azp-bootstrap run --once
    echo "  ok: systemctl $verb fails: the VM leaves all the same, and joins again"
done
mv "$real.real" "$real"
touch /var/lib/azp-test/passed
