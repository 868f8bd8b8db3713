#!/usr/bin/env bash
# Holds the pipelines that bake to what reads them here: GitHub's by actionlint (with shellcheck for their commands), the
# script that rolls by shellcheck and a stand-in for az. Azure's, which has no reader outside Azure, by what it names.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/apt.sh shellcheck:shellcheck
go run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 .github/workflows/*.yml docs/deploy/github-actions.yaml
shellcheck docs/deploy/roll.sh
scripts/roll-test.sh
scripts/provision-test.sh
if command -v terraform >/dev/null; then
    TF_CLI_CONFIG_FILE=/dev/null terraform fmt -check -diff docs/deploy
else
    echo "terraform is not installed: scale-set.tf is not looked at"
fi
