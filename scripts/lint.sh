#!/usr/bin/env bash
# Style and static checks. Tools are pinned and run through the Go module proxy; shellcheck comes
# from the distribution and is installed by apt where that is possible.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '%s\n' "-- $1"; }

step "gofmt"
unformatted=$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l)
[ -z "$unformatted" ] || { printf 'not formatted:\n%s\n' "$unformatted" >&2; exit 1; }

step "go vet (linux, windows, macOS)"
go vet ./...
GOOS=windows go vet ./...
GOOS=darwin go vet ./...

step "staticcheck"
go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

step "shellcheck"
if ! command -v shellcheck >/dev/null && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    echo "Installing shellcheck with apt"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends shellcheck >/dev/null
fi
if command -v shellcheck >/dev/null; then
    git ls-files -co --exclude-standard '*.sh' | xargs shellcheck .ci/run
else
    echo "shellcheck is not installed, and only root could install it: skipped"
fi

step "the systemd unit"
if command -v systemd-analyze >/dev/null; then
    dir=$(mktemp -d)
    trap 'rm -rf "$dir"' EXIT
    sed -E 's,^(ExecStart|ExecReload)=/usr/bin/azp-bootstrap,\1=/bin/true,' systemd/azp-bootstrap.service >"$dir/azp-bootstrap.service" # not installed here
    systemd-analyze verify --man=no "$dir/azp-bootstrap.service"
    # The exposure may shrink, not grow: 3.5 of 10. What keeps it from less stands in the unit.
    systemd-analyze security --offline=true --threshold=35 --no-pager "$dir/azp-bootstrap.service" >"$dir/security" || { cat "$dir/security" >&2; exit 1; }
    tail -n 1 "$dir/security"
else
    echo "systemd-analyze is not installed: skipped"
fi

step "modules: sums and licences"
go mod verify
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    scripts/apt.sh jq:jq
fi
if command -v jq >/dev/null; then
    scripts/licences.sh
else
    echo "jq is not installed: the licences are not looked at"
fi

step "govulncheck"
if curl -fsS --max-time 10 -o /dev/null https://vuln.go.dev/index/db.json 2>/dev/null; then
    go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...
else
    echo "the vulnerability database (vuln.go.dev) is not reached from here: skipped"
fi
