# The machine whose daemon comes by its package, with Debian's needrestart. Sourced by systemd-test.sh.
# shellcheck shell=bash disable=SC2154
echo "== package: install beside the package's unit, in a chroot"
machine package https://tfs.corp:8080/tfs/DefaultCollection 'pool: {name: Default}' "$("$here/systemd/root.sh" "$build" needrestart)"
m=$dir/package/root
inside() { DEBIAN_FRONTEND=noninteractive chroot "$m" "$@"; }
KINDS=deb "$here/package.sh" 1.0.0 "$dir/packages" amd64 >/dev/null
# An earlier image build installed the daemon by hand: its own unit, and the link that enables it.
cp "$here/../systemd/azp-bootstrap.service" "$m/etc/systemd/system/"
ln -s /etc/systemd/system/azp-bootstrap.service "$m/etc/systemd/system/multi-user.target.wants/"
cp "$dir"/packages/*.deb "$m/root/one.deb"
inside dpkg -i --force-confold /root/one.deb >"$dir/package/dpkg.log" 2>&1 || { cat "$dir/package/dpkg.log" >&2; exit 1; }
inside azp-bootstrap install >"$dir/package/install.log" 2>&1 || { echo "FAILED: install in a chroot:" >&2; cat "$dir/package/install.log" >&2; exit 1; }
[ "$(inside systemctl is-enabled azp-bootstrap)" = enabled ] || { echo "FAILED: not enabled in the chroot" >&2; exit 1; }
! [ -e "$m/etc/systemd/system/azp-bootstrap.service" ] || { echo "FAILED: the earlier unit still stands before the package's" >&2; exit 1; }
! inside azp-bootstrap install --now >"$dir/package/install.log" 2>&1 || { echo "FAILED: install --now in a chroot said that it started something" >&2; exit 1; }
echo "  ok: install enables the package's unit, in place of an earlier one; --now is refused"
for script in packaged.sh needrestart.sh; do
    install -m 755 "$here/systemd/$script" "$m/root/"
done
echo "== package: install and uninstall beside the package's unit, and needrestart"
boot package packaged.sh
leaks package
umount "$m"
