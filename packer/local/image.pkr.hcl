# The same image for QEMU: for a laptop, and for the tests. `make image` gives the variables.
#
#   packer init packer/local
#   packer build -var base_image=debian-12-genericcloud-amd64.qcow2 ... packer/local

variable "base_image" {
  type        = string
  default     = "base.qcow2"
  description = "A disk with cloud-init and an SSH server: Debian's genericcloud image, for example."
}

variable "base_checksum" {
  type    = string
  default = "none"
}

variable "kernel" {
  type        = string
  default     = ""
  description = "With initrd: boot this kernel, for a disk without a boot loader."
}

variable "initrd" {
  type    = string
  default = ""
}

variable "accelerator" {
  type    = string
  default = "kvm"
}

variable "output" {
  type    = string
  default = "build/image"
}

variable "seed" {
  type        = string
  default     = "build/seed"
  description = "Folder with user-data and meta-data for cloud-init (NoCloud): the key that Packer comes in with."
}

variable "ssh_key" {
  type    = string
  default = "build/seed/key"
}

variable "package" {
  type    = string
  default = "dist/azp-bootstrap_1.0.0_amd64.deb"
}

variable "agent_package" {
  type        = string
  default     = ""
  description = "The agent's package, for a build without a network; its sum stands in the lock file."
}

variable "config" {
  type    = string
  default = ""
}

variable "lock" {
  type    = string
  default = ""
}

locals {
  append = "root=/dev/vda rw console=ttyS0 net.ifnames=0 ds=nocloud-net;s=http://{{ .HTTPIP }}:{{ .HTTPPort }}/"
  boot   = var.kernel == "" ? [] : [["-kernel", var.kernel], ["-initrd", var.initrd], ["-append", local.append]]
  direct = var.kernel == "" ? [["-smbios", "type=1,serial=ds=nocloud-net;s=http://{{ .HTTPIP }}:{{ .HTTPPort }}/"]] : local.boot
  files  = var.agent_package == "" ? [var.package] : [var.package, var.agent_package]
  config = var.config != "" ? var.config : "${path.root}/../config.yaml"
  lock   = var.lock != "" ? var.lock : "${path.root}/../agent.lock"
}

source "qemu" "linux" {
  iso_url          = var.base_image
  iso_checksum     = var.base_checksum
  disk_image       = true
  format           = "qcow2"
  accelerator      = var.accelerator
  headless         = true
  cpus             = 2
  memory           = 1024
  net_device       = "virtio-net"
  disk_interface   = "virtio"
  http_directory   = var.seed
  output_directory = var.output
  vm_name          = "azp-bootstrap.qcow2"
  qemuargs         = local.direct

  ssh_username         = "packer"
  ssh_private_key_file = var.ssh_key
  ssh_timeout          = "10m"
  # the account that Packer came in with goes as well
  shutdown_command = "sudo sh -c 'systemctl --no-block poweroff; userdel -rf packer; rm -f /etc/sudoers.d/90-cloud-init-users'"
}

build {
  sources = ["source.qemu.linux"]

  provisioner "file" {
    sources     = local.files
    destination = "/tmp/"
  }
  provisioner "file" {
    source      = local.config
    destination = "/tmp/config.yaml"
  }
  provisioner "file" {
    source      = local.lock
    destination = "/tmp/agent.lock"
  }
  provisioner "shell" {
    execute_command = "chmod +x {{ .Path }}; sudo env {{ .Vars }} {{ .Path }}"
    scripts         = ["${path.root}/../../scripts/image/provision.sh", "${path.root}/../../scripts/image/generalize.sh"]
  }
}
