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

status=0
if [ $# -eq 1 ]; then
    echo "== unit tests"
    timeout 600 scripts/windows/inside.sh "$root" scripts/windows/units.sh "$PWD" "$programs" || status=1
fi
echo "== scenarios"
said=$(mktemp)
trap 'rm -f "$said"' EXIT
timeout 500 scripts/windows/inside.sh "$root" scripts/windows/scenarios.sh "$PWD" "$programs" ${2:+"$2"} >"$said" 2>&1 || status=1
if [ "$status" = 0 ]; then
    grep -E '^ +--- (PASS|SKIP)' "$said"
    echo "windows-test: passed"
else
    grep -vE '^ +(#|work=|path=)' "$said" | tail -n 150
    echo "windows-test: FAILED" >&2
fi
exit "$status"
