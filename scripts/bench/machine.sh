#!/bin/bash
# Runs inside the machine: makes its network an Azure's and runs the benchmark.
set -u
exec >>/bench/log 2>&1
ip link set lo up
ip addr add 169.254.169.254/32 dev lo
mount -o remount,rw,bind /proc/sys # to empty the page cache
cd /src/cmd/azp-bootstrap || exit 1
/bench/bench.test -test.run '^TestBench$' -test.v -test.timeout 3h -bench-programs /programs "$@"
echo $? >/bench/status
