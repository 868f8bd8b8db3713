#!/bin/bash
# Runs inside the machine: Azure takes it away in mid-job, when no PAT is left and the agent has updated itself.
# Then the job is seen with the rights of the daemon's unit alone, and nothing but the VM itself can tell of it.
set -u
rm -rf /var/lib/azp-test
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    journalctl --no-pager -b -u azp-bootstrap -u 'vsts.agent.*' | tail -60
    exit 1
}
metric() { # NAME
    exec 3<>/dev/tcp/127.0.0.1/8484 || return
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    sed -n "s/^azp_bootstrap_$1 //p" <&3
    exec 3>&-
}
online() { azp-sim agents --json --dir /mnt/azure | tr -d ' \n' | grep -q '"status":"online"'; }
awaitOnline() {
    for _ in $(seq 300); do
        online && return
        sleep 0.1
    done
    return 1
}

# Who joins while the former event is under way leaves again.
events() {
    exec 3<>/dev/tcp/169.254.169.254/80 || return
    printf 'GET /metadata/scheduledevents?api-version=2020-07-01 HTTP/1.0\r\nMetadata: true\r\n\r\n' >&3
    cat <&3
    exec 3>&-
}
for _ in $(seq 60); do
    events | grep -q '"Events":\[\]' && break
    sleep 1
done
events | grep -q '"Events":\[\]' || fail "the former event does not end: $(events)"

systemctl stop azp-bootstrap
azp-bootstrap run --once >/dev/null 2>&1 || fail "run --once on a VM that had left"
unit=$(cat /opt/azp-agent/.service)
systemctl stop "$unit"
for part in bin externals; do # as the agent's update leaves them (SelfUpdater.cs), by its own user
    runuser -u azp -- mv /opt/azp-agent/$part /opt/azp-agent/$part.4.249.0
    runuser -u azp -- ln -s $part.4.249.0 /opt/azp-agent/$part
done
systemctl start "$unit" azp-bootstrap
azp-bootstrap status --wait --timeout 60s >/dev/null || fail "status --wait after the update"
awaitOnline || fail "the updated agent is not online"
[ "$(metric jobs_running)" = 0 ] || fail "jobs_running without a job: $(metric jobs_running)"
grep -q '^CapEff:	0*$' "/proc/$(systemctl show -P MainPID "$unit")/status" || fail "the agent has capabilities"
echo "  the daemon's capabilities: $(sed -n 's/^CapEff:	//p' "/proc/$(systemctl show -P MainPID azp-bootstrap)/status")"

azp-sim job --dir /mnt/azure --name mid --takes 20s web-000001 >/dev/null || fail "no job"
seen=0
for _ in $(seq 600); do
    [ "$(systemctl is-active "$unit")" = active ] || break
    [ "$(metric jobs_running)" != 1 ] || seen=$((seen + 1))
    sleep 0.1
done
[ "$(systemctl is-active "$unit")" != active ] || fail "the agent still runs"
journalctl --no-pager -b -u "$unit" | grep -q 'Job mid completed with result: Succeeded' || fail "the job did not end as usual"
[ "$seen" -gt 5 ] || fail "jobs_running said 1 only $seen times"
journalctl --no-pager -b -u azp-bootstrap | grep -q 'this VM leaves Azure DevOps' || fail "the event was not heard"
azp-bootstrap status --json | grep -q '"code": "pat' || fail "status does not say that the PAT is rejected"
echo "  ok: without any PAT and after the agent's update the job was seen ($seen times) and ended as usual"
touch /var/lib/azp-test/passed
