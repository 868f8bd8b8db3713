# Rocky Linux 9: bought with a plan, for nothing. Its terms are accepted once in each subscription:
# az vm image terms accept --urn resf:rockylinux-x86_64:9-base:latest
linux_source = {
  publisher = "resf"
  offer     = "rockylinux-x86_64"
  sku       = "9-base"
}
linux_plan = {
  name      = "9-base"
  product   = "rockylinux-x86_64"
  publisher = "resf"
}
package = "dist/azp-bootstrap-1.0.0-1.x86_64.rpm"
