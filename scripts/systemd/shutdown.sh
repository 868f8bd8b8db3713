#!/bin/bash
# Runs inside the machine before it is shut down for good, with drain.onShutdown: it leaves Azure DevOps then.
set -u
mkdir -p /var/lib/azp-test /etc/azp-bootstrap/conf.d
exec >/var/lib/azp-test/log 2>&1
fail() {
    echo "FAILED: $1"
    azp-bootstrap status
    journalctl --no-pager -b -u azp-bootstrap | tail -40
    exit 1
}
ready() { systemctl show -P StatusText azp-bootstrap | grep -q '^ready'; }
for _ in $(seq 300); do
    ready && break
    sleep 0.1
done
ready || fail "not ready"
echo 'drain: {onShutdown: true}' >/etc/azp-bootstrap/conf.d/90-drain.yaml
systemctl reload azp-bootstrap || fail "reload"
for _ in $(seq 400); do
    journalctl --no-pager -b -u azp-bootstrap | grep -q 'the configuration is read again' && break
    sleep 0.1
done
sleep 1
touch /var/lib/azp-test/passed
