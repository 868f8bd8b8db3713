#!/bin/bash
# The last step of a build, as root: the image forgets the machine that it was built on. On Azure waagent
# removes the account that Packer came in with, host keys and the like; elsewhere seal does (--deep).
set -euo pipefail
if command -v waagent >/dev/null; then
    waagent -force -deprovision+user
    azp-bootstrap seal
    azp-bootstrap seal --check
else
    azp-bootstrap seal --deep
    azp-bootstrap seal --deep --check
fi
sync
