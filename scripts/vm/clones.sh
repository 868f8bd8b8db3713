# Clones and reimaging: whose agent is whose. Sourced by vm-test.sh.
# shellcheck shell=bash disable=SC2154
ids() { sim agents --json | jq -r 'map("\(.name)=\(.id)") | sort | join(" ")'; }

say "three clones of the sealed image at once"
for n in 2 3 4; do
    disk "c$n"
    power "web_$n" "$dir/c$n" clone &
    clones[n]=$!
done
for n in 2 3 4; do wait "${clones[$n]}"; done
for n in 2 3 4; do
    keep "$dir/c$n" clone
    passed "$dir/c$n"
done
[ "$(count offline)" = 3 ] || fail "three clones made $(count offline) agents"

say "each of them without IMDS: its own agent starts all the same, by its firmware's word (one of them of the first generation)"
for n in 3 4; do
    imdsDown "web_$n"
    power "web_$n" "$dir/c$n" resumed
    keep "$dir/c$n" resumed
    passed "$dir/c$n"
    imdsUp "web_$n"
done

say "a copy of an unsealed disk, on another VM without IMDS: the original's agent never starts"
cp "$dir/c2" "$dir/u0"
cp "$dir/c2.seed" "$dir/u0.seed"
imdsDown web_1
power web_1 "$dir/u0" copied
imdsUp web_1
keep "$dir/u0" copied
passed "$dir/u0"

say "a clone of an unsealed disk, on another VM: it registers itself and leaves the original alone"
before=$(ids)
cp "$dir/c2" "$dir/u1"
cp "$dir/c2.seed" "$dir/u1.seed"
power web_1 "$dir/u1" clone
keep "$dir/u1" unsealed
passed "$dir/u1"
after=$(ids)
[ "${after#web-000001=* }" = "$before" ] || fail "agents before: $before, after: $(ids)"
sim delete-agent web-000001

say "reimaged: the same VM with a new disk takes its agent over"
before=$(ids)
disk r3
power web_3 "$dir/r3" clone
keep "$dir/r3" reimaged
passed "$dir/r3"
[ "$(ids)" = "$before" ] || fail "agents before: $before, after: $(ids)"

say "another VM of the same name: refused while the agent is online, taken over when it is offline"
power web_3 "$dir/r3" hold &
holder=$!
awaitOnline 1 || fail "web_3 does not come online"
disk r5
power web_5 "$dir/r5" refused
keep "$dir/r5" refused
passed "$dir/r5"
[ "$(ids)" = "$before" ] || fail "agents before: $before, after: $(ids)"
powerCut "$dir/r3"
wait "$holder" 2>/dev/null || true
power web_5 "$dir/r5" clone
keep "$dir/r5" replaced
passed "$dir/r5"
[ "$(ids)" = "$before" ] || fail "agents before: $before, after: $(ids)"
for n in 2 3 4; do sim delete-agent "web-00000$n"; done
