#!/usr/bin/env bash
# Runs within Wine's root: the scenarios of Windows.
#
#   scenarios.sh REPOSITORY PROGRAMS [REGEXP]
set -uo pipefail
export WINEPREFIX=/root/windows WINEDEBUG=-all WINEDLLOVERRIDES="mscoree=;mshtml="
ln -sfn / "$WINEPREFIX/dosdevices/z:" # kept out of the tree, where tools would walk through it
wineserver -p >/tmp/wineserver.log 2>&1
# Wine drops what is written to the event log. It is read back from a trace of these calls, which services write where
# the manager's first program does.
WINEDEBUG=-all,+eventlog timeout 60 wine wineboot >/tmp/events 2>&1
cd "$1/cmd/azp-bootstrap" || exit 1
timeout 480 wine "$2/azp-bootstrap.test.exe" -programs "Z:${2//\//\\}" -test.parallel 1 -test.timeout 470s \
    -test.v -test.run "TestWindows${3:+/$3}" >/tmp/said 2>&1
status=$?
tr -d '\r' </tmp/said
exit $status
