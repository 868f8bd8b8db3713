#!/bin/bash
# Runs inside a machine with retire: {jobs: 1, then: delete}, on its first boot: the agent runs one job and no other,
# whoever starts its unit, and is gone before Azure is asked to delete the VM. Hooks run as units of systemd meanwhile.
set -u
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    systemctl --no-pager status azp-bootstrap 'vsts.agent.*'
    journalctl --no-pager -u azp-bootstrap -u 'azp-bootstrap-hook-*' -u 'vsts.agent.*' | tail -60
    exit 1
}
ok() { echo "  ok: $1"; }
await() { # WHAT COMMAND...
    local what=$1 _
    shift
    for _ in $(seq 600); do
        ! "$@" || return 0
        sleep 0.1
    done
    fail "no $what"
}
sim() { azp-sim "$@" --dir /mnt/azure; }
online() { sim agents --json | tr -d ' \n' | grep -q '"status":"online"'; }
jobs() { sim jobs | grep "\"name\":\"$1\""; }
said() { journalctl --no-pager -u "$1" | grep -q "$2"; }
at() { systemctl show -P "$2" "$1"; }
active() { [ "$(at "$unit" ActiveState)" = active ]; }
there() { [ -e "$1" ]; }

azp-bootstrap prepare --package "/root/$1" --sha256 "$2" || fail prepare
rm "/root/$1"
id -nG azp | grep -qw builders && fail "the account itself is in the group of agent.groups"
for event in afterJob leaving; do
    mkdir -p /etc/azp-bootstrap/hooks.d/$event
    cat >/etc/azp-bootstrap/hooks.d/$event/10-look <<SH
#!/bin/sh
env >/var/lib/hook.$event.env
id -un >/var/lib/hook.$event.user
cat /proc/self/cgroup >/var/lib/hook.$event.cgroup
systemctl show -P RuntimeMaxUSec azp-bootstrap-hook-$event-10-look.service >/var/lib/hook.$event.limit
touch /usr/hook-$event-was-here || exit 1 # which the daemon's own sandbox forbids
sleep 1000 &
echo \$! >/var/lib/hook.$event.child
SH
    chmod 755 /etc/azp-bootstrap/hooks.d/$event/10-look
done
azp-bootstrap install --now || fail "install --now"
azp-bootstrap status --wait --timeout 60s || fail "status --wait"
await "agent online" online
unit=$(cat /opt/azp-agent/.service)
[ "$(systemctl is-enabled "$unit")" != enabled ] || fail "the agent's unit is enabled"
[ "$(at "$unit" Restart)" = no ] || fail "systemd starts the agent again"
ticket=$(sed -n 's/^ConditionPathExists=//p' "/etc/systemd/system/$unit")
case $ticket in /run/azp-bootstrap/once-*) ;; *) fail "its unit starts without a ticket" ;; esac
[ ! -e "$ticket" ] || fail "the ticket ($ticket) stays"
mapfile -t processes < <(cat "/sys/fs/cgroup/systemd/system.slice/$unit/cgroup.procs" "/sys/fs/cgroup/system.slice/$unit/cgroup.procs" 2>/dev/null)
[ ${#processes[@]} -ge 2 ] || fail "the agent's control group was not found"
for p in "${processes[@]}"; do
    [ "$(stat -c %U "/proc/$p")" = azp ] || fail "process $p of the agent is not azp's"
    grep -q "^Groups:.*$(getent group builders | cut -d: -f3)" "/proc/$p/status" || fail "process $p is not in the group of agent.groups"
done
ok "joined, to run once; the ticket is gone when the agent runs"

# The server wants another version first: the listener ends with 4, and what replaces its programs is still at work.
sim update-agent web-000001 || fail update-agent
await "end by exit code 4" said "$unit" 'Agent update in progress'
ends() { [ "$(at "$unit" ActiveState)" = inactive ] || [ "$(at "$unit" ActiveState)" = failed ]; }
await "end of the unit" ends
said "$unit" 'Deactivated successfully' || fail "exit code 4 is a failure to systemd"
grep -q '4.248.0 is 4.250.0 now' /opt/azp-agent/_diag/SelfUpdate.log || fail "the update was cut off: $(ls -l /opt/azp-agent)"
[ "$(readlink /opt/azp-agent/bin)" = bin.4.250.0 ] || fail "the agent's programs are not the new ones"
# Nobody but the daemon starts it: there is no ticket.
systemctl stop azp-bootstrap
ends || fail "it was started before the daemon was stopped"
systemctl start "$unit" || fail "systemctl start is an error"
ends || fail "systemctl start, by root, starts the agent"
[ "$(at "$unit" ConditionResult)" = no ] || fail "its condition is met without a ticket"
systemctl start azp-bootstrap
await "agent, which has had no job" active
await "agent online" online
said azp-bootstrap 'has begun' && fail "the daemon believes that it had its job"
ok "the agent updated itself within its unit (exit code 4), is not started without the ticket, and the daemon starts it again"

# Two jobs in the same instant; the daemon is started anew in the middle of the one that runs.
sim job --pool Default --name first --run 'id >/tmp/job.id; sleep 6' >/dev/null || fail "a job"
sim job --pool Default --name second --takes 0s >/dev/null || fail "a job"
runs() { azp-bootstrap status --json | grep -q '"began"'; }
await "step of the job" there /tmp/job.id
await "word in the journal that the job has begun" runs
systemctl restart azp-bootstrap || fail restart
active || fail "the restart of the daemon ended the job"
grep -q '(builders)' /tmp/job.id || fail "the job is not in the group of agent.groups: $(cat /tmp/job.id)"
gone() { # other machines' agents may be there
    ! sim agents --json | tr -d ' \n' | tr '}' '\n' | grep '"server":"https://dev.azure.com/contoso"' | grep -q '"kind":"pool"'
}
await "end of the agent on the server" gone
fated() { sim fates | grep -q '"action":"delete"'; }
await "word to Azure Resource Manager" fated
await "word that Azure was asked" eval 'azp-bootstrap status | grep -q "it goes: delete, asked for at"'
jobs first | grep -q '"result":"succeeded"' || fail "the first job: $(jobs first)"
jobs second | grep -q received && fail "the second job was taken"
[ ! -e "/etc/systemd/system/$unit" ] || fail "the agent's unit stays"
[ ! -e /opt/azp-agent/.agent ] || fail "the registration is still on disk"
ok "one job of two ran, over a restart of the daemon, in the groups of agent.groups; $(systemctl show -P StatusText azp-bootstrap)"

for event in afterJob leaving; do
    await "hook of $event" there /var/lib/hook.$event.child
    grep -q "azp-bootstrap-hook-$event-10-look.service" /var/lib/hook.$event.cgroup || fail "$event ran in $(cat /var/lib/hook.$event.cgroup)"
    [ "$(cat /var/lib/hook.$event.user)" = root ] || fail "$event ran as $(cat /var/lib/hook.$event.user)"
    [ "$(cat /var/lib/hook.$event.limit)" = 1min\ 1s ] || fail "$event may take $(cat /var/lib/hook.$event.limit)"
    grep -q "^AZP_BOOTSTRAP_EVENT=$event" /var/lib/hook.$event.env || fail "$event was not told what it is"
    grep -vE '^(AZP_BOOTSTRAP_(VM|INSTANCE_ID|LOCATION|SCALE_SET|RESOURCE_GROUP|SUBSCRIPTION_ID|TARGET_(KIND|PROJECT|NAME)|EVENT|AGENT|AGENT_FOLDER|WORK_FOLDER|JOBS|JOB_RUNS|REASON|UNTIL|BY)|PATH|LANG|PWD|OLDPWD|SHLVL|_)=' \
        /var/lib/hook.$event.env && fail "$event's environment has more"
    [ -e /usr/hook-$event-was-here ] || fail "$event ran in the daemon's sandbox"
    [ ! -e "/proc/$(cat /var/lib/hook.$event.child)" ] || fail "$event's child runs on"
done
systemctl list-units --all --plain --no-legend 'azp-bootstrap-hook-*' | grep . && fail "a hook's unit stays"
ok "hooks ran as root in units of their own, with no more than facts, and nothing of theirs runs on"
touch /var/lib/azp-test/passed
