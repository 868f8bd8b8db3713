# A power cut in each phase: QEMU is killed, and the VM boots again. Sourced by vm-test.sh.
# shellcheck shell=bash disable=SC2154
for at in discover credential preflight register service online; do
    say "the power is cut in the phase $at, then it boots again"
    disk "p-$at"
    # nodelalloc: else what cloud-init wrote in the last half minute would be lost, and cloud-init would not write it again.
    append=rootflags=nodelalloc power web_1 "$dir/p-$at" hold &
    machine=$!
    # The console shows each phase when it is done; discover begins when IMDS is asked which VM this is.
    if [ "$at" = discover ]; then
        asked() { grep -cs metadata/instance "$dir/azure/requests.jsonl" || true; }
        until=$(($(asked) + 1))
        reached() { [ "$(asked)" -ge "$until" ]; }
    else
        before=$(sed -E 's/.*(discover|credential|preflight|register|service) '"$at"'.*/\1/' <<<"discover credential preflight register service online")
        reached() { grep -qa "azp-bootstrap: $before  *ok" "$dir/p-$at.console" 2>/dev/null; }
    fi
    for _ in $(seq 9000); do
        ! reached || break
        sleep 0.02
    done
    case $at in register | service | online) sleep "0.$((RANDOM % 10))" ;; esac # the others take less than half a second
    powerCut "$dir/p-$at"
    wait "$machine" 2>/dev/null || true
    keep "$dir/p-$at" cut
    say "the last that the console showed: $(tr -d '\r' <"$dir/p-$at.console" | grep -a azp-bootstrap | tail -n 1 | cut -c1-120)"
    power web_1 "$dir/p-$at" clone
    keep "$dir/p-$at" after
    passed "$dir/p-$at"
    [ "$(sim agents --json | jq length)" = 1 ] || fail "after a power cut in $at there are $(sim agents --json | jq length) agents"
    sim delete-agent web-000001
done
