#!/bin/bash
# Runs inside the machine whose disk was another VM's, as far as it can tell: neither firmware nor IMDS says who it is.
set -u
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    journalctl --no-pager -b -u azp-bootstrap -u 'vsts.agent.*' | tail -40
    exit 1
}
unit=$(cat /opt/azp-agent/.service)
sleep 10
[ "$(systemctl is-active "$unit")" = inactive ] || fail "the agent is $(systemctl is-active "$unit")"
[ "$(systemctl show -P ConditionResult "$unit")" = no ] || fail "its condition is met"
journalctl --no-pager -b -u "$unit" | grep -q 'Started' && fail "it was started"
systemctl start "$unit" # by hand, too
[ "$(systemctl show -P MainPID "$unit")" = 0 ] || fail "it was started by hand"
echo "  ok: the agent does not start before the daemon knows that this VM is the one that registered"
touch /var/lib/azp-test/passed
