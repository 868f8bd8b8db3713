#!/usr/bin/env bash
# Moves a scale set to an image version, without ending a job, and keeps the gallery's newest versions.
#
#   roll.sh RESOURCE_GROUP SCALE_SET IMAGE_VERSION_ID       (BATCH=1 KEEP=3 PATIENCE=1800, in seconds)
#
# New VMs come first. When they are Healthy, as many old ones are deleted, which Azure announces to them (terminate
# notification): they take no new job, wait for the running one up to the notification's time, and remove their agents. A
# reimage (az vmss update-instances) is not announced and would end jobs. If new VMs do not become Healthy it stops
# there, and the old ones go on. Run again, it replaces those that are left.
set -euo pipefail
fail() { echo "$1" >&2; exit 1; }
[ $# -eq 3 ] || { sed -n '2,9p' "$0" >&2; exit 2; }
group=$1 set=$2 version=$3 batch=${BATCH:-1} keep=${KEEP:-3} patience=${PATIENCE:-1800}
[[ $version =~ ^/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.Compute/galleries/([^/]+)/images/([^/]+)/versions/([0-9]+\.[0-9]+\.[0-9]+)$ ]] ||
    fail "$version is not the ID of an image version: az sig image-version show --query id --output tsv prints it"
gallery=(--subscription "${BASH_REMATCH[1]}" --resource-group "${BASH_REMATCH[2]}" --gallery-name "${BASH_REMATCH[3]}" --gallery-image-definition "${BASH_REMATCH[4]}")
of=(--resource-group "$group" --name "$set")
for number in "$batch" "$keep" "$patience"; do [[ $number =~ ^[1-9][0-9]*$ ]] || fail "BATCH, KEEP and PATIENCE are numbers from 1 on, not $number"; done

shown=$(az vmss show "${of[@]}" --query '[upgradePolicy.mode, orchestrationMode, virtualMachineProfile.scheduledEventsProfile.terminateNotificationProfile.enable]' --output tsv)
read -r -d '' mode orchestration notified <<<"$shown" || true
[ "$mode" = Manual ] || fail "The upgrade policy of $set is $mode: Azure would reimage VMs under their jobs. Make it Manual."
[ "$orchestration" = Uniform ] || fail "$set is a scale set of orchestration mode $orchestration; this is for Uniform ones."
[ "${notified,,}" = true ] || fail "$set announces no deletion: az vmss update ${of[*]} --enable-terminate-notification true --terminate-notification-time 15"

instances() { az vmss list-instances "${of[@]}" --expand instanceView --query "$1" --output tsv; }
healthy() { instances "[?latestModelApplied==\`true\` && instanceView.vmHealth.status.code=='HealthState/healthy'].instanceId" | wc -l; }
az vmss update "${of[@]}" --set "virtualMachineProfile.storageProfile.imageReference.id=$version" --output none
mapfile -t old < <(instances "[?latestModelApplied==\`false\`].instanceId")
echo "${#old[@]} VMs of $set are to be replaced, $batch at a time"
while [ ${#old[@]} -gt 0 ]; do
    go=("${old[@]:0:batch}")
    old=("${old[@]:${#go[@]}}")
    want=$(($(healthy) + ${#go[@]}))
    capacity=$(az vmss show "${of[@]}" --query sku.capacity --output tsv)
    echo "bringing up ${#go[@]}"
    az vmss scale "${of[@]}" --new-capacity $((capacity + ${#go[@]})) --output none
    end=$(($(date +%s) + patience))
    until [ "$(healthy)" -ge "$want" ]; do
        [ "$(date +%s)" -lt "$end" ] ||
            fail "New VMs of $version did not become Healthy within $patience s: azp-bootstrap status on them says why. Nothing was deleted since; scale back to $capacity when you have looked."
        sleep "${LOOK:-20}"
    done
    echo "deleting ${go[*]}: each waits for its job"
    az vmss delete-instances "${of[@]}" --instance-ids "${go[@]}" --output none
done

# Versions that VMs of this scale set came from stay, however old. Those that other scale sets use are not known here.
mapfile -t used < <(az vmss list-instances "${of[@]}" --query '[].storageProfile.imageReference.exactVersion' --output tsv | sort -u)
mapfile -t versions < <(az sig image-version list "${gallery[@]}" --query 'reverse(sort_by([], &publishingProfile.publishedDate))[].name' --output tsv)
for each in "${versions[@]:keep}"; do
    case " ${used[*]} ${version##*/} " in
    *" $each "*) echo "kept $each: it is in use" ;;
    *)
        echo "deleting version $each"
        az sig image-version delete "${gallery[@]}" --gallery-image-version "$each"
        ;;
    esac
done
