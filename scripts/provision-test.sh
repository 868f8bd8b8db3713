#!/usr/bin/env bash
# What scripts/image/provision.sh says to a package that is not this system's: it runs with stand-ins for dpkg and rpm alone.
# shellcheck disable=SC2016
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
bash=$(command -v bash)
tool() { printf '#!%s\n%s\n' "$bash" "$2" >"$dir/$1" && chmod +x "$dir/$1"; }
mkdir "$dir/deb" "$dir/rpm" "$dir/from"
tool deb/dpkg 'case $1 in --print-architecture) echo amd64 ;; -i) echo "installed $2"; exit 9 ;; esac'
tool deb/dpkg-deb 'name=${2%.deb}; echo "${name##*_}"'
tool rpm/rpm 'case $1 in --eval) echo aarch64 ;; -qp) name=${5%.rpm}; echo "${name##*.}" ;; -U) echo "installed $3"; exit 9 ;; esac'
try() { # system, what it must say, the packages that are there
    rm -f "$dir"/from/* && (cd "$dir/from" && touch "${@:3}")
    said=$(PATH=$dir/$1 FROM=$dir/from "$bash" scripts/image/provision.sh 2>&1) && { echo "taken: ${*:3}" >&2; exit 1; }
    case $said in *"$2"*) ;; *) printf '%s: it does not say: %s\n%s\n' "${*:3}" "$2" "$said" >&2; exit 1 ;; esac
}
try deb 'installed ./azp-bootstrap_1.0.0_amd64.deb' azp-bootstrap_1.0.0_amd64.deb
try deb 'is for arm64, and this machine is amd64. Set package to dist/azp-bootstrap_VERSION_amd64.deb' azp-bootstrap_1.0.0_arm64.deb
try deb 'takes one .deb for amd64' azp-bootstrap-1.0.0-1.x86_64.rpm
try deb 'takes one .deb for amd64' azp-bootstrap_1.0.0_amd64.deb azp-bootstrap_1.1.0_amd64.deb
try deb 'Set package to dist/azp-bootstrap_VERSION_amd64.deb' config.yaml
try rpm 'installed ./azp-bootstrap-1.0.0-1.aarch64.rpm' azp-bootstrap-1.0.0-1.aarch64.rpm
try rpm 'is for x86_64, and this machine is aarch64. Set package to dist/azp-bootstrap-VERSION.aarch64.rpm' azp-bootstrap-1.0.0-1.x86_64.rpm
try rpm 'takes one .rpm for aarch64' azp-bootstrap_1.0.0_amd64.deb
echo "provision.sh: six packages that are not the system's, each refused with what to write"
