#!/usr/bin/env bash
# Fuzzes every fuzz target of the module for a while.
#
#   scripts/fuzz.sh 1m
set -euo pipefail
time=$1
cd "$(dirname "$0")/.."
count=0
while IFS=: read -r file target; do
    echo "-- $target in $(dirname "$file"), $time"
    out=$(go test "./$(dirname "$file")" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 100x 2>&1) || { printf '%s\n' "$out"; exit 1; }
    count=$((count + 1))
done < <(grep -rohn --include='*_test.go' -H '^func Fuzz[A-Za-z]*' . | sed -E 's/^\.\/([^:]*):[0-9]+:func (Fuzz[A-Za-z]*).*/\1:\2/')
echo "fuzz: $count targets, no finding"
