#!/bin/bash
# Stand-in for run.sh: the listener, in the foreground.
cd "$(dirname "$(readlink -f "$0")")" || exit 1
./bin/Agent.Listener run "$@"
code=$?
if [ $code = 4 ]; then # of an agent that runs one job: it has been updated
    sleep 5
    exec ./bin/Agent.Listener run "$@"
fi
exit $code
