#!/bin/bash
# Runs inside the machine: jobs rewrite everything in the agent's folder, which is theirs, to become root or to have
# root harm others. After each: nothing ran as root, no unit is another than before, and the agent runs again or the
# VM says why not. Then an operator brings the VM back.
set -u
rm -rf /var/lib/azp-test
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
attack=none
fail() {
    echo "FAILED: $attack: $1"
    azp-bootstrap status
    ls -la /opt/azp-agent
    systemctl --no-pager status 'vsts.agent.*'
    journalctl --no-pager -b -u azp-bootstrap -u 'vsts.agent.*' | tail -60
    exit 1
}
ready1() { azp-bootstrap status --wait --timeout 1s >/dev/null 2>&1; }
ready() { azp-bootstrap status --wait --timeout 60s >/dev/null; }
online() { azp-sim agents --json --dir /mnt/azure | tr -d ' \n' | grep -q '"status":"online"'; }
awaitOnline() {
    for _ in $(seq 300); do
        online && return
        sleep 0.1
    done
    return 1
}

# A folder that jobs may write, as a disk for their work would be, with what root must never run.
install -d -o azp /srv/jobs
cat >/srv/jobs/e <<'SH'
#!/bin/sh
date >>"/srv/jobs/ran.$(id -u)"
[ "$(id -u)" != 0 ] || date >>/root/a-job-was-root
SH
chmod 755 /srv/jobs/e
# Other services, whose names and units jobs try to use.
for name in ssh other; do
    printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' >/etc/systemd/system/$name.service
done
systemctl daemon-reload
systemctl enable --now --quiet ssh other || fail "the other services"

# world is everything on the disk that no job may change: all of root's places, units byte for byte.
world() {
    find /etc /usr /root /boot /srv /opt -xdev -path /opt/azp-agent -prune -o -path '/srv/jobs/*' -prune -o \
        -not -type d -printf '%p %y %m %U %G %s %l\n' -o -type d -printf '%p %y %m %U %G\n' | sort
    find /etc/systemd /etc/passwd /etc/shadow /etc/group /root /var/lib/azp-bootstrap -type f \
        -not -name daemon.json -not -name state.json -not -name '.state.json.spare*' -not -name lock.ask -not -name lock.gate -exec sha256sum {} + | sort -k2
    find / -xdev -path /proc -prune -o -perm /6000 -type f -print | sort
    systemctl show -P InvocationID ssh other
}
unit=$(cat /opt/azp-agent/.service)
ready || fail "not ready"
awaitOnline || fail "not online"
world >/var/lib/azp-test/before

# What runsvc.sh does when systemd starts it: all that would make it root.
# shellcheck disable=SC2016 # for the job's shell
runsvc='#!/bin/bash
/srv/jobs/e
sudo -n /srv/jobs/e; su -c /srv/jobs/e root </dev/null; chmod u+s /srv/jobs/e; pkexec /srv/jobs/e
printf "[Service]\nExecStart=/srv/jobs/e\n" >/etc/systemd/system/e.service
systemctl --no-ask-password link /srv/jobs/e.service; systemctl --no-ask-password daemon-reload
systemctl --no-ask-password restart azp-bootstrap; systemctl --no-ask-password kill azp-bootstrap
systemd-run --no-ask-password /srv/jobs/e; systemctl --no-ask-password set-environment LD_PRELOAD=/srv/jobs/e
echo x >/var/lib/azp-bootstrap/state.json; rm -rf /var/lib/azp-bootstrap/* /opt/azp-agent.package
kill -9 $(pidof azp-bootstrap)
'
# settings NAME POOL ENVIRONMENT is a job's command that writes them into .agent, whose ID stays: the daemon goes on
# with this folder.
cat >/srv/jobs/settings <<'PERL'
#!/usr/bin/perl -0pi
s/("agentName":\s*)"[^"]*"/$1"$ENV{NAME}"/i;
s/\{/{"poolName": "$ENV{POOL}", "environmentName": "$ENV{PLACE}", /;
PERL
settings() { printf "NAME='%s' POOL='%s' PLACE='%s' perl -0pi /srv/jobs/settings .agent\n" "$@"; }
poison='\n[Service]\nExecStartPre=+/srv/jobs/e\nExecStart=+/srv/jobs/e\nUser=root\n#'
long=$(printf 'x%.0s' $(seq 300))
declare -A attacks=(
    [lines]="$(settings "w$poison" "p$poison" "e$poison")
printf 'x\n[Service]\nExecStartPre=+/srv/jobs/e\n' >.service; cp .service .path; cp /srv/jobs/runsvc runsvc.sh
printf 'A=1\nLD_PRELOAD=/srv/jobs/e\nBASH_ENV=/srv/jobs/e\nExecStartPre=+/srv/jobs/e\n' >>.env"
    [specifiers]="$(settings '%n%i%h%%' '-.mount' '--root=/')
printf '%s' '%n.service' >.service; printf '%s' '--now' >.path"
    [long]="$(settings "$long" "$long" "$long")
printf 'vsts.agent.%s.service' '$long' >.service; head -c 99999 /dev/zero | tr '\\0' x >.path"
    [nul]="$(settings 'w\u0000x' '\u001b[2J' '\u2028')
printf 'ssh.service\0' >.service; printf 'A\0B=\0\n' >>.env; head -c 99 /dev/urandom >.path"
    [ssh]="printf ssh.service >.service"
    [daemon]="printf azp-bootstrap.service >.service"
    [outside]="printf ../../x >.service; printf 'vsts.agent.../../../srv/jobs/e.service' >.path"
    [links]="for f in .service .env .path runsvc.sh .credentials; do rm -f \$f; done
ln -s /etc/systemd/system/ssh.service .service; ln -s /etc/passwd .env; ln -s /etc/shadow .path; ln -s /srv/jobs/e runsvc.sh
rm -rf _work _diag; ln -s /etc/systemd/system _work; ln -s /root _diag; ln -s /etc/systemd/system/ssh.service .agent.new; mv .agent.new .agent"
    [folders]="for f in .agent .service .env .path runsvc.sh; do rm -rf \$f; mkdir -p \$f/a/b; chmod 0 \$f; done"
    [pipes]="for f in .agent .service .env .path runsvc.sh .credentials; do rm -f \$f; mkfifo \$f; done"
    [moved]="mkdir /srv/jobs/away; mv bin externals /srv/jobs/away/; ln -s /usr/bin bin; ln -s /etc externals; ln /etc/passwd .x; chmod 0 ."
    [race]="cat >runsvc.sh <<'RUN'
#!/bin/bash
while :; do ln -sfn /etc/systemd/system/ssh.service .x; mv -Tf .x .service; ln -sfn /etc/systemd/system .x; mv -Tf .x _work; echo x >.y; mv -Tf .y .service; done
RUN"
)
order=(lines nul daemon outside links folders)
natural=" "
if ! grep -qz '^CI_GATE=1$' /proc/1/environ; then # nspawn's --setenv
    order+=(specifiers long ssh pipes)
    natural=" lines " # after this the daemon is not hurried: it finds out by itself, after two looks: a minute and a half
fi
if grep -qz '^CI_FULL=1$' /proc/1/environ; then
    order+=(moved race) # half a minute each
fi
printf '%s' "$runsvc" >/srv/jobs/runsvc

# looked counts how often the daemon found out by itself that its agent needs it.
looked() { journalctl --no-pager -b -u azp-bootstrap | grep -c 'it is brought up again\|Azure DevOps is asked'; }
# works: the agent takes a job, and does it.
works() {
    ready1 && [ "$(systemctl is-active "$unit")" = active ] && online || return 1
    azp-sim job --dir /mnt/azure --name "after-$attack" --takes 0s web-000001 >/dev/null 2>&1 || return 1
    for _ in $(seq 50); do
        journalctl --no-pager -b -u "$unit" | grep -q "Job after-$attack completed with result: Succeeded" && return
        sleep 0.1
    done
    return 1
}
# says prints what the VM says is wrong, if it said so since this attack, or, in the end, that its agent is down.
says() {
    local said at
    said=$(azp-bootstrap status --json)
    at=$(sed -n 's/.*"at": "\(.*\)".*/\1/p' <<<"$said" | tail -1)
    if [[ $at > $begun ]]; then
        sed -n 's/.*"message": "\(.*\)",*$/\1/p' <<<"$said" | tail -1
    elif [ $(($(date +%s) - since)) -gt 100 ]; then
        azp-bootstrap status | grep -A1 '^  error'
    else
        return 1
    fi
}
# settles waits until the agent runs again or the VM says why not.
settles() {
    while [ $(($(date +%s) - since)) -lt 150 ]; do
        if works; then
            echo "the agent runs again"
            return
        fi
        ! ready1 && says && return
        sleep 0.5
    done
    return 1
}
for attack in "${order[@]}"; do
    since=$(date +%s)
    begun=$(date -u +%Y-%m-%dT%H:%M:%S)
    heard=$(looked)
    was=$(systemctl show -P InvocationID "$unit")
    azp-sim job --dir /mnt/azure --name "$attack" --run "cd /opt/azp-agent || exit 1
${attacks[$attack]}
echo the job $attack has done its worst
setsid sh -c 'sleep 1; kill -9 -1' >/dev/null 2>&1 & exit 0" web-000001 >/dev/null || fail "no job"
    for _ in $(seq 300); do
        journalctl --no-pager -b -u "$unit" | grep -q "the job $attack has done its worst" && break
        sleep 0.1
    done
    journalctl --no-pager -b -u "$unit" | grep -q "the job $attack has done its worst" || fail "the job did not run"
    for _ in $(seq 50); do
        [ "$(systemctl is-active "$unit")" != active ] || [ "$was" != "$(systemctl show -P InvocationID "$unit")" ] && break
        sleep 0.1
    done
    [ "$(systemctl is-active "$unit")" != active ] || [ "$was" != "$(systemctl show -P InvocationID "$unit")" ] || fail "the job did not kill the listener"
    case $natural in
    *" $attack "*)
        for _ in $(seq 1000); do
            [ "$(looked)" = "$heard" ] || break
            sleep 0.1
        done
        [ "$(looked)" != "$heard" ] || works || fail "the daemon did not find out" ;;
    *) systemctl restart azp-bootstrap || fail "the daemon does not restart" ;;
    esac
    came=$(settles) || fail "after two minutes the agent does not run, and the VM does not say why"
    [ "$attack" != race ] || systemctl restart azp-bootstrap
    world >/var/lib/azp-test/after
    diff /var/lib/azp-test/before /var/lib/azp-test/after >/var/lib/azp-test/diff || fail "changed: $(cat /var/lib/azp-test/diff)"
    [ ! -e /srv/jobs/ran.0 ] || fail "a job became root"
    [ ! -e /root/a-job-was-root ] || fail "a job became root"
    [ "$(systemctl is-active azp-bootstrap)" = active ] || fail "the daemon does not run"
    echo "  ok: $attack: $came ($(($(date +%s) - since)) s)"
    # What an operator does with such a VM, whatever lies in the folder; the next job finds a fresh one.
    rm -rf /srv/jobs/away
    systemctl stop azp-bootstrap
    azp-bootstrap deregister --now >/var/lib/azp-test/said 2>&1 || fail "deregister: $(cat /var/lib/azp-test/said)"
    azp-bootstrap run --once >/var/lib/azp-test/said 2>&1 || fail "run --once: $(cat /var/lib/azp-test/said)"
    systemctl start azp-bootstrap
    ready || fail "an operator cannot bring it back"
    awaitOnline || fail "an operator cannot bring it back: it is not online"
done
[ -e /srv/jobs/ran."$(id -u azp)" ] || fail "the jobs' program never ran at all"
systemctl disable --now --quiet ssh other
rm -rf /etc/systemd/system/{ssh,other}.service /srv/jobs
touch /var/lib/azp-test/passed
