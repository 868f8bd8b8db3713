#!/usr/bin/env bash
# Pins a version of the Azure Pipelines agent: downloads its packages, and writes their SHA-256 sums into the
# lock file, one line for each platform. Compare them with the agent's release page
# (github.com/microsoft/azure-pipelines-agent/releases) before you commit: that page is the second witness.
#
#   scripts/pin-agent.sh VERSION [LOCK [PLATFORM...]]      SOURCE=https://… for a mirror
set -euo pipefail
fail() { echo "$1" >&2; exit 2; }
every=(linux-x64 linux-arm64 linux-arm linux-musl-x64 linux-musl-arm64 osx-x64 osx-arm64 win-x64 win-x86)
[ $# -gt 0 ] || fail "scripts/pin-agent.sh VERSION [LOCK [PLATFORM...]]: the version is one of the agent's release page, such as 4.269.0"
version=$1
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+$ ]] || fail "\"$version\" is not a version of three numbers, such as 4.269.0 (no v in front)"
lock=${2:-packer/agent.lock}
case $lock in linux* | osx* | win*) fail "\"$lock\" is the lock file's place: scripts/pin-agent.sh $version packer/agent.lock $lock" ;; esac
source=${SOURCE:-https://download.agent.dev.azure.com/agent}
platforms=("${@:3}")
[ ${#platforms[@]} -gt 0 ] || platforms=("${every[@]}")
for platform in "${platforms[@]}"; do
    case " ${every[*]} win-arm64 " in *" $platform "*) ;; *) fail "There is no platform $platform, only ${every[*]} win-arm64 (since version 5)" ;; esac
done
new=$(mktemp)
trap 'rm -f "$new" "$new.package"' EXIT
if [ -f "$lock" ]; then # its comments, and what it says of platforms that are not named, stay
    awk -v named=" ${platforms[*]} " '!/^# The sums of/ && !(NF && index(named, " " $1 " "))' "$lock" >"$new"
fi
for platform in "${platforms[@]}"; do
    ending=tar.gz
    case $platform in win-*) ending=zip ;; esac
    file=vsts-agent-$platform-$version.$ending
    echo "downloading $file" >&2
    curl -fsSL --proto '=https' --retry 3 -o "$new.package" "$source/$version/$file"
    echo "$platform $version $(sha256sum <"$new.package" | cut -d' ' -f1)" | tee -a "$new"
done
cp "$new" "$lock"
echo "written to $lock: compare the sums with https://github.com/microsoft/azure-pipelines-agent/releases/tag/v$version" >&2
