# Red Hat Enterprise Linux 9, paid with the VM, generation 2. AlmaLinux 9, which needs no plan either: almalinux,
# almalinux-x86_64, 9-gen2.
linux_source = {
  publisher = "RedHat"
  offer     = "RHEL"
  sku       = "9-lvm-gen2"
}
package = "dist/azp-bootstrap-1.0.0-1.x86_64.rpm"
