#!/usr/bin/env bash
# Runs docs/deploy/roll.sh against a stand-in for az: a scale set of three VMs and a gallery of five versions.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
mkdir "$dir/bin"
cat >"$dir/bin/az" <<'AZ'
#!/usr/bin/env bash
# One line of instances for each VM: ID, whether it has the new model, whether it is Healthy.
set -euo pipefail
cd "$WORLD"
echo "$*" >>calls
after() { while [ "$1" != "$2" ]; do set -- "$1" "${@:3}"; done; shift 2; echo "$*"; }
case "$1 $2" in
"vmss show")
    case "$*" in
    *sku.capacity*) wc -l <instances ;;
    *) cat policy ;;
    esac
    ;;
"vmss update") sed -i 's/ true / false /' instances ;;
"vmss list-instances")
    case "$*" in
    *'`true`'*) sed -n 's/ true healthy$//p' instances ;;
    *'`false`'*) sed -n 's/ false .*//p' instances ;;
    *exactVersion*) cat used ;;
    esac
    ;;
"vmss scale")
    to=$(after --new-capacity "$@") to=${to%% *}
    while [ "$(wc -l <instances)" -lt "$to" ]; do echo "$(($(tail -n 1 instances | cut -d' ' -f1) + 1)) true $(cat becomes)" >>instances; done
    ;;
"vmss delete-instances")
    ids=$(after --instance-ids "$@")
    for id in ${ids%% --*}; do sed -i "/^$id /d" instances; done
    ;;
"sig image-version")
    case $3 in
    list) cat versions ;;
    delete) gone=$(after --gallery-image-version "$@") && sed -i "/^${gone%% *}$/d" versions ;;
    esac
    ;;
*) echo "az $*: not known here" >&2 && exit 1 ;;
esac
AZ
chmod +x "$dir/bin/az"
id=/subscriptions/s/resourceGroups/images/providers/Microsoft.Compute/galleries/agents/images/azp-linux/versions/1.0.5
world() {
    export WORLD=$dir/world
    rm -rf "$WORLD" && mkdir "$WORLD"
    printf '0 true healthy\n1 true healthy\n4 true healthy\n' >"$WORLD/instances"
    printf '%s\n' 1.0.5 1.0.4 1.0.3 1.0.2 1.0.1 >"$WORLD/versions"
    printf 'Manual\nUniform\ntrue\n' >"$WORLD/policy"
    echo healthy >"$WORLD/becomes"
    echo 1.0.5 >"$WORLD/used"
}
roll() { PATH=$dir/bin:$PATH LOOK=0.1 docs/deploy/roll.sh "$@" >"$dir/said" 2>&1; }
is() { [ "$2" = "$3" ] || { printf '%s: %s, not %s\n' "$1" "$2" "$3" >&2; cat "$dir/said" "$WORLD/calls" >&2; exit 1; }; }
said() { grep -qF "$1" "$dir/said" || { echo "it does not say: $1" >&2; cat "$dir/said" >&2; exit 1; }; }

world
BATCH=2 roll agents web "$id"
is "all are new" "$(cut -d' ' -f2 "$WORLD/instances" | sort | uniq -c | xargs)" "3 true"
is "as many as before" "$(wc -l <"$WORLD/instances" | xargs)" 3
is "the newest three" "$(xargs <"$WORLD/versions")" "1.0.5 1.0.4 1.0.3"
is "new ones come first" "$(grep -oE 'scale|delete-instances' "$WORLD/calls" | xargs)" "scale delete-instances scale delete-instances"
is "nothing is reimaged" "$(grep -cE 'update-instances|reimage' "$WORLD/calls")" 0

world
echo 1.0.2 >"$WORLD/used"
KEEP=1 roll agents web "$id"
is "one that is in use stays" "$(xargs <"$WORLD/versions")" "1.0.5 1.0.2"

world
echo unhealthy >"$WORLD/becomes"
PATIENCE=1 roll agents web "$id" && { echo "VMs that do not become Healthy are taken" >&2; exit 1; }
said 'did not become Healthy within 1 s'
is "the old ones go on" "$(grep -c false "$WORLD/instances")" 3
is "no version is deleted" "$(wc -l <"$WORLD/versions" | xargs)" 5

for bad in 'Automatic\nUniform\ntrue|Make it Manual' 'Manual\nFlexible\ntrue|mode Flexible' 'Manual\nUniform\n|announces no deletion' 'Manual\nUniform\nfalse|announces no deletion'; do
    world
    printf '%b\n' "${bad%|*}" >"$WORLD/policy"
    roll agents web "$id" && { echo "taken: $bad" >&2; exit 1; }
    said "${bad#*|}"
    is "nothing is changed" "$(grep -cE 'update|scale|delete' "$WORLD/calls")" 0
done
world
roll agents web "${id%/versions*}" && exit 1
said 'is not the ID of an image version'
BATCH=0 roll agents web "$id" && exit 1
said 'are numbers from 1 on, not 0'
echo "roll.sh: a scale set is rolled, one that fails is left, and six bad inputs are refused"
