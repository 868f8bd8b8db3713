#!/bin/bash
# Runs inside the machine, on a later boot: the wall stood before anything that the account had left behind could ask.
set -u
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
unit=azp-bootstrap-metadata.service
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    journalctl --no-pager -b -u azp-bootstrap -u $unit | tail -60
    exit 1
}
at() { systemctl show -P "$2" "$1"; }
for _ in $(seq 300); do
    [ "$(wc -l </home/azp/at-boot 2>/dev/null)" != 40 ] || break
    sleep 0.5
done
[ "$(grep -c '^000 ' /home/azp/at-boot)" = 40 ] || fail "a job's crontab got: $(cat /home/azp/at-boot)"
[ "$(at $unit ActiveState)" = active ] || fail "the wall's unit is not active"
up=$(at $unit ActiveEnterTimestampMonotonic)
for other in cron.service azp-bootstrap.service "$(cat /opt/azp-agent/.service)"; do
    [ "$up" -lt "$(at "$other" ActiveEnterTimestampMonotonic)" ] || fail "$other was started before the wall stood"
done
azp-bootstrap status --wait --timeout 60s || fail "status --wait"
echo "  ok: 40 questions of a job's @reboot were refused; the wall stood before cron, the daemon and the agent"
touch /var/lib/azp-test/passed
