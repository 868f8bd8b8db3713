#!/bin/bash
# Runs inside a machine with retire: {jobs: 1, then: reimage}, in three boots: it joins; it boots again before its job,
# and once more in the middle of it. One job is taken, in all of them.
set -u
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    sim jobs
    systemctl --no-pager status 'vsts.agent.*'
    journalctl --no-pager -b -u azp-bootstrap -u 'vsts.agent.*' | tail -60
    exit 1
}
await() { # WHAT COMMAND...
    local what=$1 _
    shift
    for _ in $(seq 600); do
        ! "$@" || return 0
        sleep 0.1
    done
    fail "no $what"
}
sim() { azp-sim "$@" --dir /mnt/azure; }
online() { sim agents --json | tr -d ' \n' | grep -q '"status":"online"'; }
job() { sim jobs | grep "\"name\":\"$1\"" | grep -q "$2"; }
fated() { sim fates | grep -q '"action":"reimage"'; }
began() { azp-bootstrap status --json | grep -q '"began"'; }
unit=$(cat /opt/azp-agent/.service 2>/dev/null)
case $(cat /var/lib/cut-stage 2>/dev/null) in
"")
    azp-bootstrap prepare --package "/root/$1" --sha256 "$2" || fail prepare
    azp-bootstrap install --now || fail "install --now"
    azp-bootstrap status --wait --timeout 60s || fail "status --wait"
    await "agent online" online
    systemctl disable -q azp-bootstrap # the next boot is to be seen without the daemon first
    echo before >/var/lib/cut-stage
    ;;
before)
    [ "$(systemctl show -P ActiveState "$unit")" = inactive ] || fail "the boot starts the agent, not the daemon"
    systemctl enable -q --now azp-bootstrap || fail "the daemon does not start"
    await "agent online" online
    sim job --pool cut --name cut --takes 300s >/dev/null || fail "a job"
    sim job --pool cut --name after --takes 0s >/dev/null || fail "a job"
    await "word in the journal that the job has begun" began
    echo "  ok: booted again before its job, the daemon alone starts the agent"
    echo middle >/var/lib/cut-stage
    ;;
middle)
    await "word to Azure Resource Manager" fated
    ! sim agents --json | tr -d ' \n' | tr '}' '\n' | grep '"server":"https://dev.azure.com/contoso"' | grep -q '"kind":"pool"' || fail "its agent is left behind"
    job cut '"result":"' || fail "the job that was cut off has no end"
    job after received && fail "a second job was taken"
    journalctl --no-pager -b -u "$unit" | grep Started && fail "the agent was started again"
    echo "  ok: booted again in the middle of its job, it takes no other and leaves"
    ;;
esac
touch /var/lib/azp-test/passed
