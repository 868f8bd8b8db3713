#!/usr/bin/env bash
# Builds azp-bootstrap_VERSION_ARCH.deb and the .rpm likewise into OUT, and azp-bootstrap_VERSION_windows_ARCH.zip,
# with SHA256SUMS and bills of materials (CycloneDX). The same commit gives the same bytes: all times are
# the commit's.
#
#   scripts/package.sh VERSION OUT ARCH...      (KINDS="deb rpm zip"; without rpm, no bill of materials)
set -euo pipefail
cd "$(dirname "$0")/.."
out=$2
arches=("${@:3}")
nfpm=github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.45.2
sbom=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.9.0

# A version of a package begins with a number; git describe of a tree without tags does not.
version=${1#v}
case $version in
[0-9]*.*) ;;
*) version=0.0.0~git.$version ;;
esac
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH VERSION=$version ARCH ROOT
mkdir -p "$out"
rm -f "$out"/azp-bootstrap[_-]* "$out/SHA256SUMS"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
SHARE=$work/share
export SHARE
mkdir -p "$SHARE/man"
for shell in bash zsh fish; do go run -trimpath ./cmd/azp-bootstrap completion "$shell" >"$SHARE/completion.$shell"; done
go run -trimpath ./cmd/azp-bootstrap config schema >"$SHARE/config.schema.json"
go test -count=1 ./cmd/azp-bootstrap -run '^TestManPages$' -man "$SHARE/man" >/dev/null
gzip -9n "$SHARE"/man/*.8
printf 'azp-bootstrap (%s) stable; urgency=medium\n\n  * What has changed stands in CHANGELOG.md beside this file.\n\n -- azp-bootstrap developers <maintainers@azp-bootstrap.invalid>  %s\n' \
    "$version" "$(date -Ru -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$SHARE/changelog.gz" # as Debian wants it
touch -d "@$SOURCE_DATE_EPOCH" "$SHARE"/* "$SHARE"/man/*
for ARCH in "${arches[@]}"; do
    echo "Building the packages for $ARCH, version $version"
    ROOT=$work/$ARCH
    mkdir -p "$ROOT"
    CGO_ENABLED=0 GOARCH=$ARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$ROOT/azp-bootstrap" ./cmd/azp-bootstrap
    touch -d "@$SOURCE_DATE_EPOCH" "$ROOT"/*
    for kind in ${KINDS:-deb rpm zip}; do
        [ "$kind" != zip ] || continue
        go run "$nfpm" package --config scripts/package/nfpm.yaml --packager "$kind" --target "$out/" | tail -n 1
    done
done
case ${KINDS:-rpm} in *rpm*) ;; *) exit 0 ;; esac
echo "Writing the bills of materials"
GOBIN=$work GOFLAGS=-mod=mod go install "$sbom" 2>/dev/null
materials() { # SYSTEM FILE: what a program of this system is made of
    GOOS=$1 GOFLAGS=-mod=mod "$work/cyclonedx-gomod" app -json -licenses -noserial -output "$2" -main cmd/azp-bootstrap . 2>/dev/null
    sed -i "s/\"timestamp\": \"[^\"]*\"/\"timestamp\": \"$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)\"/" "$2"
}
materials linux "$out/azp-bootstrap_$version.cdx.json"
case ${KINDS:-zip} in
*zip*)
    materials windows "$out/azp-bootstrap_${version}_windows.cdx.json"
    for ARCH in "${arches[@]}"; do
        echo "Building the package for Windows on $ARCH"
        in=$work/windows-$ARCH
        mkdir -p "$in"
        CGO_ENABLED=0 GOOS=windows GOARCH=$ARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$in/azp-bootstrap.exe" ./cmd/azp-bootstrap
        cp README.md LICENSE cmd/azp-bootstrap/example.yaml "$in/"
        cp "$out/azp-bootstrap_${version}_windows.cdx.json" "$in/azp-bootstrap.cdx.json"
        files=(azp-bootstrap.exe README.md LICENSE example.yaml azp-bootstrap.cdx.json)
        (cd "$in" && sha256sum "${files[@]}" >SHA256SUMS)
        pairs=()
        for f in "${files[@]}" SHA256SUMS; do pairs+=("$f=$in/$f"); done
        go run ./scripts/zip "$out/azp-bootstrap_${version}_windows_$ARCH.zip" "$SOURCE_DATE_EPOCH" "${pairs[@]}"
    done
    ;;
esac
(cd "$out" && sha256sum azp-bootstrap* >SHA256SUMS && cat SHA256SUMS)
