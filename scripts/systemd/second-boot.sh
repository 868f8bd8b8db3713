#!/bin/bash
# Runs inside the machine, on a later boot: nothing is registered anew.
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
before=$(azp-bootstrap status --json | grep -A2 '"agent": {')
for _ in $(seq 300); do
    case "$(systemctl show -P StatusText azp-bootstrap)" in *ready*) break ;; esac
    sleep 0.1
done
azp-bootstrap status --wait --timeout 60s || fail "status --wait"
[ "$before" = "$(azp-bootstrap status --json | grep -A2 '"agent": {')" ] || fail "the agent changed over the boot"
journalctl --no-pager -b -u azp-bootstrap | grep -q 'Successfully added' && fail "it was registered again"
unit=$(cat /opt/azp-agent/.service)
[ "$(systemctl is-active "$unit")" = active ] || fail "the agent did not start at boot"
[ "$(wc -l </var/lib/gate.count)" = 2 ] || fail "the start script ran $(wc -l </var/lib/gate.count) times in two boots"
began=$(systemctl show -P ExecMainStartTimestampMonotonic "$unit") # microseconds
awk -v began="$began" '{ exit !(began / 1e6 >= $1) }' /var/lib/gate.ended || fail "the agent started at $began us, before the start script had ended"
[ "$(systemctl show -P NRestarts "$unit")" -lt 5 ] || fail "the agent restarts over and over"
echo "  ok: still joined; $(systemctl show -P StatusText azp-bootstrap)"
touch /var/lib/azp-test/passed
