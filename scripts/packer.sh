#!/usr/bin/env bash
# Which Packer, and which form of a folder of packer/ it takes.
#
#   scripts/packer.sh build BUILD          builds Packer 1.9.4 (the last under MPL) with its plugins in it from the Go
#                                          module proxy into BUILD/cache, once: some four minutes on two cores
#   scripts/packer.sh which BUILD          prints $PACKER; or one of the PATH from 1.7 on; or that one; or Debian's 1.6
#   scripts/packer.sh folder PACKER FOLDER [SETTING...] -- DIR
#                                          prints the folder to give to PACKER: FOLDER itself if its plugins are there or
#                                          packer init can fetch them. Else a copy in DIR for the plugins that are built
#                                          into PACKER (before 1.10), without what they do not know.
set -euo pipefail
cd "$(dirname "$0")/.."
version=1.9.4
of() { "$1" version | sed -n 's/^Packer v\([0-9]*\.[0-9]*\).*/\1/p' | awk -F. '{ print $1 * 1000 + $2 }'; }
case $1 in
build)
    mkdir -p "$2/cache"
    into=$(cd "$2/cache" && pwd)/packer-$version
    if [ ! -x "$into" ]; then
        echo "Building Packer $version with its plugins, which takes some minutes" >&2
        dir=$(mktemp -d)
        trap 'rm -rf "$dir"' EXIT
        # go install of a module with replace directives is refused; as a requirement of another it builds.
        printf 'module packer\ngo 1.26\nrequire github.com/hashicorp/packer v%s\n' "$version" >"$dir/go.mod"
        (cd "$dir" && CGO_ENABLED=0 GOFLAGS='' nice -n 19 go build -mod=mod -trimpath -ldflags '-s -w' -o "$dir/packer" github.com/hashicorp/packer 2>"$dir/said") ||
            { tail -n 20 "$dir/said" >&2; exit 1; }
        mv "$dir/packer" "$into"
    fi
    echo "$into"
    ;;
which)
    if [ -n "${PACKER:-}" ]; then
        echo "$PACKER"
    elif command -v packer >/dev/null && [ "$(of packer)" -ge 1007 ]; then
        command -v packer
    elif [ -x "$2/cache/packer-$version" ]; then
        (cd "$2/cache" && echo "$PWD/packer-$version")
    elif command -v packer >/dev/null || { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null && scripts/apt.sh packer:packer; }; then
        command -v packer
    else
        echo "There is no Packer here: install it (https://developer.hashicorp.com/packer/install), or build one: make packer" >&2
        exit 1
    fi
    ;;
folder)
    packer=$2 folder=$3 dir=${!#}
    settings=("${@:4:$#-5}")
    if [ "$(of "$packer")" -ge 1007 ]; then
        if "$packer" validate "${settings[@]}" "$folder" >/dev/null 2>&1 || timeout 120 "$packer" init "$folder" >/dev/null 2>&1; then
            echo "$folder"
            exit
        fi
        [ "$(of "$packer")" -lt 1010 ] || { echo "packer init $folder cannot fetch its plugins, and $packer has none in it" >&2; exit 1; }
    fi
    name=$(basename "$folder")
    mkdir -p "$dir/packer/$name"
    ln -sfn "$PWD/scripts" "$dir/scripts" # the templates name them from where they are
    ln -sf "$PWD"/packer/config.yaml "$PWD"/packer/agent.lock "$dir/packer/"
    cp "$folder"/*.pkr.hcl "$dir/packer/$name/"
    rm "$dir/packer/$name/plugins.pkr.hcl"
    if [ "$name" = azure ]; then # of the sources' own blocks there, 1.4 knows the gallery without target_region
        awk '/^  source / { print; within = 1; next }
            within && /^  }/ { within = 0 }
            within && /^    shared_image_gallery_destination/ { destination = 1 }
            within && /dynamic/ { dynamic = 1 }
            !within || destination && !dynamic && !/confidential/ { print }
            within && /^      }/ && dynamic { dynamic = 0; print "      replication_regions = keys(local.regions)" }
            within && /^    }/ { destination = 0 }' "$folder/build.pkr.hcl" >"$dir/packer/$name/build.pkr.hcl"
    fi
    echo "$dir/packer/$name"
    ;;
*)
    sed -n '2,10p' "$0" >&2
    exit 2
    ;;
esac
