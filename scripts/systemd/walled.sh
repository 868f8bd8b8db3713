# The machine whose jobs try to reach Azure's metadata service. Sourced by systemd-test.sh.
# shellcheck shell=bash disable=SC2154
echo "== wall: jobs and what they leave behind do not reach the metadata service"
machine wall https://tfs.corp:8080/tfs/DefaultCollection 'pool: {name: Default}' \
    "$("$here/systemd/root.sh" "$build" nftables,curl,cron,at,dbus-user-session,iproute2,uidmap,libpam-systemd)"
flushed() { ip netns exec "$ns" nft flush ruleset; } # the network outlives the machine: a boot begins without a wall
"$here/apt.sh" nft:nftables
flushed
boot wall wall.sh --capability=CAP_NET_ADMIN
echo "== wall: the next boot, in which nobody asks the daemon"
flushed
boot wall wall-again.sh --capability=CAP_NET_ADMIN
flushed
leaks wall
umount "$dir/wall/root"
