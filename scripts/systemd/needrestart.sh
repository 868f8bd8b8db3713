#!/bin/bash
# Runs inside the machine that has the package and Debian's needrestart, in its automatic mode: an upgrade replaced
# libc. Other services are restarted; the agent and the daemon are not, because of the file that the package brings.
set -u
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
fail() {
    echo "FAILED: $1"
    cat /var/lib/azp-test/needrestart
    systemctl --no-pager status azp-bootstrap 'vsts.agent.*'
    exit 1
}
azp-bootstrap prepare --package "/root/$1" --sha256 "$2" >/dev/null || fail prepare
azp-bootstrap install --now >/dev/null || fail "install --now"
azp-bootstrap status --wait --timeout 60s >/dev/null || fail "status --wait"
unit=$(cat /opt/azp-agent/.service)
printf '[Service]\nExecStart=/bin/sleep infinity\n' >/etc/systemd/system/ordinary.service
systemctl daemon-reload
systemctl start ordinary || fail "the ordinary service"
# As on Ubuntu, whose needrestart asks nobody after unattended upgrades; the test itself is to go on.
cat >/etc/needrestart/conf.d/90-test.conf <<'PERL'
$nrconf{restart} = 'a';
$nrconf{override_rc}{qr(^azp-test)} = 0;
PERL
libc=$(readlink -f /lib/x86_64-linux-gnu/libc.so.6)
needs() { needrestart -l >/var/lib/azp-test/needrestart 2>&1 </dev/null || fail "needrestart"; }
id() { systemctl show -P InvocationID "$1"; }
# maps SERVICE prints the processes of a service that have libc mapped.
maps() {
    cat "/sys/fs/cgroup/systemd/system.slice/$1/cgroup.procs" "/sys/fs/cgroup/system.slice/$1/cgroup.procs" 2>/dev/null |
        while read -r p; do
            ! grep -q "$libc" "/proc/$p/maps" || cat "/proc/$p/comm"
        done
}

needs # before anything is replaced nothing is to be restarted
maps "$unit" | grep -q runsvc.sh || fail "the agent's processes do not have $libc mapped"
# The daemon is static; what has libc mapped is the journalctl by which it hears the agent. That is enough for needrestart.
[ "$(maps azp-bootstrap.service)" = journalctl ] || fail "of the daemon's processes these have $libc mapped: $(maps azp-bootstrap.service)"
agent=$(id "$unit") daemon=$(id azp-bootstrap) other=$(id ordinary)
needs
[ "$other" = "$(id ordinary)" ] || fail "the ordinary service is restarted although nothing is new"
cp -p "$libc" "$libc.dpkg-new" # as dpkg does it
mv -f "$libc.dpkg-new" "$libc" || fail "libc cannot be replaced"
azp-sim job --dir /mnt/azure --name upgrade --takes 10s web-000001 >/dev/null || fail "no job"
needs
[ "$other" != "$(id ordinary)" ] || fail "the ordinary service was not restarted: needrestart did nothing"
[ "$agent" = "$(id "$unit")" ] || fail "needrestart restarted the agent"
[ "$daemon" = "$(id azp-bootstrap)" ] || fail "needrestart restarted the daemon"
for _ in $(seq 150); do
    journalctl --no-pager -b -u "$unit" | grep -q 'Job upgrade completed' && break
    sleep 0.1
done
journalctl --no-pager -b -u "$unit" | grep -q 'Job upgrade completed with result: Succeeded' || fail "the job did not survive the upgrade"
echo "  ok: needrestart restarts another service, and neither the agent in mid-job nor the daemon"
mv /etc/needrestart/conf.d/azp-bootstrap.conf /root/
needs
[ "$agent" != "$(id "$unit")" ] || fail "without the package's file needrestart leaves the agent alone as well: this test shows nothing"
[ "$daemon" != "$(id azp-bootstrap)" ] || fail "without the package's file needrestart leaves the daemon alone as well: this test shows nothing"
echo "  ok: without the package's file it restarts both"
touch /var/lib/azp-test/passed
