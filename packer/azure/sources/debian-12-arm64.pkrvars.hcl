# Debian 12 on arm64. The image definition must have been made with --architecture Arm64.
linux_source = {
  publisher = "Debian"
  offer     = "debian-12"
  sku       = "12-arm64"
}
vm_size = "Standard_D2ps_v5"
package = "dist/azp-bootstrap_1.0.0_arm64.deb"
