# Jobs, and what they leave behind, do not reach the metadata service. Sourced by vm-test.sh.
# shellcheck shell=bash disable=SC2154
say "jobs of a VM try to reach the metadata service, past two walls and past one"
disk wall
append=apparmor=0 power web_1 "$dir/wall" wall & # docker wants the package apparmor where the kernel has it
machine=$!
awaitOnline 1 || fail "the agent does not come online"
job() { # SCRIPT: it is queued, and ends
    sim job --run "$1" web-000001 >/dev/null || fail "a job"
    local _
    for _ in $(seq 600); do
        [ -z "$(sim jobs --json | jq -r '.[-1].result // ""')" ] || return 0
        kill -0 "$machine" 2>/dev/null || break
        sleep 0.5
    done
    keep "$dir/wall" wall
    tail -n 40 "$dir/wall.console" >&2
    fail "the job does not end: $1"
}
job 'until [ -x /usr/local/bin/ask ]; do sleep 1; done; /usr/local/bin/ask >/tmp/job1.part & wait; mv /tmp/job1.part /tmp/job1'
job 'until [ -e /run/first-wall-is-down ]; do sleep 1; done; /usr/local/bin/ask >/tmp/job2.part; mv /tmp/job2.part /tmp/job2'
until grep -qa 'the agent is in the group docker' "$dir/wall.console"; do
    kill -0 "$machine" 2>/dev/null || break
    sleep 0.5
done
# shellcheck disable=SC2016 # for the step's shell
job '{
    echo "bridge: $(contained)"
    echo "host: $(contained --network host)"
    echo "account: $(contained --network host --user "$(id -u)")"
    docker run --rm --privileged --network host -v /:/vm probe /busybox chroot /vm iptables -I DOCKER-USER -d 169.254.169.254 -j REJECT
    echo "ruled: $(contained)"
    echo "itself: $(ask)"
} >/tmp/job3.part 2>&1; mv /tmp/job3.part /tmp/job3'
wait "$machine"
keep "$dir/wall" wall
passed "$dir/wall"
sim delete-agent web-000001
