# An image with azp-bootstrap in an Azure Compute Gallery, for Linux and Windows.
#
#   make packages                       # dist/azp-bootstrap_VERSION_amd64.deb
#   scripts/pin-agent.sh VERSION        # packer/agent.lock
#   packer init packer/                 # Packer 1.7 and newer
#   packer build -only 'azure-arm.linux' -var-file mine.pkrvars.hcl packer/azure.pkr.hcl
#
# docs/image-guide.md goes through it from zero.

variable "subscription_id" {
  type    = string
  default = "00000000-0000-0000-0000-000000000000"
}

# How Packer signs in: with use_azure_cli as `az login` did; with client_id and client_jwt by OIDC
# (workload identity federation: the pipeline's own token); with neither by the managed identity of the
# machine that Packer runs on.
variable "use_azure_cli" {
  type    = bool
  default = false
}

variable "tenant_id" {
  type    = string
  default = ""
}

variable "client_id" {
  type    = string
  default = ""
}

variable "client_jwt" {
  type      = string
  default   = ""
  sensitive = true
}

variable "location" {
  type    = string
  default = "westeurope"
}

variable "vm_size" {
  type    = string
  default = "Standard_D2s_v5"
}

# The gallery and its image definitions are made once, see the guide. Generation 2 sources, so that the
# definitions can be TrustedLaunchSupported.
variable "gallery" {
  type = object({
    resource_group = string
    name           = string
    linux_image    = string
    windows_image  = string
  })
  default = {
    resource_group = "images"
    name           = "agents"
    linux_image    = "azp-linux"
    windows_image  = "azp-windows"
  }
}

variable "image_version" {
  type    = string
  default = "1.0.0"
}

variable "replication_regions" {
  type    = list(string)
  default = ["westeurope", "northeurope"]
}

variable "linux_source" {
  type = object({
    publisher = string
    offer     = string
    sku       = string
  })
  default = {
    publisher = "Debian"
    offer     = "debian-12"
    sku       = "12-gen2"
  }
}

variable "windows_source" {
  type = object({
    publisher = string
    offer     = string
    sku       = string
  })
  default = {
    publisher = "MicrosoftWindowsServer"
    offer     = "WindowsServer"
    sku       = "2022-datacenter-azure-edition"
  }
}

variable "package" {
  type        = string
  default     = "dist/azp-bootstrap_0.0.0_amd64.deb"
  description = "The daemon's package for Linux."
}

variable "program" {
  type        = string
  default     = "dist/azp-bootstrap_0.0.0_windows_amd64.zip"
  description = "The daemon's package for Windows."
}

variable "config" {
  type        = string
  default     = "packer/config.yaml"
  description = "The configuration that goes into the image; it holds no secret."
}

variable "daemon_version" {
  type    = string
  default = "0.0.0"
}

variable "agent_version" {
  type    = string
  default = "unpinned"
}

locals {
  tags = {
    "azp-bootstrap"         = var.daemon_version
    "azure-pipelines-agent" = var.agent_version
  }
}

source "azure-arm" "linux" {
  subscription_id    = var.subscription_id
  tenant_id          = var.tenant_id
  client_id          = var.client_id
  client_jwt         = var.client_jwt
  use_azure_cli_auth = var.use_azure_cli

  location        = var.location
  vm_size         = var.vm_size
  os_type         = "Linux"
  image_publisher = var.linux_source.publisher
  image_offer     = var.linux_source.offer
  image_sku       = var.linux_source.sku
  azure_tags      = local.tags
  ssh_username    = "packer"

  managed_image_name                = "azp-linux-${var.image_version}"
  managed_image_resource_group_name = var.gallery.resource_group
  shared_image_gallery_destination {
    subscription        = var.subscription_id
    resource_group      = var.gallery.resource_group
    gallery_name        = var.gallery.name
    image_name          = var.gallery.linux_image
    image_version       = var.image_version
    replication_regions = var.replication_regions
  }
}

source "azure-arm" "windows" {
  subscription_id    = var.subscription_id
  tenant_id          = var.tenant_id
  client_id          = var.client_id
  client_jwt         = var.client_jwt
  use_azure_cli_auth = var.use_azure_cli

  location        = var.location
  vm_size         = var.vm_size
  os_type         = "Windows"
  image_publisher = var.windows_source.publisher
  image_offer     = var.windows_source.offer
  image_sku       = var.windows_source.sku
  azure_tags      = local.tags
  communicator    = "winrm"
  winrm_username  = "packer"
  winrm_use_ssl   = true
  winrm_insecure  = true # Packer's own certificate for this one VM
  winrm_timeout   = "10m"

  managed_image_name                = "azp-windows-${var.image_version}"
  managed_image_resource_group_name = var.gallery.resource_group
  shared_image_gallery_destination {
    subscription        = var.subscription_id
    resource_group      = var.gallery.resource_group
    gallery_name        = var.gallery.name
    image_name          = var.gallery.windows_image
    image_version       = var.image_version
    replication_regions = var.replication_regions
  }
}

build {
  sources = ["source.azure-arm.linux"]

  provisioner "file" {
    sources     = [var.package, var.config, "packer/agent.lock"]
    destination = "/tmp/"
  }
  provisioner "shell" {
    execute_command = "chmod +x {{ .Path }}; sudo env {{ .Vars }} {{ .Path }}"
    scripts         = ["scripts/image/provision.sh", "scripts/image/generalize.sh"]
  }
}

build {
  sources = ["source.azure-arm.windows"]

  provisioner "file" {
    sources     = [var.program, var.config, "packer/agent.lock"]
    destination = "C:/Windows/Temp/"
  }
  provisioner "powershell" {
    scripts = ["scripts/image/provision.ps1", "scripts/image/generalize.ps1"]
  }
}
