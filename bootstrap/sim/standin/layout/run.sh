#!/bin/bash
# Stand-in for run.sh: the listener, in the foreground.
cd "$(dirname "$(readlink -f "$0")")" || exit 1
exec ./bin/Agent.Listener run "$@"
