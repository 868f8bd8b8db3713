#!/bin/bash
# Stand-in: keeps PATH in .path and appends variables that jobs need to .env.
touch .env
echo "$PATH" >.path
for name in LANG JAVA_HOME VSTS_HTTP_PROXY LD_LIBRARY_PATH AGENT_TOOLSDIRECTORY; do
    if [ -n "${!name}" ] && ! grep -q "^$name=" .env; then
        echo "$name=${!name}" >>.env
    fi
done
