#!/bin/bash
# Stand-in for the agent's config.sh: the same refusals, the same order, no code of the original.
if [ "$(id -u)" -eq 0 ] && [ -z "$AGENT_ALLOW_RUNASROOT" ]; then
    echo "Must not run with sudo"
    exit 1
fi
cd "$(dirname "$(readlink -f "$0")")" || exit 1
if [ "$(cat bin/behaviour 2>/dev/null)" = no-dependencies ]; then
    echo "Dependencies is missing for .NET Core 6.0"
    echo "Execute ./bin/installdependencies.sh to install any missing dependencies."
    exit 1
fi
# shellcheck disable=SC1091 # beside this file in the package
. ./env.sh
if [[ "${1,,}" == "remove" ]]; then
    ./bin/Agent.Listener "$@"
else
    ./bin/Agent.Listener configure "$@"
fi
