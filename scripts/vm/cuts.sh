# A power cut in each phase: QEMU is killed, and the VM boots again. Sourced by vm-test.sh.
# shellcheck shell=bash disable=SC2154
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
    powerCut "$dir/p-$at"
    wait "$machine" 2>/dev/null || true
    keep "$dir/p-$at" cut
    power web_1 "$dir/p-$at" clone
    keep "$dir/p-$at" after
    passed "$dir/p-$at"
    [ "$(count offline)" = 1 ] || fail "after a power cut in $at there are $(count offline) agents"
    sim delete-agent web-000001
done
