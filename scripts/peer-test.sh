#!/usr/bin/env bash
# Lets clients that this project did not write use the simulated Azure, at its production names and
# addresses in a network of its own: Debian's azure-cli logs in with the managed identity and reads
# the secret; Microsoft's azure-devops-node-api lists what three boots left on the server, and its
# TypeScript models are held against every answer that it gets, field by field. What they accept, the
# product was not only tested against itself.
#
#   scripts/peer-test.sh BUILD
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
sim=""
cleanup() {
    status=$?
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

# there COMMAND...: runs it where Azure is simulated, with the names that lead there.
there() {
    # shellcheck disable=SC2016 # the inner shell expands them
    ip netns exec "$ns" unshare --mount sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$dir/hosts" "$@"
}

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
boot() {
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
echo "peer-test: 2 clients of others passed"
