#!/usr/bin/env bash
# Holds docs/deploy's alert rules, their tests, and each query of the dashboard to promtool. Without one in the PATH,
# Debian's is unpacked into BUILD/cache; nothing is installed, since that package would start a server.
#
#   scripts/alerts-test.sh BUILD
set -euo pipefail
cd "$(dirname "$0")/.."
cache=$(mkdir -p "$1/cache" && cd "$1/cache" && pwd)
scripts/apt.sh jq:jq
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
promtool=$(command -v promtool || true)
if [ -z "$promtool" ]; then
    promtool=$cache/promtool
    if [ ! -x "$promtool" ]; then
        (cd "$dir" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; } >/dev/null 2>&1 && dpkg -x prometheus_*.deb x) ||
            { echo "no promtool here, and apt has no prometheus" >&2; exit 1; }
        mv "$dir/x/usr/bin/promtool" "$promtool"
    fi
fi
"$promtool" --version 2>&1 | head -n 1
"$promtool" check rules docs/deploy/alerts.yaml
"$promtool" test rules docs/deploy/alerts_test.yaml
# Each alert has a test that sees it fire.
sed -n 's/^ *- alert: *//p' docs/deploy/alerts.yaml | while read -r alert; do
    grep -qE "alertname: *$alert|alertname=\"$alert\"" docs/deploy/alerts_test.yaml || { echo "no test of $alert" >&2; exit 1; }
done
# Grafana fills in its variables; the rest must be PromQL.
{
    printf 'groups:\n- name: dashboard\n  rules:\n'
    jq -r '.panels[].targets[].expr' docs/deploy/grafana.json | sed 's/[$]job/.*/g; s/[$]instance/.*/g' | sed "s/'/''/g; s/.*/  - {record: query, expr: '&', labels: {line: '/" |
        awk '{ print $0 NR "\x27}}" }'
} >"$dir/dashboard.yaml"
"$promtool" check rules "$dir/dashboard.yaml" >"$dir/said" 2>&1 || { cat "$dir/said" >&2; exit 1; }
echo "$(grep -c record: "$dir/dashboard.yaml") queries of the dashboard are PromQL"
