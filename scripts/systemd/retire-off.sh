#!/bin/bash
# Runs inside a machine with retire: {jobs: 1, then: poweroff}: on its first boot the daemon powers it off, out of its
# sandbox and with its few rights. When somebody starts it again it stays on, and takes no job.
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
sim() { azp-sim "$@" --dir /mnt/azure; }
gone() { # other machines' agents may be there
    ! sim agents --json | tr -d ' \n' | tr '}' '\n' | grep '"server":"https://dev.azure.com/contoso"' | grep -q '"kind":"pool"'
}
state=/var/lib/azp-bootstrap/state.json
goesOff() { systemctl list-jobs --no-legend | grep -q 'poweroff.target'; }
if [ ! -e $state ]; then
    azp-bootstrap prepare --package "/root/$1" --sha256 "$2" || fail prepare
    azp-bootstrap install --now || fail "install --now"
    azp-bootstrap status --wait --timeout 60s || fail "status --wait"
    sim job --pool off --name first --takes 2s >/dev/null || fail "a job"
    sim job --pool off --name second --takes 0s >/dev/null || fail "a job"
    # shellcheck disable=SC2317 # by the trap
    off() {
        if ! gone || ! grep -q '"removedBy": "retired"' "$state" || ! goesOff; then fail "it is powered off by somebody else"; fi
        journalctl --no-pager -u azp-bootstrap | grep -q 'this VM goes: poweroff' || fail "the daemon did not say so"
        echo "  ok: the daemon powered the machine off, its agent being gone"
        touch /var/lib/azp-test/passed
        exit 0
    }
    trap off TERM # systemd ends this test as everything else
    for _ in $(seq 600); do sleep 0.1; done
    fail "it is not powered off"
fi
said() { azp-bootstrap status | grep -q 'it goes: poweroff, asked for at'; }
for _ in $(seq 100); do
    said && systemctl show -P StatusText azp-bootstrap | grep -q removed && break
    sleep 0.1
done
said || fail "status does not say that it was powered off"
sleep 5 # in which nothing happens
goesOff && fail "it is powered off again"
gone || fail "it has joined again"
sim jobs | grep '"name":"second"' | grep received && fail "the second job was taken"
echo "  ok: started again, it stays on and out of Azure DevOps: $(systemctl show -P StatusText azp-bootstrap)"
touch /var/lib/azp-test/passed
