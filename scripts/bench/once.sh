#!/usr/bin/env bash
# Peer of the benchmark: one job, one VM, as people write it with curl and jq. The agent runs with --once, and when it has ended
# it is removed; the PAT is fetched anew for that, as nobody keeps it while a job runs.
set -euo pipefail
: "${VAULT:?}" "${SECRET:?}" "${URL:?}" "${POOL:?}" "${NAME:?}" "${AGENT_DIR:?}"
pat() {
    local token
    token=$(curl -fsS -H Metadata:true 'http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net' | jq -r .access_token)
    curl -fsS --retry 5 -H "Authorization: Bearer $token" "$VAULT/secrets/$SECRET?api-version=7.4" | jq -r .value
}
cd "$AGENT_DIR"
as() { setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"; }
as ./config.sh --unattended --acceptTeeEula --replace --url "$URL" --auth PAT --token "$(pat)" --agent "$NAME" --pool "$POOL"
as ./run.sh --once
pat=$(pat)
ask() { curl -fsS --config <(printf 'user = ":%s"\n' "$pat") "$@"; }
pool=$(ask "$URL/_apis/distributedtask/pools?poolName=$POOL&api-version=7.1" | jq -er '.value[0].id')
agents=$URL/_apis/distributedtask/pools/$pool/agents
id=$(ask "$agents?agentName=$NAME&api-version=7.1" | jq -er '.value[0].id')
ask -X DELETE "$agents/$id?api-version=7.1"
