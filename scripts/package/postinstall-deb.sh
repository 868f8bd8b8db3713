#!/bin/sh
# What debhelper writes for dh_installsystemd --no-start: the unit is enabled, and not started, because the image is
# not the VM. deb-systemd-helper works in a chroot as well, and knows until a purge what the operator wanted: what was
# disabled stays disabled, also if the package is removed and installed again.
set -e
case "${1:-}" in
configure | abort-upgrade | abort-deconfigure | abort-remove) ;;
*) exit 0 ;;
esac
unit=azp-bootstrap.service
if command -v deb-systemd-helper >/dev/null; then
    deb-systemd-helper unmask $unit >/dev/null || true     # the mask of a removal; never an operator's own
    if deb-systemd-helper --quiet was-enabled $unit; then  # yes, where it was never installed
        deb-systemd-helper enable $unit >/dev/null || true # it fails where the operator has masked the unit
    else
        deb-systemd-helper update-state $unit >/dev/null || true
    fi
elif [ -z "${2:-}" ] && command -v systemctl >/dev/null; then # no version before this one
    systemctl --no-reload preset $unit >/dev/null 2>&1 || systemctl --no-reload enable $unit
fi
[ -d /run/systemd/system ] || exit 0
systemctl daemon-reload || true
if [ -n "${2:-}" ]; then # on a VM that is ready the daemon only verifies
    if command -v deb-systemd-invoke >/dev/null; then
        deb-systemd-invoke try-restart $unit >/dev/null || true
    else
        systemctl try-restart $unit || true
    fi
fi
