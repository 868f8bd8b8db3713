#!/bin/bash
# Runs inside the machine, on its first boot: what a job may try to reach the metadata service, from inside the agent's
# control group and from outside; then how the wall comes back, and goes.
set -u
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
unit=azp-bootstrap-metadata.service
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    azp-bootstrap doctor
    systemctl --no-pager status azp-bootstrap $unit 'vsts.agent.*'
    journalctl --no-pager -u azp-bootstrap -u $unit -u 'vsts.agent.*' | tail -60
    nft list ruleset
    exit 1
}
ok() { echo "  ok: $1"; }
await() { # WHAT COMMAND...
    local what=$1 _
    shift
    for _ in $(seq 450); do
        ! "$@" || return 0
        sleep 0.2
    done
    fail "no $what"
}
access() { azp-bootstrap status --json | tr -d ' \n' | grep -q "\"metadata\":{\"access\":\"$1\""; }

azp-bootstrap prepare --package "/root/$1" --sha256 "$2" || fail prepare
rm "/root/$1"
usermod --add-subuids 300000-300099 azp || fail "subordinate numbers"
azp-bootstrap install --now || fail "install --now"
azp-bootstrap status --wait --timeout 60s || fail "status --wait"
access closed || fail "status does not say closed"
azp-bootstrap doctor --only metadata | grep -q 'do not reach' || fail "doctor: $(azp-bootstrap doctor --only metadata)"
curl -s http://127.0.0.1:8484/metrics | grep -qx 'azp_bootstrap_metadata_access{state="closed"} 1' || fail "the metric"
[ "$(systemctl is-enabled $unit)" = enabled ] || fail "the wall's unit is not enabled"
systemctl show -P CapabilityBoundingSet $unit | grep -qx cap_net_admin || fail "the wall's unit may do more than it must"
agent=$(cat /opt/azp-agent/.service)
systemctl show -P Wants "$agent" | grep -q $unit || fail "the agent does not want the wall"
systemctl show -P IPAddressDeny "$agent" | grep -q 169.254.169.254 || fail "the agent's unit has no second wall"
ok "status, doctor and metrics say closed; $(systemd-analyze security --no-pager $unit | tail -1)"

# asks WHO...: what becomes of a question for a token, by a command that runs curl.
cat >/usr/local/bin/ask <<'SH'
#!/bin/sh
exec curl -s -o /dev/null -m 5 -w '%{http_code} %{time_total}\n' -H Metadata:true \
    "http://${1:-169.254.169.254}/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net"
SH
chmod 755 /usr/local/bin/ask
shut() { # WHAT RESULT
    case $2 in "000 "*) ok "shut: $1 (after ${2#* } s)" ;; *) fail "$1 got $2" ;; esac
}
as() { setpriv --reuid azp --regid azp --init-groups --reset-env "$@"; }
case $(ask) in "200 "*) ok "root gets a token" ;; *) fail "root gets no token" ;; esac
shut "a process of the account" "$(as ask)"
shut "IPv6-mapped" "$(as ask '[::ffff:169.254.169.254]')"
shut "a child in the background" "$(as sh -c 'ask >/tmp/child & wait'; cat /tmp/child)"
shut "another group" "$(setpriv --reuid azp --regid 0 --clear-groups ask)"
shut "a subordinate number (rootless containers)" "$(setpriv --reuid 300050 --regid 300050 --clear-groups ask)"
shut "a network of its own" "$(as unshare -Urn sh -c 'ip link set lo up; ask')"
systemd-run -q --wait --pipe -p User=azp ask >/tmp/unit
shut "a unit of the account's" "$(cat /tmp/unit)"
loginctl enable-linger azp
await "user manager" systemctl -q is-active "user@$(id -u azp)"
as env XDG_RUNTIME_DIR="/run/user/$(id -u azp)" systemd-run --user -q --wait --pipe ask >/tmp/user || true
shut "systemd-run --user" "$(cat /tmp/user)"
systemctl start cron atd
echo 'ask >/tmp/at' | as at now || fail at
echo '* * * * * /usr/local/bin/ask >/tmp/cron' | crontab -u azp -
await "at" test -s /tmp/at
shut at "$(cat /tmp/at)"
await "cron" test -s /tmp/cron
shut cron "$(cat /tmp/cron)"
# A job, which has both walls before it: it fails soon as well, and does not hang.
azp-sim job --dir /mnt/azure --run '/usr/local/bin/ask >/tmp/job' web-000001 >/dev/null || fail "a job"
await "job" test -s /tmp/job
shut "a job" "$(cat /tmp/job)"
case $(setpriv --reuid 65534 --regid 65534 --clear-groups ask) in "200 "*) ok "another account is left alone" ;; *) fail "another account gets no token" ;; esac

# Who empties the packet filter: Debian's nftables.service whenever it is started anew; then an operator.
refused() { case $(as ask) in "000 "*) ;; *) return 1 ;; esac }
systemctl start nftables || fail "nftables.service"
systemctl restart nftables || fail "nftables.service, again" # the wall's unit follows a moment later
await "wall after a restart of nftables.service" refused
systemctl reload nftables || fail "nftables.service, reloaded"
await "wall after a reload of nftables.service" refused
systemctl stop nftables || fail "nftables.service, stopped"
await "wall after a stop of nftables.service" refused # the daemon looks once a minute
ok "the wall comes back after a restart, a reload and a stop of nftables.service"
nft add table inet operators || fail "a table of the operator's"
systemctl reload $unit
nft list tables | grep -q operators || fail "the wall took the operator's table along"
systemctl stop azp-bootstrap # who would put it up again
nft flush ruleset
case $(as ask) in "200 "*) ;; *) fail "who keeps the account from it now?" ;; esac
azp-bootstrap doctor --only metadata | grep -q 'can ask' || fail "doctor does not see that it is open"
systemctl start azp-bootstrap
await "wall" refused
shut "after a start of the daemon" "$(as ask)"

remains() { [ -e /etc/systemd/system/$unit ] || nft list tables | grep azp_bootstrap; }
# agent.metadata: allow takes it down, deny puts it back.
mkdir -p /etc/azp-bootstrap/conf.d
echo 'agent: {metadata: allow}' >/etc/azp-bootstrap/conf.d/50-allow.yaml
before=$(systemctl show -P MainPID "$agent")
systemctl reload azp-bootstrap
await "end of the wall" access open
case $(as ask) in "200 "*) ok "agent.metadata: allow" ;; *) fail "allow: no token" ;; esac
remains && fail "allow leaves something of the wall"
systemctl show -P IPAddressDeny "$agent" | grep -q 169 && fail "allow leaves the second wall"
rm /etc/azp-bootstrap/conf.d/50-allow.yaml
systemctl reload azp-bootstrap
await "wall" access closed
shut "denied again" "$(as ask)"
systemctl show -P IPAddressDeny "$agent" | grep -q 169 || fail "denied again, without the second wall"
[ "$before" = "$(systemctl show -P MainPID "$agent")" ] || fail "the agent was restarted"

# uninstall leaves nothing of it, and install brings it back.
azp-bootstrap uninstall || fail uninstall
remains && fail "uninstall leaves something of the wall"
[ "$(systemctl is-active "$agent")" = active ] || fail "uninstall stopped the agent"
azp-bootstrap install --now || fail "install --now, again"
await "wall" access closed

# Without nft the VM works, and says so.
mv /usr/sbin/nft /usr/sbin/nft.away
nft.away flush ruleset
systemctl restart azp-bootstrap
await "word that it is open" access open
azp-bootstrap status | grep -q 'nft is not installed' || fail "status does not say what is missing"
journalctl --no-pager -u azp-bootstrap | grep -q 'jobs can ask Azure' || fail "the log does not say so"
mv /usr/sbin/nft.away /usr/sbin/nft
systemctl restart azp-bootstrap
await "wall" access closed
ok "without nft the agent runs and it is said"

# For the next boot: what the account left behind asks as soon as it can.
# shellcheck disable=SC2016 # for cron's shell
printf '@reboot for i in $(seq 40); do /usr/local/bin/ask; sleep 0.1; done >/home/azp/at-boot 2>&1\n' | crontab -u azp -
rm -f /home/azp/at-boot
touch /var/lib/azp-test/passed
