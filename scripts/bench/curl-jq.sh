#!/usr/bin/env bash
# Peer of the benchmark: the bootstrap that people write, with curl and jq.
set -euo pipefail
token=$(curl -fsS -H Metadata:true 'http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net' | jq -r .access_token)
pat=$(curl -fsS --retry 5 -H "Authorization: Bearer $token" "$VAULT/secrets/$SECRET?api-version=7.4" | jq -r .value)
cd "$AGENT_DIR"
setpriv --reuid=nobody --regid=nogroup --clear-groups ./config.sh --unattended --acceptTeeEula --replace --url "$URL" --auth PAT --token "$pat" \
    --agent "$NAME" --environment --environmentname "$ENVIRONMENT" --projectname "$PROJECT" --addvirtualmachineresourcetags --virtualmachineresourcetags web
bin/svc.sh install nobody >/dev/null # stands for ./svc.sh
bin/svc.sh start >/dev/null
