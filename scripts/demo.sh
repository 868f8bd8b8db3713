#!/usr/bin/env bash
# The demo: a simulated Azure, and one VM that boots against it. Everything lives in a temporary
# folder and is gone afterwards. With KEEP=1 the VM's daemon goes on until Ctrl-C, to play with.
#
#   scripts/demo.sh BUILD environment|deploymentGroup|pool services|server|tfs
set -euo pipefail
exec 2>&1
build=$(cd "$1" && pwd) target=$2 server=$3

case $server in
services) url=https://dev.azure.com/contoso ;;
server) url=https://devops.corp/DefaultCollection/ ;;
tfs) url=https://tfs.corp:8080/tfs/DefaultCollection ;;
*)
    echo "SERVER=$server is unknown: services, server or tfs" >&2
    exit 2
    ;;
esac
case $target in
environment) what='environment: {project: Shop, name: production, tags: [web, "{{.Location}}"]}' ;;
deploymentGroup) what='deploymentGroup: {project: Shop, name: web-servers, tags: [web]}' ;;
pool) what='pool: {name: Default}' ;;
*)
    echo "TARGET=$target is unknown: environment, deploymentGroup or pool" >&2
    exit 2
    ;;
esac

# The agent never runs as root; root's demo lets it run as nobody, anyone else's as themselves.
user=""
[ "$(id -u)" -ne 0 ] || user=nobody

dir=$(mktemp -d)
chmod 755 "$dir"
sim="" daemon=""
cleanup() {
    status=$?
    if [ -n "$daemon" ]; then
        kill "$daemon" 2>/dev/null || true
        wait "$daemon" 2>/dev/null || true
    fi
    if [ -f "$dir/state/agent.pid" ]; then
        read -r pid _ <"$dir/state/agent.pid"
        kill -INT -- "-$pid" 2>/dev/null || true
    fi
    if [ -n "$sim" ]; then
        kill "$sim" 2>/dev/null || true
        wait "$sim" 2>/dev/null || true
    fi
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say() { printf '\n\033[1m== %s\033[0m\n' "$1"; }
[ -t 1 ] || say() { printf '\n== %s\n' "$1"; }

say "1. Azure (simulated): IMDS, Key Vault, Azure DevOps"
"$build/azp-sim" serve --dir "$dir/azure" 2>"$dir/sim.log" &
sim=$!
for _ in $(seq 100); do
    [ ! -f "$dir/azure/sim.json" ] || break
    kill -0 "$sim" 2>/dev/null || { cat "$dir/sim.log" >&2; exit 1; }
    sleep 0.05
done
address() { sed -n "s/.*\"$1\": \"\(http[^\"]*\)\".*/\1/p" "$dir/azure/sim.json" | head -1; }
imds=$(address web_1) proxy=$(address proxy)
echo "IMDS $imds, the rest of Azure behind the proxy $proxy"

say "2. Image time: the configuration, and the (stand-in) agent package, verified"
mkdir -p "$dir/etc"
cat >"$dir/etc/config.yaml" <<YAML
url: $url
target:
  $what
agent:
  dir: $dir/agent
  user: "$user"
  service: process
credential:
  keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}
network:
  proxy: $proxy
  caFile: $dir/azure/ca.pem
imds: {endpoint: $imds}
YAML
cat "$dir/etc/config.yaml"
azp() { "$build/azp-bootstrap" --config "$dir/etc/config.yaml" --state-dir "$dir/state" "$@"; }
package=vsts-agent-linux-x64-4.248.0.tar.gz
case $(uname -m) in aarch64 | arm64) package=vsts-agent-linux-arm64-4.248.0.tar.gz ;; esac
sum=$("$build/azp-sim" agent-package "$dir/$package")
azp prepare --package "$dir/$package" --sha256 "$sum"

say "3. First boot: azp-bootstrap run --once"
azp run --once

say "4. azp-bootstrap status"
azp status

say "5. What Azure saw: the agents on its servers, and the requests of this boot"
"$build/azp-sim" agents --dir "$dir/azure"
"$build/azp-sim" log --dir "$dir/azure"

if [ "${KEEP:-}" = 1 ]; then
    cat >"$dir/play" <<SH
export PATH=$build:\$PATH
export AZP_BOOTSTRAP_CONFIG=$dir/etc/config.yaml AZP_BOOTSTRAP_STATE_DIR=$dir/state AZP_SIM_DIR=$dir/azure
SH
    azp run 2>"$dir/daemon.log" &
    daemon=$!
    say "It stays: the VM is in the $target at $url, its daemon runs until you press Ctrl-C here"
    cat <<TEXT
In another terminal:
  . $dir/play
  azp-bootstrap status --watch              # the VM; tail -f $dir/daemon.log is its log
  azp-bootstrap doctor                      # what it needs to join, each checked
  azp-sim job web-000001 --takes 30s        # a job for its agent
  azp-sim agents                            # what stands on the servers
  azp-sim log                               # each request that Azure saw
  azp-sim event Terminate --in 5m           # Azure takes the VM away: its job is waited for, its agent removed
  azp-bootstrap deregister                  # an operator takes it out …
  azp-bootstrap rejoin                      # … and in again
TEXT
    trap 'exit 0' INT TERM
    wait "$daemon"
    exit
fi
say "Done: the VM is in the $target at $url. Cleaning up."
