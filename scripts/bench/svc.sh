#!/bin/bash
# Stands in for the agent's svc.sh in the benchmark: the same programs in the same order for install and start
# (src/Misc/layoutbin/systemd.svc.sh.template of microsoft/azure-pipelines-agent), no code of the original.
set -u
unit=$(systemd-escape --path vsts.agent.contoso.production.web-000001.service)
file=/etc/systemd/system/$unit
uid=$(id -u)
die() { echo "Failed: $1" >&2; exit 1; }
[ "$uid" -eq 0 ] || die "must run as root"
[ "$(id -u)" = 0 ] || die "must run as root"
escaped() { echo "$1" | sed -e 's/[\/&]/\\&/g'; }
case $1 in
install)
    [ ! -f "$file" ] || die "$file exists"
    owner=$(id -u "$2") || die "no such user"
    group=$(id -g "$2") || die "no such group"
    sed "s/{{User}}/$2/g; s/{{Description}}/$(escaped "Azure Pipelines Agent (contoso.production.web-000001)")/g; s/{{AgentRoot}}/$(escaped "$PWD")/g" bin/vsts.agent.service.template >bin/vsts.agent.service.temp || die "the unit's text"
    mv bin/vsts.agent.service.temp "$file" || die "the unit"
    chmod 664 "$file" || die "the unit's mode"
    command -v sestatus && sestatus | grep "SELinux status: *enabled"
    systemctl daemon-reload || die "daemon-reload"
    cp bin/runsvc.sh runsvc.sh || die "runsvc.sh"
    chown "$owner:$group" runsvc.sh || die "runsvc.sh's owner"
    chmod 755 runsvc.sh || die "runsvc.sh's mode"
    systemctl enable "$unit" || die "enable"
    echo "$unit" >.service || die ".service"
    chown "$owner:$group" .service || die ".service's owner"
    ;;
start)
    systemctl start "$unit" || die "start"
    systemctl --no-pager status "$unit"
    ;;
*) die "install USER or start" ;;
esac
exit 0
