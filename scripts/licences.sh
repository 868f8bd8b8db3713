#!/usr/bin/env bash
# The licences of everything that is linked into azp-bootstrap, as docs/evidence/licences.md. Without --update it fails
# when the page is not true any more, or when a licence is none of those that we take.
set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/evidence/licences.md
allowed=" MIT Apache-2.0 BSD-2-Clause BSD-3-Clause Zlib "
bom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0
made=$(mktemp)
trap 'rm -f "$made"' EXIT
{
    printf '<!-- Made by scripts/licences.sh --update; lint keeps it so. -->\n# Licences\n\n'
    printf 'What is linked into azp-bootstrap, with its version (pinned in go.mod, its sum in go.sum) and licence. The bill of\n'
    printf 'materials beside the packages says the same in CycloneDX form.\n\n| module | version | licence |\n| --- | --- | --- |\n'
    # The texts of golang.org/x are BSD-3-Clause, which the detector takes for its sibling.
    go run "$bom" app -licenses -json -main cmd/azp-bootstrap . 2>/dev/null |
        jq -r '.components[] | select(.type == "library") | "| \(.name) | \(.version) | \([.evidence.licenses[]?.license.id, .licenses[]?.license.id] | join(", ")) |"' |
        sed -E '/\| golang.org\/x\//s/BSD-Source-Code/BSD-3-Clause/'
} >"$made"
while IFS='|' read -r _ name _ licence _; do
    licence=${licence// /}
    case "$allowed" in *" $licence "*) ;; *) echo "the licence of$name is \"$licence\", which is none of:$allowed" >&2; exit 1 ;; esac
done < <(grep -E '^\| .*v[0-9]' "$made")
if [ "${1:-}" = --update ]; then
    cp "$made" "$page"
elif ! cmp -s "$made" "$page"; then
    diff "$page" "$made" >&2 || true
    echo "$page is not true: scripts/licences.sh --update" >&2
    exit 1
fi
echo "$(grep -cE '^\| .*v[0-9]' "$made") modules, all of licences that we take"
