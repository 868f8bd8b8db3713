#!/usr/bin/env bash
# Runs the Windows half under Wine, in a Debian 13 root of its own: the unit tests of every package, and the
# scenarios of cmd/azp-bootstrap/testdata/windows, with services of Wine's service control manager. What Wine
# does not show, docs/windows.md lists.
#
#   scripts/windows-test.sh BUILD [REGEXP of scenarios; then no unit tests]
set -euo pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
[ "$(id -u)" -eq 0 ] || { echo "windows-test needs root: it makes a root file system and namespaces." >&2; exit 1; }
scripts/apt.sh mmdebstrap:mmdebstrap unshare:util-linux ip:iproute2
root=$(scripts/windows/root.sh "$build")

programs=$build/windows
rm -rf "$programs"
mkdir -p "$programs"
export GOOS=windows GOARCH=amd64 CGO_ENABLED=0
echo "Building the programs and tests for Windows"
go build -trimpath -ldflags '-s -w' -o "$programs/" ./cmd/...
# The comparison of two Azures has nothing of Windows', and takes long there.
mapfile -t packages < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./... | grep -vE '/(cmd/azp-sim/compare|scripts/mutants)$')
[ $# -eq 1 ] || packages=(azp-bootstrap/cmd/azp-bootstrap)
go test -c -ldflags '-s -w' -o "$programs/" "${packages[@]}"
for package in "${packages[@]}"; do
    test=$programs/${package##*/}.test.exe
    [ ! -f "$test" ] || echo "${package#azp-bootstrap/}" >"$test.package"
done

# Each of these has a Windows of its own, so they run side by side: unit tests, and every fourth scenario.
said=$programs/said
mkdir "$said"
run() { # NAME COMMAND...
    local name=$1
    shift
    local begun=$SECONDS status=0
    "$@" >"$said/$name" 2>&1 || status=$?
    echo "$name: $((SECONDS - begun)) s"
    return "$status"
}
# shellcheck disable=SC2317 # run calls it
inside() { timeout "$1" scripts/windows/inside.sh "$root" "$2" "$PWD" "$programs" "${@:3}"; }
jobs=()
if [ $# -eq 1 ]; then
    run units inside 600 scripts/windows/units.sh & jobs+=($!)
fi
mapfile -t scenarios < <(cd cmd/azp-bootstrap/testdata/windows && printf '%s\n' *.txt | sed 's/[.]txt$//' | grep -E "^(${2:-.*})$")
for part in 0 1 2 3; do
    names=""
    for i in "${!scenarios[@]}"; do
        [ $((i % 4)) -ne "$part" ] || names=$names${names:+|}${scenarios[i]}
    done
    [ -n "$names" ] || continue
    run "scenarios-$part" inside 500 scripts/windows/scenarios.sh "^($names)$" & jobs+=($!)
done
status=0
for job in "${jobs[@]}"; do wait "$job" || status=1; done
[ ! -f "$said/units" ] || cat "$said/units"
grep -hE '^ +--- (PASS|FAIL|SKIP)' "$said"/scenarios-* || status=1
if [ "$status" = 0 ]; then
    echo "windows-test: passed"
else
    grep -h -B 80 'FAIL: testdata' "$said"/scenarios-* | grep -vE '^ +(#|work=|path=)' || tail -n 60 "$said"/scenarios-*
    echo "windows-test: FAILED; all that was said is in $said" >&2
fi
exit "$status"
