#!/usr/bin/env bash
# Tests the packages: two builds give the same bytes; in a Debian root the .deb installs enabled and not
# started, an upgrade keeps the configuration, a purge leaves nothing; install works beside the package and
# without it; the .rpm holds the same files, and its scripts run in the same root.
#
#   scripts/package-test.sh BUILD
set -euo pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "package-test needs root: it installs into a root file system." >&2; exit 1; }
need=(mmdebstrap:mmdebstrap rpm:rpm lintian:lintian rpmlint:rpmlint man:man-db zsh:zsh fish:fish)
[ -f /usr/share/bash-completion/bash_completion ] || need+=(bash_completion:bash-completion)
scripts/apt.sh "${need[@]}"

dir=$(mktemp -d)
cleanup() {
    status=$?
    ! mountpoint -q "$dir/root/proc" || umount "$dir/root/proc"
    ! mountpoint -q "$dir/root" || umount "$dir/root"
    rm -rf "$dir"
    exit "$status"
}
trap cleanup EXIT
fail() {
    echo "FAILED: $1" >&2
    exit 1
}

scripts/package.sh 1.0.0 "$dir/one" amd64
scripts/package.sh 1.0.0 "$dir/two" amd64 >/dev/null
cmp "$dir/one/SHA256SUMS" "$dir/two/SHA256SUMS" || fail "two builds of the same commit differ"
echo "  ok: two builds, the same bytes"
scripts/package.sh 1.0.1 "$dir/next" amd64 >/dev/null

root=$(scripts/systemd/root.sh "$build")
mkdir -p "$dir"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=$root,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"
cp "$dir/one/"*.deb "$dir/root/one.deb"
cp "$dir/next/"*.deb "$dir/root/next.deb"
inside() { DEBIAN_FRONTEND=noninteractive chroot "$dir/root" "$@"; }

is() { # WANTED WHEN: how the daemon is enabled
    now=$(inside systemctl is-enabled azp-bootstrap 2>/dev/null || true)
    [ "$now" = "$1" ] || fail "$2: $now, not $1"
}
left() {
    find "$dir/root"/{etc,usr,var/lib} -name '*azp-bootstrap*' | sed "s,^$dir/root,," |
        grep -vE '^/var/lib/(dpkg|rpm)/' || true
}
has() { grep -q "$1" "$dir/said" || fail "it does not say \"$1\": $(cat "$dir/said")"; }
refused() { # CODE COMMAND...
    code=0
    inside "${@:2}" >"$dir/said" 2>&1 || code=$?
    [ "$code" = "$1" ] || fail "${*:2} ended with $code, not $1: $(cat "$dir/said")"
    has 'Next: '
}
state=/var/lib/azp-bootstrap/state.json
registered() { # PHASE: the state of a VM that has joined
    mkdir -p "$dir/root/var/lib/azp-bootstrap"
    cat >"$dir/root$state" <<END
{
  "schema": 1,
  "phase": "$1",
  "target": {
    "name": "x",
    "id": 3
  },
  "agent": {
    "name": "web-1",
    "id": 7
  }
}
END
}

inside dpkg -i one.deb >/dev/null
inside azp-bootstrap version --json | grep -Eq '"version": ?"1\.0\.0"' || fail "the version is not that of the package"
is enabled "after the installation"
! inside azp-bootstrap config check 2>/dev/null || fail "the configuration as it comes says something"
inside azp-bootstrap install >/dev/null || fail "install beside the package"
is enabled "after install beside the package"
echo "  ok: installed, enabled, nothing configured; install changes nothing"

# What the package brings for shells and man is found where these look, and used once. bash is the root's own.
share=$dir/root/usr/share
offers() {
    if ! grep -q '^status' "$dir/said" || grep -q '^sweep' "$dir/said"; then
        fail "$1 completes \"azp-bootstrap sta\" with: $(cat "$dir/said")"
    fi
}
cp /usr/share/bash-completion/bash_completion "$share/bash-completion/"
mount -t proc proc "$dir/root/proc"
# shellcheck disable=SC2016 # of that shell
inside bash --norc -c '. /usr/share/bash-completion/bash_completion
    { _comp_load azp-bootstrap || __load_completion azp-bootstrap; } 2>/dev/null
    compopt() { :; } # which only a prompt has
    COMP_WORDS=(azp-bootstrap sta) COMP_CWORD=1 COMP_LINE="azp-bootstrap sta" COMP_POINT=17 COMP_TYPE=63
    how=$(complete -p azp-bootstrap) && how=${how##*-F } && ${how%% *} azp-bootstrap sta azp-bootstrap
    printf "%s\n" "${COMPREPLY[@]}"' >"$dir/said" 2>&1 || fail "bash: $(cat "$dir/said")"
offers bash
umount "$dir/root/proc"
rm "$share/bash-completion/bash_completion"
HOME=$dir XDG_DATA_DIRS=$share PATH=$dir/root/usr/bin:$PATH fish -c 'complete --do-complete "azp-bootstrap sta"' >"$dir/said" 2>&1 || fail "fish: $(cat "$dir/said")"
offers fish
# shellcheck disable=SC2016 # of that shell
PATH=$dir/root/usr/bin:$PATH zsh -f -c 'fpath=($1 $fpath); autoload -Uz compinit; compinit -u -D
    function _describe { print -l -- $completions } # shows what it is given
    words=(azp-bootstrap sta) CURRENT=2; $_comps[azp-bootstrap]' zsh "$share/zsh/vendor-completions" >"$dir/said" 2>&1 || fail "zsh: $(cat "$dir/said")"
offers zsh
pages=0
for page in "$share"/man/man8/azp-bootstrap*; do
    name=$(basename "$page" .8.gz)
    [ "$(man -M "$share/man" -w "$name")" = "$page" ] || fail "man does not find $name"
    MANROFFSEQ='' man --warnings -M "$share/man" -P cat "$name" 2>"$dir/said" | grep -q . || fail "man shows nothing of $name"
    [ ! -s "$dir/said" ] || fail "man of $name: $(cat "$dir/said")"
    pages=$((pages + 1))
done
echo "  ok: bash, fish and zsh complete; man shows $pages pages"
cat >"$dir/root/etc/azp-bootstrap/config.yaml" <<'YAML'
url: https://dev.azure.com/contoso
target: {pool: {name: Default}}
credential: {keyVault: {url: https://contoso.vault.azure.net, secret: azp-pat}}
YAML
inside azp-bootstrap config check >/dev/null || fail "config check"
inside dpkg -r azp-bootstrap >"$dir/said" 2>&1
! grep -q 'stays registered' "$dir/said" || fail "a VM that has not joined is told of its agent"
[ -f "$dir/root/etc/azp-bootstrap/config.yaml" ] || fail "removing it lost the configuration"
inside dpkg -i one.deb >/dev/null
is enabled "removed and installed again"
inside systemctl disable azp-bootstrap 2>/dev/null
registered ready
inside dpkg -i next.deb >/dev/null
inside azp-bootstrap config check >/dev/null || fail "the upgrade lost the configuration"
is disabled "the upgrade of what was disabled"
[ -f "$dir/root$state" ] || fail "the upgrade lost the state"
echo "  ok: upgraded; configuration, state and the wish to be disabled are kept"
inside dpkg -r azp-bootstrap >"$dir/said" 2>&1
has 'the agent web-1 of this VM stays registered'
has 'Next: .*azp-bootstrap deregister'
inside dpkg -i one.deb >/dev/null
is disabled "what was disabled, removed and installed again: Debian keeps that until a purge"
inside azp-bootstrap install >/dev/null || fail "install of what was disabled"
is enabled "after install of what was disabled"
inside dpkg -i next.deb >/dev/null
is enabled "the upgrade of what install enabled"
inside systemctl disable azp-bootstrap 2>/dev/null
inside systemctl mask azp-bootstrap 2>/dev/null
inside dpkg -i one.deb >/dev/null 2>&1
is masked "the upgrade of what was masked"
refused 18 azp-bootstrap install
inside systemctl unmask azp-bootstrap 2>/dev/null
registered removed
inside dpkg -r azp-bootstrap >"$dir/said" 2>&1
! grep -q 'stays registered' "$dir/said" || fail "a VM that has left is told of its agent"
registered draining
inside dpkg -P azp-bootstrap >"$dir/said" 2>&1
has 'which stays registered'
[ -z "$(left)" ] || fail "the purge left: $(left)"
[ ! -d "$dir/root/etc/needrestart" ] || fail "the purge left needrestart's folder"
inside dpkg -i one.deb >/dev/null
is enabled "installed again after a purge"
echo "  ok: removed, installed, masked, purged; nothing is left"

inside dpkg -P azp-bootstrap >/dev/null 2>&1
mkdir "$dir/root/aside"
mv "$dir"/root/usr/bin/deb-systemd-* "$dir/root/aside/"
inside dpkg -i one.deb >/dev/null 2>&1
is enabled "without deb-systemd-helper"
inside systemctl disable azp-bootstrap 2>/dev/null
inside dpkg -i next.deb >/dev/null 2>&1
is disabled "upgraded without deb-systemd-helper"
inside dpkg -P azp-bootstrap >/dev/null 2>&1
[ -z "$(left)" ] || fail "the purge without deb-systemd-helper left: $(left)"
mv "$dir"/root/aside/* "$dir/root/usr/bin/"
echo "  ok: without deb-systemd-helper, systemctl does it"

# The commands of the documentation, as they stand there.
block() { awk '/^```sh run=package$/ { on = 1; next } /^```/ { on = 0 } on' "$1"; }
page() { # FOLDER: what the page that comes on standard input does there
    inside sh -euxc "cd $1; $(cat)" >"$dir/said" 2>&1 || { cat "$dir/said"; fail "the commands of $2"; }
    is enabled "the commands of $2"
}
mkdir -p "$dir"/root/srv/dist "$dir"/root/srv/packer
sum=$("$build/azp-sim" agent-package "$dir/root/srv/agent.tar.gz")
echo "linux-x64 4.248.0 $sum" | tee "$dir/root/srv/packer/agent.lock" >"$dir/root/srv/agent.lock"
cp "$dir"/one/*.deb "$dir/root/srv/"
cp "$dir"/one/*.deb "$dir/root/srv/dist/"
printf '#!/bin/sh\n' >"$dir/root/usr/local/bin/waagent" # Azure's; what it would remove is not there
chmod 755 "$dir/root/usr/local/bin/waagent"
mount -t proc proc "$dir/root/proc"
inside dpkg -i /srv/dist/azp-bootstrap_1.0.0_amd64.deb >/dev/null
inside azp-bootstrap prepare --lock /srv/agent.lock --package /srv/agent.tar.gz >/dev/null 2>&1 || # without a way out
    fail "prepare"
block README.md | grep -v '^make packages' | page /srv README.md
block docs/first-scale-set.md | page /srv docs/first-scale-set.md
inside azp-bootstrap seal --check >/dev/null || fail "the image of docs/first-scale-set.md"
cp "$dir/root/etc/azp-bootstrap/config.yaml" "$dir/root/srv/mine.yaml"
block docs/image-guide.md | page /srv docs/image-guide.md
inside dpkg -P azp-bootstrap >/dev/null 2>&1
umount "$dir/root/proc"
rm -rf "$dir"/root/srv/* "$dir"/root/opt/azp-agent* "$dir/root/usr/local/bin/waagent"
echo "  ok: the commands of README, first-scale-set and image-guide"

# Without the package install writes the unit itself, before and after a .deb.
dpkg-deb --fsys-tarfile "$dir"/one/*.deb | tar -xO ./usr/bin/azp-bootstrap >"$dir/root/usr/local/bin/azp-bootstrap"
chmod 755 "$dir/root/usr/local/bin/azp-bootstrap"
own=/etc/systemd/system/azp-bootstrap.service
refused 18 azp-bootstrap install # the program's own path is not known without /proc
mount -t proc proc "$dir/root/proc"
for _ in 1 2; do
    inside azp-bootstrap --config "/srv/my config.yaml" install >/dev/null || fail "install without the package"
    is enabled "install without the package"
done
grep -qx 'ExecStart=/usr/local/bin/azp-bootstrap run --config "/srv/my config.yaml"' "$dir/root$own" ||
    fail "the unit starts something else"
cp "$dir/root$own" "$dir/before"
wants=$dir/root/etc/systemd/system/multi-user.target.wants
mv "$wants" "$wants.aside" && touch "$wants"
refused 18 azp-bootstrap install
cmp "$dir/before" "$dir/root$own" || fail "an install that failed changed the unit"
rm "$wants" && mv "$wants.aside" "$wants"
is enabled "after an install that failed"
refused 18 azp-bootstrap install --now
inside azp-bootstrap uninstall >/dev/null || fail "uninstall"
inside azp-bootstrap uninstall | grep -q 'is not installed' || fail "uninstall, asked again"
ln -s /dev/null "$dir/root$own"
refused 18 azp-bootstrap install
rm "$dir/root$own"
inside azp-bootstrap install >/dev/null
inside dpkg -i one.deb >/dev/null
inside azp-bootstrap install >/dev/null || fail "install, with a unit of its own and the package's"
is enabled "install, with a unit of its own and the package's"
[ ! -e "$dir/root$own" ] || fail "install's own unit stands in front of the package's"
inside dpkg -r azp-bootstrap >/dev/null 2>&1
refused 18 azp-bootstrap install # the removal masks it
inside systemctl unmask azp-bootstrap 2>/dev/null
inside azp-bootstrap install >/dev/null || fail "install in place of a package that was removed"
is enabled "install in place of a package that was removed"
inside azp-bootstrap uninstall >/dev/null
inside dpkg -P azp-bootstrap >/dev/null 2>&1
rm "$dir/root/usr/local/bin/azp-bootstrap"
# Debian's own: who unmasks by hand leaves it.
rm "$dir/root/var/lib/systemd/deb-systemd-helper-masked/azp-bootstrap.service"
[ -z "$(left)" ] || fail "the purge left: $(left)"
echo "  ok: install without the package, before it and after it"

files() { grep -v '/$' | sort; }
dpkg-deb -c "$dir"/one/*.deb | awk '{print $6}' | sed 's/^\.//' | files |
    grep -vE '^/usr/share/(lintian/|zsh/vendor-completions/|doc/azp-bootstrap/changelog.gz)' >"$dir/deb.list" # Debian's own
rpm -qlp "$dir"/one/*.rpm >"$dir/rpm.all"
while read -r f; do grep -qxF "$f" "$dir/rpm.all" || fail "the .rpm lacks $f"; done <"$dir/deb.list"
rpm -qp --configfiles "$dir"/one/*.rpm >"$dir/rpm.conf"
dpkg-deb -I "$dir"/one/*.deb conffiles >"$dir/deb.conf"
for f in /etc/azp-bootstrap/config.yaml /etc/needrestart/conf.d/azp-bootstrap.conf; do
    grep -qxF "$f" "$dir/rpm.conf" || fail "$f is no configuration in the .rpm"
    grep -qxF "$f" "$dir/deb.conf" || fail "$f is no conffile in the .deb"
done
rpm -K --nosignature "$dir"/one/*.rpm | grep -q 'digests OK' || fail "the .rpm's digests"
grep -q '"bomFormat": "CycloneDX"' "$dir"/one/*.cdx.json || fail "no bill of materials"
grep -q 'pkg:golang/github.com/sirupsen/logrus@' "$dir"/one/*.cdx.json || fail "the bill of materials names no modules"
in_root() { rpm --force-debian --root "$dir/root" --nodeps "$@"; }
in_root -i "$dir"/one/*.rpm
is enabled "the .rpm, installed"
inside systemctl disable azp-bootstrap 2>/dev/null
in_root -U "$dir"/next/*.rpm
is disabled "the .rpm, upgraded"
registered ready
in_root -e azp-bootstrap >"$dir/said" 2>&1
has 'the agent web-1 of this VM stays registered'
in_root -i "$dir"/one/*.rpm
is enabled "the .rpm, removed and installed again: RPM remembers nothing"
in_root -e azp-bootstrap 2>/dev/null
[ ! -L "$wants/azp-bootstrap.service" ] || fail "the .rpm, removed, leaves its link"
grep -qxF /usr/share/zsh/site-functions/_azp-bootstrap "$dir/rpm.all" || fail "the .rpm has no completions for zsh"
lintian --fail-on error,warning --allow-root "$dir"/one/*.deb || fail "lintian"
rpmlint --config scripts/package/rpmlint.toml "$dir"/one/*.rpm >"$dir/said" 2>&1 || fail "rpmlint: $(cat "$dir/said")"
grep -q ' 0 errors, 0 warnings' "$dir/said" || fail "rpmlint: $(cat "$dir/said")"
dpkg-deb --fsys-tarfile "$dir"/one/*.deb | tar -xO ./usr/share/man/man8/azp-bootstrap-status.8.gz | zcat | grep -q timeline || fail "the manual page of status"
echo "  ok: lintian and rpmlint have nothing to say but what is explained in scripts/package"
echo "  ok: the .rpm holds the same files and does the same; the bill of materials names every module"
echo "package-test: passed"
