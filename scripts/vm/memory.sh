# A job's step eats all memory: the kernel ends the step, and nothing else. Sourced by vm-test.sh.
# shellcheck shell=bash disable=SC2154
result() { sim jobs --json | jq -r '.[-1].result // ""'; } # of the job that was queued last
ends() {                                                   # RESULT: it comes to end so
    local _
    for _ in $(seq 600); do
        [ -z "$(result)" ] || break
        sleep 0.5
    done
    [ "$(result)" = "$1" ] || {
        powerCut "$dir/memory"
        keep "$dir/memory" memory
        tail -n 40 "$dir/memory.console" >&2
        fail "the job ended with \"$(result)\", not $1"
    }
}

say "a job's step eats all memory of a VM with 448 MiB and no swap"
disk memory
power web_1 "$dir/memory" memory -m 448 &
machine=$!
awaitOnline 1 || fail "the agent does not come online"
# shellcheck disable=SC2016 # for the step's shell
sim job --run 'sleep 2; tail /dev/zero; code=$?; echo "what ate all memory ended with $code"; exit $code' web-000001 >/dev/null
ends failed
sim job --takes 1s web-000001 >/dev/null
ends succeeded
wait "$machine"
keep "$dir/memory" memory
passed "$dir/memory"
sim delete-agent web-000001
