# The slow part of vm-test: clones, reimaging, power cuts, late services, packages. Sourced by vm-test.sh.
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
kill "$holder"
wait "$holder" 2>/dev/null || true
power web_5 "$dir/r5" clone
keep "$dir/r5" replaced
passed "$dir/r5"
[ "$(ids)" = "$before" ] || fail "agents before: $before, after: $(ids)"
for n in 2 3 4; do sim delete-agent "web-00000$n"; done

for at in discover credential preflight register service online; do
    say "the power is cut in the phase $at, then it boots again"
    disk "p-$at"
    power web_1 "$dir/p-$at" hold &
    machine=$!
    # the console shows each phase when it is done; discover begins with the first line of all
    until=$(sed -E 's/.*(discover|credential|preflight|register|service) '"$at"'.*/\1/' <<<"discover credential preflight register service online")
    [ "$at" != discover ] || until='Join this VM'
    for _ in $(seq 3000); do
        ! grep -qaE "$until( +ok|)" "$dir/p-$at.console" 2>/dev/null || break
        sleep 0.05
    done
    sleep "0.$((RANDOM % 10))"
    pkill -KILL -f "qemu-system.*$dir/p-$at,"
    wait "$machine" 2>/dev/null || true
    keep "$dir/p-$at" cut
    power web_1 "$dir/p-$at" clone
    keep "$dir/p-$at" after
    passed "$dir/p-$at"
    [ "$(count offline)" = 1 ] || fail "after a power cut in $at there are $(count offline) agents"
    sim delete-agent web-000001
done

say "IMDS comes 60 s late, then the vault refuses for 90 s"
sed '/readers:/s/\[.*\]/[]/' "$dir/azure.yaml" >"$dir/norole.yaml"
sim apply "$dir/norole.yaml"
imdsDown web_2
disk late
power web_2 "$dir/late" clone &
machine=$!
for _ in $(seq 1500); do
    ! grep -qaE 'discover +waits' "$dir/late.console" 2>/dev/null || break
    sleep 0.1
done
sleep 60
imdsUp web_2
sleep 90
sim apply "$dir/azure.yaml"
wait "$machine"
keep "$dir/late" late
passed "$dir/late"
grep -a 'waits:' "$dir/late.console" | cut -c1-150
grep -qa 'discover  *waits: .*Instance Metadata' "$dir/late.console" || fail "the console does not say that IMDS was waited for"
grep -qa 'credential  *waits: .*access denied' "$dir/late.console" || fail "the console does not say that the vault was waited for"
sim delete-agent web-000002

say "the clock starts in 1970, until time is synchronized"
disk clock
append="azptime=$(date +%s)" power web_2 "$dir/clock" clock -rtc base=1970-01-02T00:00:00
keep "$dir/clock" clock
passed "$dir/clock"
sim delete-agent web-000002

say "a VM without cloud-init"
disk plain
append="cloud-init=disabled" power web_2 "$dir/plain" clone
keep "$dir/plain" plain
passed "$dir/plain"
sim delete-agent web-000002

say "the package is upgraded and purged on a VM that is ready"
disk packages
power web_2 "$dir/packages" packages
keep "$dir/packages" packages
passed "$dir/packages"
sim delete-agent web-000002

say "a VM that is shut down leaves, where drain.onShutdown is set; one that reboots does not"
disk shutdown
power web_2 "$dir/shutdown" reboot
keep "$dir/shutdown" reboot
[ "$(count offline)" = 1 ] || fail "a reboot took the agent along"
power web_2 "$dir/shutdown" shutdown
keep "$dir/shutdown" shutdown
passed "$dir/shutdown"
[ "$(count offline)" = 0 ] || fail "the agent was left behind at the shutdown"
