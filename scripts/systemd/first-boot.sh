#!/bin/bash
# Runs inside the machine, on its first boot: image time and first boot in one.
set -u
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    systemctl --no-pager status azp-bootstrap 'vsts.agent.*'
    journalctl --no-pager -u azp-bootstrap -u 'vsts.agent.*' | tail -60
    exit 1
}
ok() { echo "  ok: $1"; }

azp-bootstrap prepare --package "/root/$1" --sha256 "$2" || fail prepare
rm "/root/$1"
mkdir -p /etc/azp-bootstrap/start.d
cat >/etc/azp-bootstrap/start.d/10-gate <<'SH'
#!/bin/sh
env >/var/lib/gate.env
cat /proc/self/cgroup >/var/lib/gate.cgroup
systemctl list-units --state=active --plain --no-legend 'vsts.agent.*' | grep -q . && exit 1
touch /usr/gate-was-here || exit 1 # which the daemon's own sandbox forbids
sleep 1000 &
echo $! >/var/lib/gate.child
sleep 3
echo passed >>/var/lib/gate.count
cut -d' ' -f1 /proc/uptime >/var/lib/gate.ended
SH
chmod 755 /etc/azp-bootstrap/start.d/10-gate
azp-bootstrap install --now || fail "install --now"
azp-bootstrap install || fail "install, asked again"
azp-bootstrap status --wait --timeout 60s || fail "status --wait"
[ "$(systemctl is-active azp-bootstrap)" = active ] || fail "the daemon is not active"
[ "$(systemctl is-enabled azp-bootstrap)" = enabled ] || fail "the daemon is not enabled"
ok "ready; $(systemctl show -P StatusText azp-bootstrap)"

grep -q 'azp-bootstrap-start-10-gate.service' /var/lib/gate.cgroup || fail "the start script ran in $(cat /var/lib/gate.cgroup)"
grep -q '^AZP_BOOTSTRAP_VM=' /var/lib/gate.env || fail "the start script was not told of its VM"
grep -vE '^(AZP_BOOTSTRAP_(VM|INSTANCE_ID|LOCATION|SCALE_SET|RESOURCE_GROUP|SUBSCRIPTION_ID|TARGET_(KIND|PROJECT|NAME))|PATH|LANG|PWD|OLDPWD|SHLVL|_)=' \
    /var/lib/gate.env && fail "the start script's environment has more"
[ ! -e "/proc/$(cat /var/lib/gate.child)" ] || fail "the start script's child runs on"
systemctl list-units --all --plain --no-legend 'azp-bootstrap-start-*' | grep -q . && fail "the start script's unit stays"
ok "a start script ran before the agent, in a unit of its own"

exec 3<>/dev/tcp/127.0.0.1/8484 || fail "health is not served"
printf 'GET /healthz HTTP/1.0\r\n\r\n' >&3
answer=$(cat <&3)
exec 3>&-
case "$answer" in *" 200 OK"*'"ApplicationHealthState":"Healthy"'*) ok "healthy" ;; *) fail "health: $answer" ;; esac

unit=$(azp-bootstrap status --json | sed -n 's/.*"service": "\(.*\)".*/\1/p' | sed 's/\\\\/\\/g')
[ "$unit" = "$(cat /opt/azp-agent/.service)" ] || fail ".service names another unit than the state: $unit"
plain=$(systemd-escape --unescape -- "$unit")
[ "$(systemctl is-active "$unit")" = active ] || fail "$unit is not active"
[ "$(systemctl is-enabled "$unit")" = enabled ] || fail "$unit is not enabled"
[ "$(systemctl is-active "$plain")" = active ] || fail "$plain, the name as people type it, is not active"
ok "$unit is enabled and active"

pid=$(systemctl show -P MainPID "$unit")
[ "$(ps -o user= -p "$pid" 2>/dev/null || stat -c %U "/proc/$pid")" = azp ] || fail "the agent does not run as azp"
mapfile -t group < <(cat "/sys/fs/cgroup/systemd/system.slice/$unit/cgroup.procs" "/sys/fs/cgroup/system.slice/$unit/cgroup.procs" 2>/dev/null)
[ ${#group[@]} -ge 2 ] || fail "the agent's control group was not found"
for p in "${group[@]}"; do
    [ "$(stat -c %U "/proc/$p")" = azp ] || fail "process $p of the agent is not azp's"
    grep -q . "/proc/$p/environ" && tr '\0' '\n' <"/proc/$p/environ" | grep -q '^VSTS_AGENT_INPUT' && fail "process $p of the agent was given the token"
done
ok "the agent runs as azp, without a token"
[ "$(stat -c %U:%a /opt/azp-agent.package)" = root:755 ] || fail "the package is not root's"
[ ! -e /tmp/azp-sim-svc.sh-was-run ] || fail "root ran svc.sh of the agent's folder"

before=$(cat /var/lib/azp-bootstrap/state.json)
since=$(systemctl show -P ActiveEnterTimestampMonotonic "$unit")
systemctl restart azp-bootstrap || fail "restart"
for _ in $(seq 100); do
    case "$(systemctl show -P StatusText azp-bootstrap)" in *ready*) break ;; esac
    sleep 0.1
done
azp-bootstrap status --wait --timeout 30s >/dev/null || fail "not ready after the restart"
[ "$before" = "$(cat /var/lib/azp-bootstrap/state.json)" ] || fail "the restart changed the state"
[ "$since" = "$(systemctl show -P ActiveEnterTimestampMonotonic "$unit")" ] || fail "the restart touched the agent's service"
ok "a restart changes nothing"
systemctl reload azp-bootstrap || fail "reload"
for _ in $(seq 400); do
    journalctl --no-pager -u azp-bootstrap | grep -q 'the configuration is read again' && break
    sleep 0.1
done
journalctl --no-pager -u azp-bootstrap | grep -q 'the configuration is read again' || fail "the reload was not heard"
[ "$since" = "$(systemctl show -P ActiveEnterTimestampMonotonic "$unit")" ] || fail "the reload touched the agent's service"
ok "a reload without a change changes nothing"
[ "$(wc -l </var/lib/gate.count)" = 1 ] || fail "the start script ran again in the same boot"
azp-bootstrap doctor >/var/lib/azp-test/doctor || fail "doctor: $(cat /var/lib/azp-test/doctor)"
ok "the doctor finds nothing"

systemctl kill --kill-whom=main --signal=SIGKILL "$unit"
for _ in $(seq 300); do
    [ "$(systemctl show -P NRestarts "$unit")" = 1 ] && [ "$(systemctl is-active "$unit")" = active ] && break
    sleep 0.1
done
[ "$(systemctl is-active "$unit")" = active ] || fail "the agent's service was killed and does not come back"
ok "the agent's service comes back after it was killed"

runuser -u nobody -- azp-bootstrap status | grep -q '● ready' || fail "a user who is not root does not see that the agent runs"
systemctl stop azp-bootstrap "$unit" || fail "stop"
for user in root nobody; do
    runuser -u "$user" -- azp-bootstrap status >/var/lib/azp-test/status
    [ $? = 18 ] || fail "status of a stopped agent: $(cat /var/lib/azp-test/status)"
    # since when, systemd forgets with a unit that nothing refers to
    grep -q 'does not run (inactive' /var/lib/azp-test/status || fail "status does not say that the agent is stopped: $(cat /var/lib/azp-test/status)"
    grep -q 'daemon    not running since 20' /var/lib/azp-test/status || fail "status does not say that the daemon is stopped: $(cat /var/lib/azp-test/status)"
done
azp-bootstrap status --wait --timeout 1s >/dev/null 2>&1 && fail "status --wait succeeds although nothing runs"
systemctl start azp-bootstrap || fail "start"
azp-bootstrap status --wait --timeout 60s >/dev/null || fail "not ready after the start"
[ "$(systemctl is-active "$unit")" = active ] || fail "status --wait came back before the agent ran"
ok "status and its --wait tell the truth about a daemon and an agent that were stopped"

pid=$(systemctl show -P MainPID azp-bootstrap)
grep -q 'Max core file size  *0  *0' "/proc/$pid/limits" || fail "the daemon may write core dumps"
swap=/sys/fs/cgroup/system.slice/azp-bootstrap.service/memory.swap.max
[ ! -e "$swap" ] || [ "$(cat "$swap")" = 0 ] || fail "the daemon's memory may be swapped out"
! journalctl --no-pager _SYSTEMD_UNIT=azp-bootstrap.service | grep -qi 'error' || fail "errors in the journal"
azp-bootstrap config show >/dev/null || fail "config show"
touch /var/lib/azp-test/passed
