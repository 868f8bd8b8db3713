# Services that come late, a clock that starts in 1970, no cloud-init, upgrades of the package, shutdowns. Sourced by vm-test.sh.
# shellcheck shell=bash disable=SC2154
say "IMDS comes 60 s late, then the vault refuses for 90 s"
sed '/readers:/s/\[.*\]/[]/' "$dir/azure.yaml" >"$dir/norole.yaml"
sim apply "$dir/norole.yaml"
imdsDown web_2
disk late
power web_2 "$dir/late" clone &
machine=$!
for _ in $(seq 1500); do
    ! grep -qaE 'discover +waits' "$dir/late.console" 2>/dev/null || break
    sleep 0.1
done
sleep 60
imdsUp web_2
sleep 90
sim apply "$dir/azure.yaml"
wait "$machine"
keep "$dir/late" late
passed "$dir/late"
grep -a 'waits:' "$dir/late.console" | cut -c1-150
grep -qa 'discover  *waits: .*Instance Metadata' "$dir/late.console" || fail "the console does not say that IMDS was waited for"
grep -qa 'credential  *waits: .*access denied' "$dir/late.console" || fail "the console does not say that the vault was waited for"
sim delete-agent web-000002

say "the clock starts in 1970, until time is synchronized"
disk clock
append="azptime=$(date +%s)" power web_2 "$dir/clock" clock -rtc base=1970-01-02T00:00:00
keep "$dir/clock" clock
passed "$dir/clock"
sim delete-agent web-000002

say "a VM without cloud-init"
disk plain
append="cloud-init=disabled" power web_2 "$dir/plain" clone
keep "$dir/plain" plain
passed "$dir/plain"
sim delete-agent web-000002

say "the package is upgraded and purged on a VM that is ready"
disk packages
power web_2 "$dir/packages" packages
keep "$dir/packages" packages
passed "$dir/packages"
sim delete-agent web-000002

say "a VM that is shut down leaves, where drain.onShutdown is set; one that reboots does not"
disk shutdown
power web_2 "$dir/shutdown" reboot
keep "$dir/shutdown" reboot
[ "$(count offline)" = 1 ] || fail "a reboot took the agent along"
power web_2 "$dir/shutdown" shutdown
keep "$dir/shutdown" shutdown
passed "$dir/shutdown"
[ "$(count offline)" = 0 ] || fail "the agent was left behind at the shutdown"
