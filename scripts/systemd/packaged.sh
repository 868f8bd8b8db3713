#!/bin/bash
# Runs inside the machine that has the package: install and uninstall beside its unit, then needrestart.
set -u
mkdir -p /var/lib/azp-test
exec >/var/lib/azp-test/log 2>&1
trap 'journalctl --all -o export >/var/lib/azp-test/journal' EXIT # searched from outside
units=/etc/systemd/system
own=$units/azp-bootstrap.service
packaged=/usr/lib/systemd/system/azp-bootstrap.service
fail() {
    echo "FAILED: $1"
    cat /var/lib/azp-test/said
    find $units -name '*azp-bootstrap*' -ls
    systemctl --no-pager status azp-bootstrap
    exit 1
}
ok() { echo "  ok: $1"; }
run() { # CODE COMMAND...
    local want=$1 code=0
    shift
    "$@" >/var/lib/azp-test/said 2>&1 || code=$?
    [ "$code" = "$want" ] || fail "$* ended with $code, not $want"
}
said() { grep -qF -- "$1" /var/lib/azp-test/said || fail "it does not say: $1"; }
# is ENABLED ACTIVE: and it is the package's unit, whose files are untouched.
is() {
    [ "$(systemctl is-enabled azp-bootstrap)" = "$1" ] || fail "$(systemctl is-enabled azp-bootstrap), not $1"
    [ "$(systemctl is-active azp-bootstrap)" = "$2" ] || fail "$(systemctl is-active azp-bootstrap), not $2"
    [ "$(readlink -f "$(systemctl show -P FragmentPath azp-bootstrap)")" = "$packaged" ] || fail "systemd uses $(systemctl show -P FragmentPath azp-bootstrap)"
    dpkg -V azp-bootstrap | grep -v ' c /etc/azp-bootstrap/config.yaml' && fail "the package's files are not as it brought them"
    return 0
}
disk() { find $units -printf '%p %y %m %l %s\n' | sort; }

is enabled active
ok "enabled in the chroot, it has started at boot"
run 0 azp-bootstrap uninstall
is disabled inactive
[ -z "$(find $units -name '*azp-bootstrap*')" ] || fail "uninstall left something"
run 0 azp-bootstrap uninstall
is disabled inactive
ok "uninstall stops and disables it, also when asked again"
run 0 azp-bootstrap install
is enabled inactive
run 0 azp-bootstrap install
is enabled inactive
ok "install enables it and starts nothing"
run 0 azp-bootstrap install --now
is enabled active
run 0 azp-bootstrap install --now
is enabled active
run 0 azp-bootstrap install
is enabled active
ok "install --now starts it, also when asked again"

cp /etc/azp-bootstrap/config.yaml "/etc/azp-bootstrap/my own.yaml"
before=$(disk)
run 2 azp-bootstrap install --now --config "/etc/azp-bootstrap/my own.yaml"
[ "$before" = "$(disk)" ] || fail "install --config was refused and changed something"
said "systemctl edit azp-bootstrap"
start=$(grep -o 'ExecStart=/usr/bin/[^.]*\.yaml"' /var/lib/azp-test/said) || fail "no line for the drop-in"
mkdir $own.d
printf '[Service]\nExecStart=\n%s\n' "$start" >$own.d/override.conf
run 0 azp-bootstrap install --now
is enabled active
tr '\0' '|' <"/proc/$(systemctl show -P MainPID azp-bootstrap)/cmdline" | grep -qF 'run|--config|/etc/azp-bootstrap/my own.yaml|' || fail "the drop-in as it is named does not do it"
rm -r $own.d
ok "install --config is refused with the drop-in that does it"

run 0 azp-bootstrap uninstall
for how in mask "mask --runtime"; do
    # shellcheck disable=SC2086 # words
    systemctl --quiet $how azp-bootstrap
    before=$(disk)
    run 18 azp-bootstrap install --now
    said "systemctl unmask azp-bootstrap"
    [ "$before" = "$(disk)" ] || fail "install changed something although the unit is masked"
    run 0 azp-bootstrap uninstall
    [ "$before" = "$(disk)" ] || fail "uninstall changed something although the unit is masked"
    [ "$(systemctl is-active azp-bootstrap)" = inactive ] || fail "it starts although it is masked"
    # shellcheck disable=SC2086
    systemctl --quiet ${how/mask/unmask} azp-bootstrap
done
ok "masked: refused, nothing is changed"

# An earlier install, before the package came: its unit and its link, and it runs.
for enabled in yes no; do
    sed 's/^Description=.*/Description=of an earlier install/' "$packaged" >$own
    systemctl daemon-reload
    [ $enabled = no ] || systemctl --quiet enable azp-bootstrap
    systemctl start azp-bootstrap
    [ "$(systemctl show -P Description azp-bootstrap)" = "of an earlier install" ] || fail "the test's own unit is not used"
    run 0 azp-bootstrap install
    is enabled active
    [ "$(systemctl show -P Description azp-bootstrap)" = "Join this VM to Azure Pipelines" ] || fail "the earlier unit goes on"
    [ -f $own.before-package ] || fail "the earlier unit was not kept"
    run 0 azp-bootstrap uninstall
    is disabled inactive
    [ -z "$(find $units -name '*azp-bootstrap*')" ] || fail "uninstall left something"
    # and removed while it stands in front
    sed 's/^Description=.*/Description=of an earlier install/' "$packaged" >$own
    systemctl daemon-reload
    [ $enabled = no ] || systemctl --quiet enable azp-bootstrap
    systemctl start azp-bootstrap
    run 0 azp-bootstrap uninstall
    [ "$(systemctl is-active azp-bootstrap)" = inactive ] || fail "an earlier unit still runs after uninstall"
    systemctl --quiet is-enabled azp-bootstrap && fail "an earlier unit is enabled after uninstall"
    said "$own stays"
    rm -f $own
    systemctl daemon-reload
done
ok "a unit of an earlier install gives way to the package's"

exec /root/needrestart.sh "$@"
