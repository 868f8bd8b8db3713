#!/usr/bin/env bash
# Lets clients that this project did not write use the simulated Azure, at its production names and
# addresses in a network of its own: Debian's azure-cli logs in with the managed identity and reads
# the secret; Microsoft's azure-devops-node-api lists what three boots left on the server, and its
# TypeScript models are held against every answer that it gets, field by field. What they accept, the
# product was not only tested against itself.
#
#   scripts/peer-test.sh BUILD
#
# With APPLICATION_HEALTH=FILE, a build of Azure/applicationhealth-extension-linux (go build ./main in
# a clone of it), Microsoft's own Application Health extension watches a VM's daemon as well.
set -euo pipefail
exec 2>&1
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" -eq 0 ] || { echo "peer-test needs root: it makes a network namespace." >&2; exit 1; }
library=azure-devops-node-api@17.0.1
compiler=typescript@5.9.3

missing=()
for pair in az:azure-cli ip:iproute2 jq:jq node:nodejs npm:npm curl:curl; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "Installing ${missing[*]} with apt (azure-cli is large: some minutes)"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
fi

dir=$(mktemp -d)
chmod 755 "$dir"
ns=azp-peer-$$
sim="" extension="" daemon=""
cleanup() {
    status=$?
    for pid in "$extension" "$daemon"; do
        [ -z "$pid" ] || { kill "$pid" 2>/dev/null && wait "$pid" 2>/dev/null; } || true
    done
    for record in "$dir"/*/state/agent.pid; do
        [ ! -f "$record" ] || { read -r pid _ <"$record" && kill -INT -- "-$pid" 2>/dev/null; } || true
    done
    if [ -n "$sim" ]; then
        kill "$sim" 2>/dev/null || true
        wait "$sim" 2>/dev/null || true
    fi
    ip netns del "$ns" 2>/dev/null || true
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

echo "Installing $library and $compiler with npm"
npm install --silent --no-audit --no-fund --prefix "$dir/npm" "$library" "$compiler"
cp "$here"/peer/*.js "$dir/npm/"

pat=$(tr -dc a-z2-7 </dev/urandom | head -c 52 || true)
"$build/azp-sim" scenario | sed "s/simulatedpersonalaccesstoken[a-z2-7]*/$pat/" >"$dir/azure.yaml"
ip netns add "$ns"
ip -n "$ns" link set lo up
ip -n "$ns" addr add 169.254.169.254/32 dev lo
echo '127.0.0.1 localhost contoso.vault.azure.net dev.azure.com vstoken.dev.azure.com login.microsoftonline.com management.azure.com' >"$dir/hosts"
ip netns exec "$ns" "$build/azp-sim" serve --dir "$dir/azure" --scenario "$dir/azure.yaml" --imds 169.254.169.254:80 --tls 127.0.0.1:443 2>"$dir/sim.log" &
sim=$!
for _ in $(seq 100); do
    [ ! -f "$dir/azure/sim.json" ] || break
    kill -0 "$sim" 2>/dev/null || { cat "$dir/sim.log" >&2; exit 1; }
    sleep 0.05
done

# there COMMAND...: runs it where Azure is simulated, with the names that lead there. A program, so
# that the process that runs it in the background is COMMAND's.
cat >"$dir/there" <<SH
#!/bin/sh
exec ip netns exec $ns unshare --mount sh -c 'mount --bind $dir/hosts /etc/hosts && exec "\$@"' there "\$@"
SH
chmod 755 "$dir/there"
there() { "$dir/there" "$@"; }

echo "== azure-cli: log in with the managed identity, read the secret"
cat /etc/ssl/certs/ca-certificates.crt "$dir/azure/ca.pem" >"$dir/trusted.pem"
export AZURE_CONFIG_DIR=$dir/cli REQUESTS_CA_BUNDLE=$dir/trusted.pem AZURE_CORE_COLLECT_TELEMETRY=no AZURE_CORE_ONLY_SHOW_ERRORS=yes
there az login --identity --allow-no-subscriptions --output none
got=$(there az rest --method get --url 'https://contoso.vault.azure.net/secrets/azp-pat?api-version=7.4' --resource https://vault.azure.net | jq -r .value)
[ "$got" = "$pat" ] || { echo "FAILED: azure-cli read another secret than the vault holds" >&2; exit 1; }
echo "  ok: azure-cli read the secret of the vault"

echo "== azp-bootstrap: three boots"
package=$dir/vsts-agent-linux-x64-4.248.0.tar.gz
sum=$("$build/azp-sim" agent-package "$package")
machine() {
    local m=$dir/$1
    mkdir -p "$m/etc"
    cat >"$m/etc/config.yaml" <<YAML
url: https://dev.azure.com/contoso
target:
  $2
agent: {dir: $m/agent, user: nobody, service: process}
credential:
  keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}
network: {caFile: $dir/azure/ca.pem}
YAML
    "$build/azp-bootstrap" --config "$m/etc/config.yaml" prepare --package "$package" --sha256 "$sum"
}
boot() {
    local m=$dir/$1
    machine "$@"
    there "$build/azp-bootstrap" --config "$m/etc/config.yaml" --state-dir "$m/state" --log-level warn run --once
    "$build/azp-bootstrap" --state-dir "$m/state" status | sed -n 1,3p
}
boot environment 'environment: {project: Shop, name: production, tags: [web, "{{.Location}}"]}'
boot group 'deploymentGroup: {project: Shop, name: web-servers, tags: [web]}'
boot pool 'pool: {name: Default}'

echo "== $library: what stands on the server"
PAT=$pat NODE_EXTRA_CA_CERTS=$dir/azure/ca.pem there node "$dir/npm/agents.js" https://dev.azure.com/contoso
echo "  ok: the library lists the agent, the target and the resource, online"

echo "== $library: every answer against its models, while each agent runs a job"
for _ in environment group pool; do
    there "$build/azp-sim" job --dir "$dir/azure" --takes 5s web-000001
done
PAT=$pat NODE_EXTRA_CA_CERTS=$dir/azure/ca.pem there node "$dir/npm/models.js" https://dev.azure.com/contoso
echo "  ok: no answer has a field, a type or a member of an enumeration that the models lack"

if [ -z "${APPLICATION_HEALTH:-}" ]; then
    echo "peer-test: 2 clients of others passed (the Application Health extension: not run, see APPLICATION_HEALTH in $0)"
    exit 0
fi

echo "== Application Health extension: what it reports of a VM from before its daemon starts until it has left"
e=$dir/extension
mkdir -p "$e/bin" "$e/config" "$e/status" "$e/log" "$e/events"
cp "$APPLICATION_HEALTH" "$e/bin/applicationhealth-extension"
cat >"$e/HandlerEnvironment.json" <<JSON
[{"name": "ApplicationHealthLinux", "version": 1, "handlerEnvironment": {"logFolder": "$e/log", "configFolder": "$e/config",
  "statusFolder": "$e/status", "heartbeatFile": "$e/heartbeat.log", "eventsFolder": "$e/events"}}]
JSON
cat >"$e/bin/manifest.xml" <<'XML'
<ExtensionImage xmlns="http://schemas.microsoft.com/windowsazure"><ProviderNameSpace>Microsoft.ManagedServices</ProviderNameSpace>
<Type>ApplicationHealthLinux</Type><Version>2.0.29</Version></ExtensionImage>
XML
cat >"$e/config/0.settings" <<'JSON'
{"runtimeSettings": [{"handlerSettings": {"publicSettings": {"protocol": "http", "port": 8484, "requestPath": "/healthz",
  "intervalInSeconds": 5, "numberOfProbes": 3, "gracePeriod": 600}}}]}
JSON
# reports STATE SECONDS: the extension comes to report it; says what it reported before.
reported() { jq -r '.[0].status.substatus[]? | select(.name == "ApplicationHealthState").formattedMessage.message' "$e/status/0.status" 2>/dev/null || true; }
reports() {
    local now="" last=""
    for _ in $(seq "$2"); do
        now=$(reported)
        [ "$now" = "$last" ] || { last=$now && echo "  it reports: ${now:-nothing}"; }
        [ "$now" != "$1" ] || return 0
        sleep 1
    done
    echo "FAILED: the extension reports ${now:-nothing}, not $1, after $2 s" >&2
    tail -n 20 "$e/out.log" >&2
    return 1
}
# stays STATE SECONDS: it reports nothing else meanwhile.
stays() {
    for _ in $(seq "$2"); do
        [ "$(reported)" = "$1" ] || { echo "FAILED: the extension reports $(reported), not $1 as before" >&2; return 1; }
        sleep 1
    done
}
daemon() { "$dir/there" "$build/azp-bootstrap" --config "$dir/healthy/etc/config.yaml" --state-dir "$dir/healthy/state" run >>"$dir/daemon.log" 2>&1 & daemon=$!; }

machine healthy 'pool: {name: Default}'
"$dir/there" "$e/bin/applicationhealth-extension" enable >"$e/out.log" 2>&1 &
extension=$!
reports Initializing 15
{ cat "$dir/azure.yaml" && echo 'faults: [{service: vault, path: ., status: 503}]'; } >"$dir/outage.yaml"
there "$build/azp-sim" apply --dir "$dir/azure" "$dir/outage.yaml"
daemon
stays Initializing 20
there "$build/azp-sim" apply --dir "$dir/azure" "$dir/azure.yaml"
kill -HUP "$daemon"
reports Healthy 60
echo "  the daemon is killed and started again"
kill -KILL "$daemon"
wait "$daemon" 2>/dev/null || true
daemon
stays Healthy 30
echo "  the VM leaves"
there "$build/azp-bootstrap" --config "$dir/healthy/etc/config.yaml" --state-dir "$dir/healthy/state" --log-level warn deregister
reports Unhealthy 60
echo "peer-test: 2 clients of others and the Application Health extension passed"
