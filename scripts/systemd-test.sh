#!/usr/bin/env bash
# Boots Debian with a real systemd (systemd-nspawn) in a network of its own, where Azure stands at its
# production names and addresses: IMDS at 169.254.169.254, https://dev.azure.com, the vault, the
# servers on premises. The daemon is installed by `azp-bootstrap install --now` or by its package, with no
# option that production would not have, and must bring the agent online as a service.
#
#   scripts/systemd-test.sh BUILD [MACHINE...]     deployment-group, pool, package, wall, retire, environment; by default all
set -euo pipefail
build=$(cd "$1" && pwd)
machines=" ${*:2} "
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" -eq 0 ] || { echo "systemd-test needs root: it makes a network namespace and boots a container." >&2; exit 1; }

"$here/apt.sh" systemd-nspawn:systemd-container mmdebstrap:mmdebstrap ip:iproute2 jq:jq
root=$("$here/systemd/root.sh" "$build")

dir=$(mktemp -d)
chmod 755 "$dir"
ns=azp-$$
sim=""
cleanup() {
    status=$?
    if [ -n "$sim" ]; then
        kill "$sim" 2>/dev/null || true
        wait "$sim" 2>/dev/null || true
    fi
    for m in "$dir"/*/root; do
        mountpoint -q "$m" && umount "$m"
    done
    ip netns del "$ns" 2>/dev/null || true
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# A PAT of this run's own, so that finding it anywhere means a leak.
pat=$(tr -dc a-z2-7 </dev/urandom | head -c 52 || true)
# Pools of their own for machines that leave jobs behind them in the queue.
"$build/azp-sim" scenario | sed "s/simulatedpersonalaccesstoken[a-z2-7]*/$pat/; 0,/pools: .Default./s//pools: [Default, cut, off]/" >"$dir/azure.yaml"

ip netns add "$ns"
ip -n "$ns" link set lo up
ip -n "$ns" addr add 169.254.169.254/32 dev lo
ip netns exec "$ns" "$build/azp-sim" serve --dir "$dir/azure" --scenario "$dir/azure.yaml" --imds 169.254.169.254:80 --tls 127.0.0.1:443 --tls 127.0.0.1:8080 2>"$dir/sim.log" &
sim=$!
for _ in $(seq 100); do
    [ ! -f "$dir/azure/sim.json" ] || break
    kill -0 "$sim" 2>/dev/null || { cat "$dir/sim.log" >&2; exit 1; }
    sleep 0.05
done
package=vsts-agent-linux-x64-4.248.0.tar.gz
sum=$("$build/azp-sim" agent-package "$dir/$package")

# boot NAME SCRIPT [OPTION...]: one boot of the machine, to its power-off; what the test inside found comes back.
boot() {
    local m=$dir/$1 script=$2
    install -m 755 "$here/systemd/$script" "$m/root/root/test.sh"
    rm -rf "$m/root/var/lib/azp-test"
    systemd-nspawn -q --register=no --keep-unit --network-namespace-path="/run/netns/$ns" -D "$m/root" --boot \
        --bind-ro="$build/azp-sim:/usr/local/bin/azp-sim" --bind-ro="$dir/azure:/mnt/azure" --setenv=CI_FULL="${CI_FULL:-}" --setenv=CI_GATE="${CI_GATE:-}" "${@:3}" \
        >"$m/console.log" 2>&1 </dev/null || true
    cat "$m/root/var/lib/azp-test/log" 2>/dev/null || true
    [ -f "$m/root/var/lib/azp-test/passed" ] || {
        echo "FAILED: $1 ($script); the end of its console:" >&2
        tail -30 "$m/console.log" >&2
        exit 1
    }
}

# machine NAME URL TARGET [ROOT]: a disk with the daemon and its configuration, as an image would have it.
machine() {
    local m=$dir/$1
    mkdir -p "$m"/{upper,work,root}
    mount -t overlay overlay -o "lowerdir=${4:-$root},upperdir=$m/upper,workdir=$m/work" "$m/root"
    install -m 755 "$build/azp-bootstrap" "$m/root/usr/bin/"
    install -m 644 "$dir/$package" "$m/root/root/"
    cat "$dir/azure/ca.pem" >>"$m/root/etc/ssl/certs/ca-certificates.crt"
    echo '127.0.0.1 localhost contoso.vault.azure.net dev.azure.com vstoken.dev.azure.com management.azure.com devops.corp tfs.corp' >"$m/root/etc/hosts"
    mkdir -p "$m/root/etc/azp-bootstrap"
    cat >"$m/root/etc/azp-bootstrap/config.yaml" <<YAML
url: $2
target:
  $3
credential:
  keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}
YAML
    cat >"$m/root/etc/systemd/system/azp-test.service" <<UNIT
[Unit]
Description=The test
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/root/test.sh $package $sum
ExecStopPost=/bin/systemctl --no-block poweroff
TimeoutStartSec=900
UNIT
    mkdir -p "$m/root/etc/systemd/system/multi-user.target.wants"
    ln -s ../azp-test.service "$m/root/etc/systemd/system/multi-user.target.wants/"
}

count() { ip netns exec "$ns" "$build/azp-sim" agents --json --dir "$dir/azure" | jq "[.[] | select(.server==\"$1\" and .status==\"$2\")] | length"; }

awaitOnline() { # an agent that was removed is noticed when it has lost Azure DevOps for half a minute
    for _ in $(seq 1800); do
        [ "$(count "${1%/}" online)" -ne 1 ] || return 0
        sleep 0.1
    done
    return 1
}

# takeAway URL: somebody removes the agent by hand; as soon as it is online anew it gets a job, and Azure
# announces the VM's end.
takeAway() {
    awaitOnline "$1"
    ip netns exec "$ns" "$build/azp-sim" delete-agent --dir "$dir/azure" web-000001
    awaitOnline "$1"
    ip netns exec "$ns" "$build/azp-sim" job --dir "$dir/azure" --takes 8s web-000001 >/dev/null
    ip netns exec "$ns" "$build/azp-sim" event --dir "$dir/azure" --in 5m Terminate >/dev/null
}

# revoke: all PATs are revoked while the job "mid" runs, and Azure announces the VM's end.
revoke() {
    sed '/^pats:/,/^servers:/{/^servers:/!d}' "$dir/azure.yaml" >"$dir/revoked.yaml"
    echo 'pats: []' >>"$dir/revoked.yaml"
    for _ in $(seq 900); do
        ! ip netns exec "$ns" "$build/azp-sim" jobs --dir "$dir/azure" | grep '"name":"mid"' | grep -q '"received"' || break
        sleep 0.1
    done
    ip netns exec "$ns" "$build/azp-sim" apply --dir "$dir/azure" "$dir/revoked.yaml"
    ip netns exec "$ns" "$build/azp-sim" event --dir "$dir/azure" --in 2m Terminate >/dev/null
}

# leaks NAME: the PAT is nowhere on the machine's disk or console.
leaks() {
    grep -rqF "$pat" "$dir/$1/upper" "$dir/$1/console.log" || return 0
    echo "FAILED: $1: the PAT is on disk:" >&2
    grep -rlF "$pat" "$dir/$1/upper" "$dir/$1/console.log" >&2
    exit 1
}

wanted() { case $machines in "  " | *" $1 "*) return 0 ;; *) return 1 ;; esac }
passed=0
try() {
    local name=$1 url=$2 target=$3 end=${4:-}
    wanted "$name" || return 0
    echo "== $name: first boot"
    machine "$name" "$url" "$target"
    boot "$name" first-boot.sh
    echo "== $name: second boot"
    boot "$name" second-boot.sh
    grep -qa '^_SYSTEMD_UNIT=azp-bootstrap.service' "$dir/$name/root/var/lib/azp-test/journal" || { echo "FAILED: $name: no journal to search" >&2; exit 1; }
    leaks "$name"
    [ "$(count "${url%/}" offline)" -eq 1 ] || { echo "FAILED: $name: not exactly one agent of this VM on the server (offline, as the VM is off)" >&2; exit 1; }
    if [ "$end" = terminate ]; then
        echo "== $name: removed by hand, registered anew, then terminated while a job runs"
        takeAway "$url" &
        local taken=$!
        boot "$name" terminate.sh
        wait "$taken"
        [ "$(count "${url%/}" online)$(count "${url%/}" offline)" = 00 ] || { echo "FAILED: $name: the agent is still on the server" >&2; exit 1; }
        leaks "$name"
        echo "== $name: joined by hand, its agent updates itself; then terminated in mid-job, all PATs being revoked"
        revoke &
        local revoked=$!
        boot "$name" revoked.sh
        wait "$revoked"
        leaks "$name"
    fi
    if [ "$end" = verbs ]; then
        echo "== $name: jobs that want to become root"
        boot "$name" hostile.sh
        leaks "$name"
        echo "== $name: the service manager fails at each verb"
        boot "$name" verbs.sh
    fi
    if [ "$end" = shutdown ]; then
        echo "== $name: a copy of its disk, where IMDS does not answer: the original's agent does not start"
        { cat "$dir/azure.yaml"; echo 'faults: [{service: imds, status: 500}]'; } >"$dir/noimds.yaml"
        ip netns exec "$ns" "$build/azp-sim" apply --dir "$dir/azure" "$dir/noimds.yaml"
        boot "$name" copied.sh
        ip netns exec "$ns" "$build/azp-sim" apply --dir "$dir/azure" "$dir/azure.yaml"
        echo "== $name: shut down for good, with drain.onShutdown"
        boot "$name" shutdown.sh
        [ "$(count "${url%/}" online)$(count "${url%/}" offline)" = 00 ] || {
            journalctl --no-pager --directory "$dir/$name/upper/var/log/journal/"* -u azp-bootstrap 2>/dev/null | tail -20 >&2
            echo "FAILED: $name: the agent was left behind at the shutdown" >&2
            exit 1
        }
        echo "  ok: the agent is gone from the server"
    fi
    passed=$((passed + 1))
    umount "$dir/$name/root"
}
try deployment-group https://devops.corp/DefaultCollection/ 'deploymentGroup: {project: Shop, name: web-servers, tags: [web]}' verbs
try pool https://tfs.corp:8080/tfs/DefaultCollection 'pool: {name: Default}' shutdown
if wanted package; then
    # shellcheck source=scripts/systemd/package.sh
    . "$here/systemd/package.sh"
    passed=$((passed + 1))
fi
if wanted wall; then
    # shellcheck source=scripts/systemd/walled.sh
    . "$here/systemd/walled.sh"
    passed=$((passed + 1))
fi
if wanted retire; then
    # shellcheck source=scripts/systemd/retired.sh
    . "$here/systemd/retired.sh"
    passed=$((passed + 1))
fi
# last, because the next machine would be told of its end as well: all are one VM to Azure
try environment https://dev.azure.com/contoso 'environment: {project: Shop, name: production, tags: [web]}' terminate
echo "systemd-test: $passed machines passed"
