#!/usr/bin/env bash
# Runs within Wine's root: the unit tests of each package, in the package's folder.
#
#   units.sh REPOSITORY PROGRAMS [PACKAGE...]     folders of the tree, by default all that have tests here
set -uo pipefail
export WINEPREFIX=/root/windows WINEDEBUG=-all WINEDLLOVERRIDES="mscoree=;mshtml="
repository=$1 programs=$2
ln -sfn / "$WINEPREFIX/dosdevices/z:" # kept out of the tree, where tools would walk through it
wineserver -p >/tmp/wineserver.log 2>&1
failed=0
for test in "$programs"/*.test.exe; do
    package=$(cat "$test.package")
    [ $# -eq 2 ] || [[ " ${*:3} " == *" $package "* ]] || continue
    cd "$repository/$package" || exit 1
    begun=$SECONDS
    more=()
    case $package in
    cmd/azp-bootstrap) more=(-programs "Z:${programs//\//\\}" -test.skip TestWindows) ;;      # they have a step of their own
    bootstrap/health) more=(-test.skip TestManyAndSlowCallers) ;; # a busy machine's sockets, not Windows'
    esac
    # Never into a pipe: services inherit it, and it would not end with the program.
    if timeout 200 wine "$test" "${more[@]}" -test.short -test.timeout 190s >/tmp/said 2>&1; then
        echo "ok      $package ($((SECONDS - begun)) s)"
    else
        echo "FAILED  $package ($((SECONDS - begun)) s)"
        grep -aE '^(---|\s+---|panic|\s+\S+\.go:[0-9]+:)' /tmp/said | head -40
        failed=1
    fi
done
exit $failed
