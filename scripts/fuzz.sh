#!/usr/bin/env bash
# Fuzzes every fuzz target of the module for a while.
#
#   scripts/fuzz.sh 1m
set -euo pipefail
time=$1
cd "$(dirname "$0")/.."

# Before Go 1.27 the fuzzer at times reports the end of its own -fuzztime as a failure (https://go.dev/issue/75804):
# that message, alone, and no input written.
ended() {
    ! grep -q 'Failing input written' <<<"$1" &&
        [ "$(grep -vE '^(fuzz: elapsed|FAIL|exit status 1)' <<<"$1" | sed -E 's/^ *//; s/\([0-9.]+s\)//')" = "--- FAIL: $2 
context deadline exceeded" ]
}

count=0
while IFS=: read -r file target; do
    echo "-- $target in $(dirname "$file"), $time"
    out=$(go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 100x 2>&1) || {
        ended "$out" "$target" || { printf '%s\n' "$out"; exit 1; }
        echo "   (the fuzzer took the end of its time for a failure: go.dev/issue/75804)"
    }
    count=$((count + 1))
done < <(grep -rohn --include='*_test.go' -H '^func Fuzz[A-Za-z]*' . | sed -E 's/^\.\/([^:]*):[0-9]+:func (Fuzz[A-Za-z]*).*/\1:\2/')
echo "fuzz: $count targets, no finding"
