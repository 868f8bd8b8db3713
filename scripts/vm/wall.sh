# Jobs, and what they leave behind, do not reach the metadata service. Sourced by vm-test.sh.
# shellcheck shell=bash disable=SC2154
say "jobs of a VM try to reach the metadata service, past two walls and past one"
disk wall
power web_1 "$dir/wall" wall &
machine=$!
awaitOnline 1 || fail "the agent does not come online"
# shellcheck disable=SC2016 # for the step's shell
sim job --run 'until [ -x /usr/local/bin/ask ]; do sleep 1; done; /usr/local/bin/ask >/tmp/job1.part & wait; mv /tmp/job1.part /tmp/job1' web-000001 >/dev/null
sim job --run 'until [ -e /run/first-wall-is-down ]; do sleep 1; done; /usr/local/bin/ask >/tmp/job2.part; mv /tmp/job2.part /tmp/job2' web-000001 >/dev/null
wait "$machine"
keep "$dir/wall" wall
passed "$dir/wall"
sim delete-agent web-000001
