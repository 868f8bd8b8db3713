# A first boot, a second one, and the end. Sourced by vm-test.sh.
# shellcheck shell=bash disable=SC2154
# shellcheck source=scripts/vm/first.sh
. "$here/vm/first.sh"

say "second boot: nothing is registered again"
power web_1 "$dir/first" again
keep "$dir/first" again
passed "$dir/first"
[ "$(count offline)" = 1 ] || fail "not exactly one agent after the second boot"

say "Azure takes the VM away while a job runs"
power web_1 "$dir/first" terminate &
machine=$!
awaitOnline 1 || fail "the agent does not come online"
sim job --takes 8s web-000001-by-user-data >/dev/null
sim event --vm web_1 --in 5m Terminate >/dev/null
wait "$machine"
keep "$dir/first" terminate
passed "$dir/first"
[ "$(count online)$(count offline)" = 00 ] || fail "the agent is still on the server"
sim jobs --json | jq -e '.[-1].result == "succeeded"' >/dev/null || fail "the job did not succeed"
sim jobs --json >"$dir/jobs.json"
jq -rs '(.[0] | map(select(.service=="devops" and .method=="DELETE")) | last | .at) as $gone
    | (.[0] | map(select(.service=="imds" and .method=="POST")) | last | .at) as $answered
    | (.[1] | last | .finished) as $ended
    | if $ended < $gone and $gone < $answered then "  ok: job ended \($ended[11:19]), agent removed \($gone[11:19]), event acknowledged \($answered[11:19])" else error("order: job \($ended), agent \($gone), event \($answered)") end' \
    <(jq -s . "$dir/azure/requests.jsonl") "$dir/jobs.json"
