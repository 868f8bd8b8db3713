#!/usr/bin/env bash
# Runs within Wine's root: boots its Windows once, and sets how long a service may take to start, which
# on a busy machine is longer than Wine waits by itself.
set -euo pipefail
export WINEPREFIX=/root/windows WINEDEBUG=-all WINEDLLOVERRIDES="mscoree=;mshtml="
mkdir -p "$WINEPREFIX"
wineserver -p >/tmp/wineserver.log 2>&1 || true
timeout 300 wineboot -i >/tmp/wineboot.log 2>&1 || { cat /tmp/wineboot.log >&2; exit 1; }
control='HKLM\System\CurrentControlSet\Control'
for value in ServicesPipeTimeout WaitToKillServiceTimeout; do
    timeout 60 wine reg add "$control" /v "$value" /t REG_DWORD /d 120000 /f >/tmp/reg.log 2>&1 || { cat /tmp/reg.log >&2; exit 1; }
done
timeout 60 wineserver -k >/tmp/wineserver.log 2>&1 || true # writes its registry
timeout 60 wineserver -w >/tmp/wineserver.log 2>&1 || true
rm -f "$WINEPREFIX/dosdevices/z:" # a link to / where tools would walk through it
