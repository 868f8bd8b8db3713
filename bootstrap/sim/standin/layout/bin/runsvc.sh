#!/bin/bash
# Stand-in for runsvc.sh: SIGTERM becomes SIGINT for the host process, which keeps the listener alive.
trap 'kill -INT $PID' TERM INT
if [ -f .path ]; then
    PATH=$(cat .path)
    export PATH
fi
if ! ./externals/node24/bin/node --version >/dev/null 2>&1; then
    echo "ERROR: No compatible Node.js runtime found. Requires Node 20 or later." >&2
    exit 1
fi
./externals/node24/bin/node ./bin/AgentService.js &
PID=$!
wait $PID
trap - TERM INT
wait $PID
