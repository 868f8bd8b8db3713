#!/bin/bash
# Runs inside the machine while Azure takes it away: it leaves Azure DevOps when its job has ended.
set -u
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    journalctl --no-pager -b -u azp-bootstrap -u 'vsts.agent.*' | tail -60
    exit 1
}
unit=$(cat /opt/azp-agent/.service)
for _ in $(seq 2000); do
    azp-bootstrap status --json | grep -q '"phase": "removed"' && break
    sleep 0.1
done
azp-bootstrap status --json | grep -q '"phase": "removed"' || fail "it does not leave"
[ ! -e "/etc/systemd/system/$unit" ] || fail "the agent's unit is still there"
[ "$(systemctl is-active "$unit")" != active ] || fail "the agent still runs"
[ ! -e /opt/azp-agent/.agent ] || fail "the registration is still on disk"
[ "$(systemctl is-active azp-bootstrap)" = active ] || fail "the daemon is gone"
journalctl --no-pager -b -u azp-bootstrap | grep -q 'has lost Azure DevOps for a while: it is asked whether the agent was removed' || fail "nobody noticed that the agent was removed"
journalctl --no-pager -b -u azp-bootstrap | grep -q acknowledged || fail "the event was not acknowledged"
journalctl --no-pager -b -u "$unit" | grep -q 'Job deploy completed with result: Succeeded' || fail "the job did not end as usual"
! journalctl --no-pager -b -u azp-bootstrap -p err | grep -q azp-bootstrap || fail "errors in the journal"
echo "  ok: the agent was registered anew after somebody had removed it"
echo "  ok: the job ended, the agent is gone, the event is acknowledged; $(systemctl show -P StatusText azp-bootstrap)"
touch /var/lib/azp-test/passed
