#!/usr/bin/env bash
# Peer of the benchmark: the same with azure-cli. (az rest: Debian's az keyvault is broken.)
set -euo pipefail
az login --identity --allow-no-subscriptions --output none
pat=$(az rest --method get --url "$VAULT/secrets/$SECRET?api-version=7.4" --resource https://vault.azure.net --query value --output tsv)
cd "$AGENT_DIR"
setpriv --reuid=nobody --regid=nogroup --clear-groups ./config.sh --unattended --acceptTeeEula --replace --url "$URL" --auth PAT --token "$pat" \
    --agent "$NAME" --environment --environmentname "$ENVIRONMENT" --projectname "$PROJECT" --addvirtualmachineresourcetags --virtualmachineresourcetags web
bin/svc.sh install nobody >/dev/null # stands for ./svc.sh
bin/svc.sh start >/dev/null
