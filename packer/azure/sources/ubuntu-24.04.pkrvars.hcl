# Ubuntu 24.04 LTS, generation 2.
linux_source = {
  publisher = "Canonical"
  offer     = "ubuntu-24_04-lts"
  sku       = "server"
}
package = "dist/azp-bootstrap_1.0.0_amd64.deb"
