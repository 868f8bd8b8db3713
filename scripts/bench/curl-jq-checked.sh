#!/usr/bin/env bash
# Peer of the benchmark: curl and jq, with the checks that azp-bootstrap makes.
set -euo pipefail
get() { curl -fsS --retry 5 --retry-max-time 600 "$@"; }
instance=$(get -H Metadata:true 'http://169.254.169.254/metadata/instance?api-version=2021-12-13')
name=$(jq -r .compute.osProfile.computerName <<<"$instance")
token=$(get -H Metadata:true 'http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net' | jq -r .access_token)
pat=$(get -H "Authorization: Bearer $token" "$VAULT/secrets/$SECRET?api-version=7.4" | jq -r .value)
# The PAT through a file descriptor: argument lists are for everyone to read.
ask() { get --config <(printf 'user = ":%s"\n' "$pat") "$@"; }
id=$(ask "$URL/$PROJECT/_apis/pipelines/environments?name=$ENVIRONMENT&api-version=7.1-preview" | jq -er '.value[0].id')
machines="$URL/$PROJECT/_apis/pipelines/environments/$id/providers/virtualmachines?name=$name&api-version=7.1-preview"
status=$(ask "$machines" | jq -r '.value[0].agent.status // "none"')
[ "$status" != online ] || { echo "the name $name is taken" >&2; exit 1; }
cd "$AGENT_DIR"
VSTS_AGENT_INPUT_TOKEN=$pat setpriv --reuid=nobody --regid=nogroup --clear-groups ./config.sh --unattended --acceptTeeEula --replace --url "$URL" --auth PAT \
    --agent "$name" --environment --environmentname "$ENVIRONMENT" --projectname "$PROJECT" --addvirtualmachineresourcetags --virtualmachineresourcetags web
bin/svc.sh install nobody >/dev/null # stands for ./svc.sh
bin/svc.sh start >/dev/null
for _ in $(seq 120); do
    [ "$(ask "$machines" | jq -r '.value[0].agent.status // "none"')" != online ] || exit 0
    sleep 1
done
echo "the agent does not come online" >&2
exit 1
