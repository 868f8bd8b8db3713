# Machines that run one job and leave. Sourced by systemd-test.sh.
# shellcheck shell=bash disable=SC2154
onceOnly() { # NAME POOL THEN: a machine that leaves after its job
    machine "$1" https://dev.azure.com/contoso "pool: {name: $2}"
    mkdir -p "$dir/$1/root/etc/azp-bootstrap/conf.d"
    printf 'retire: {jobs: 1, then: %s}\nagent: {groups: [builders]}\n' "$3" >"$dir/$1/root/etc/azp-bootstrap/conf.d/50-retire.yaml"
}
# firstGone ACTION: Azure Resource Manager was asked when Azure DevOps had removed the agent and said so, and not before.
firstGone() {
    jq -es 'def at(f): map(select(f).at);
        (at(.service == "arm" and (.method == "DELETE" or .method == "POST")) | last) as $asked
        | (at(.service == "devops" and .method == "DELETE" and (.url | test("/agents/[0-9]+"))) | last) as $removed
        | (at(.service == "devops" and .method == "GET" and .status == 404 and (.url | test("/agents/[0-9]+"))) | last) as $gone
        | $removed != null and $asked != null and $removed < $gone and $gone < $asked' "$dir/azure/requests.jsonl" >/dev/null || {
        echo "FAILED: retire: Azure was asked to $1 the VM before its agent was gone" >&2
        exit 1
    }
}
if [ -z "${CI_GATE:-}" ]; then
    echo "== retire: three boots, before its only job, in the middle and after it"
    onceOnly retire-cut cut reimage
    for _ in 1 2 3; do boot retire-cut retire-cut.sh; done
    leaks retire-cut
    firstGone reimage
    umount "$dir/retire-cut/root"
    echo "== retire: the machine powers itself off, and is started again"
    onceOnly retire-off off poweroff
    for _ in 1 2; do boot retire-off retire-off.sh; done
    leaks retire-off
    umount "$dir/retire-off/root"
fi
echo "== retire: one job of two, then the agent goes, then the VM"
onceOnly retire Default delete
boot retire retire.sh
leaks retire
firstGone delete
umount "$dir/retire/root"
