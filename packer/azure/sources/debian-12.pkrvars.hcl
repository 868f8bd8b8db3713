# Debian 12. For 13: debian-13, 13-gen2.
linux_source = {
  publisher = "Debian"
  offer     = "debian-12"
  sku       = "12-gen2"
}
package = "dist/azp-bootstrap_1.0.0_amd64.deb"
