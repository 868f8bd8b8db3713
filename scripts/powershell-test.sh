#!/usr/bin/env bash
# Parses every PowerShell script of the tree, and the PowerShell of the documentation, with tree-sitter's grammar
# (scripts/powershell/package-lock.json pins both, by sum). No PowerShell runs here: it tells a typing error, not what a cmdlet does.
#
#   scripts/powershell-test.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD/scripts/powershell
scripts/apt.sh node:nodejs npm:npm
dir=$(mkdir -p "$1/cache" && cd "$1/cache" && pwd)/powershell-$(sha256sum "$here/package-lock.json" | cut -c1-12)
exec 9>"$dir.lock" && flock 9
if [ ! -f "$dir/done" ]; then
    rm -rf "$dir" && mkdir "$dir"
    cp "$here"/package.json "$here"/package-lock.json "$here"/.npmrc "$dir"
    npm ci --silent --prefix "$dir"
    touch "$dir/done"
fi
cp "$here/parse.mjs" "$dir"
# It can fail: this is none.
# shellcheck disable=SC2016 # PowerShell's
printf 'if ($a { "b" }\n' >"$dir/wrong.ps1"
if node "$dir/parse.mjs" "$dir/wrong.ps1" 2>/dev/null; then
    echo "the parser takes what is no PowerShell" >&2
    exit 1
fi
mapfile -t files < <(git ls-files -co --exclude-standard '*.ps1' 'docs/*.md' README.md)
node "$dir/parse.mjs" "${files[@]}"
