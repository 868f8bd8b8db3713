# For Packer 1.7 and newer: packer init packer/ fetches these. Packer 1.6 has them built in and does not know
# this block, which is why it stands in a file of its own.
packer {
  required_version = ">= 1.7.0"
  required_plugins {
    azure = {
      source  = "github.com/hashicorp/azure"
      version = "~> 2"
    }
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = "~> 1"
    }
  }
}
