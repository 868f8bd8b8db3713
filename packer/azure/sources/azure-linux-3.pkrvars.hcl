# Azure Linux 3, generation 2.
linux_source = {
  publisher = "MicrosoftCBLMariner"
  offer     = "azure-linux-3"
  sku       = "azure-linux-3-gen2"
}
package = "dist/azp-bootstrap-1.0.0-1.x86_64.rpm"
