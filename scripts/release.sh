#!/usr/bin/env bash
# The local half of a release: packages for amd64 and arm64 with checksums and bill of materials, looked at, and the notes.
# .github/workflows/release.yml does the rest of a tag: it signs who built them, and publishes.
#
#   scripts/release.sh VERSION OUT
set -euo pipefail
cd "$(dirname "$0")/.."
version=$1 out=$2
fail() { echo "$1" >&2; exit 1; }
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "\"$version\" is not a version to release: make release VERSION=1.2.3"
[ -z "$(git status --porcelain)" ] || fail "The tree has changes that are not committed: a release is built of a commit. See git status."
if [ "$(git rev-parse -q --verify "refs/tags/v$version^{commit}" || true)" = "$(git rev-parse HEAD)" ]; then
    heading=$version
elif [ -n "${GITHUB_ACTIONS:-}" ]; then
    fail "HEAD has no tag v$version: what is published is what the tag names."
else
    echo "HEAD has no tag v$version: this is a trial; its notes are those of Unreleased" >&2
    heading=Unreleased
fi
# From the heading to the next one: "## 1.2.3" or "## [1.2.3] - 2026-11-28".
notes=$(awk -v heading="$heading" '/^## / { within = $2 == heading || $2 == "[" heading "]"; next } within' CHANGELOG.md)
[ -n "${notes//[[:space:]]/}" ] || fail "CHANGELOG.md has no section \"## $heading\": move what is under Unreleased there, commit, and set the tag anew."

scripts/package.sh "$version" "$out" amd64 arm64
printf '%s\n' "$notes" >"$out/NOTES.md"
cd "$out"
sha256sum --quiet --check SHA256SUMS
for file in "azp-bootstrap_${version}_amd64.deb" "azp-bootstrap_${version}_arm64.deb" \
    "azp-bootstrap-$version-1.x86_64.rpm" "azp-bootstrap-$version-1.aarch64.rpm" "azp-bootstrap_$version.cdx.json"; do
    grep -q " $file\$" SHA256SUMS || fail "$file is not there"
done
echo "What make release VERSION=$version has made in $out:"
du -h --apparent-size ./* | awk '{ print "  " $1 "\t" substr($2, 3) }'
