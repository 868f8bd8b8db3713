#!/usr/bin/env bash
# Shows go test's output and ends with one line that counts packages; fails if a package failed.
set -uo pipefail
awk '
{ print }
/^ok / { ok++ }
/^FAIL\t/ || /^panic:/ { bad++ }
/^--- FAIL/ || /^=== FAIL/ { failed++ }
END {
    printf "\nPackages: %d passed, %d failed; failed tests: %d\n", ok, bad, failed
    exit (bad > 0 || failed > 0 || ok == 0) ? 1 : 0
}'
