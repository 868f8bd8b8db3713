# What goes in.

variable "package" {
  type        = string
  default     = "dist/azp-bootstrap_1.0.0_amd64.deb"
  description = "The daemon's package for Linux: .deb or .rpm, of the source's architecture."
  validation {
    condition     = can(regex("azp-bootstrap[_-][^/]*\\.(deb|rpm)$", var.package))
    error_message = "The package must be a file azp-bootstrap_VERSION_ARCH.deb or azp-bootstrap-VERSION.ARCH.rpm: make packages builds both into dist/."
  }
}

variable "program" {
  type        = string
  default     = "dist/azp-bootstrap_0.0.0_windows_amd64.zip"
  description = "The daemon's package for Windows."
  validation {
    condition     = can(regex("azp-bootstrap_[^/]*_windows_(amd64|arm64)\\.zip$", var.program))
    error_message = "The program must be azp-bootstrap_VERSION_windows_amd64.zip (or arm64): make packages builds it."
  }
}

variable "config" {
  type        = string
  default     = ""
  description = "The configuration that goes into the image; it holds no secret. By default packer/config.yaml."
}

variable "lock" {
  type        = string
  default     = ""
  description = "The agent that goes into the image. By default packer/agent.lock."
}

variable "daemon_version" {
  type        = string
  default     = "unknown"
  description = "For the tag azp-bootstrap of the image version."
}

variable "agent_version" {
  type        = string
  default     = "unknown"
  description = "For the tag azure-pipelines-agent of the image version."
}

# How Packer signs in.

variable "sign_in" {
  type        = string
  default     = "cli"
  description = <<-EOT
    cli: as `az login` did, on your machine or in an AzureCLI task.
    identity: by the managed identity of the Azure VM that Packer runs on; client_id names one of several.
    oidc: as the app registration client_id of tenant_id, by the pipeline's own token, without a secret.
  EOT
  validation {
    condition     = contains(["cli", "identity", "oidc"], var.sign_in)
    error_message = "The value of sign_in must be cli, identity or oidc."
  }
}

variable "subscription_id" {
  type        = string
  description = "The subscription of the build and of the gallery."
  validation {
    condition     = can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", var.subscription_id))
    error_message = "The subscription_id must be a GUID: az account show --query id --output tsv prints it."
  }
}

variable "tenant_id" {
  type        = string
  default     = ""
  description = "With oidc. The plugin looks it up where it is not given; cli and identity have theirs."
  validation {
    condition     = can(regex("^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$", var.tenant_id))
    error_message = "The tenant_id must be a GUID, or empty: az account show --query tenantId --output tsv prints it."
  }
}

variable "client_id" {
  type        = string
  default     = ""
  description = "With oidc: the app registration. With identity: the client ID of a user-assigned identity."
  validation {
    condition     = can(regex("^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})?$", var.client_id))
    error_message = "The client_id must be a GUID (the application ID, not the object ID), or empty."
  }
}

# Azure Pipelines: the idToken of an AzureCLI task with addSpnToEnvironment. PKR_VAR_client_jwt keeps it out of
# process lists.
variable "client_jwt" {
  type      = string
  default   = ""
  sensitive = true
}

# GitHub Actions sets these two for a job with the permission id-token: write.
variable "oidc_request_url" {
  type    = string
  default = env("ACTIONS_ID_TOKEN_REQUEST_URL")
}

variable "oidc_request_token" {
  type      = string
  default   = env("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
  sensitive = true
}

# Where it goes: a gallery and its image definitions, which are made once (docs/image-guide.md).

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
  validation {
    condition     = can(regex("^[A-Za-z0-9]([A-Za-z0-9_.]{0,78}[A-Za-z0-9])?$", var.gallery.name))
    error_message = "The name of a gallery has up to 80 letters, digits, dots and underscores, no hyphens, and a letter or digit at both ends."
  }
  validation {
    condition     = length([for name in [var.gallery.linux_image, var.gallery.windows_image] : name if can(regex("^[A-Za-z0-9]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9])?$", name)) == false]) == 0
    error_message = "The name of an image definition has up to 80 letters, digits, dots, hyphens and underscores, and a letter or digit at both ends."
  }
  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9_().-]{0,89}$", var.gallery.resource_group)) && can(regex("[.-]$", var.gallery.resource_group)) == false
    error_message = "The name of a resource group has up to 90 letters, digits, dots, hyphens, underscores and parentheses, and no dot or hyphen at its end."
  }
}

variable "image_version" {
  type        = string
  default     = "1.0.0"
  description = "One that the image definition does not have yet: Azure refuses to write a version again."
  validation {
    condition     = can(regex("^[0-9]{1,9}\\.[0-9]{1,9}\\.[0-9]{1,9}$", var.image_version))
    error_message = "The image_version must be three numbers, such as 1.4.0 or 2026.1128.1: Azure takes no v in front and no -rc1 behind."
  }
}

variable "exclude_from_latest" {
  type        = bool
  default     = false
  description = "Scale sets that ask for the latest version do not get this one until it is allowed."
}

variable "target_regions" {
  type        = map(number)
  default     = {}
  description = "Regions that get the version, with their number of replicas: {northeurope = 2}. The region of the build is always among them, with one."
  validation {
    condition     = length([for region, replicas in var.target_regions : region if can(regex("^[a-z0-9]+$", region)) == false || replicas < 1 || replicas > 100]) == 0
    error_message = "The target_regions are region names as in az account list-locations (northeurope, not North Europe), each with 1 to 100 replicas."
  }
}

variable "storage_account_type" {
  type        = string
  default     = "Standard_LRS"
  description = "Where the replicas lie. Standard_ZRS outlasts a zone."
  validation {
    condition     = contains(["Standard_LRS", "Standard_ZRS", "Premium_LRS"], var.storage_account_type)
    error_message = "The storage_account_type must be Standard_LRS, Standard_ZRS or Premium_LRS."
  }
}

# What it is made of. Generation 2 sources, for Trusted Launch. Files in sources/ have others.

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

variable "linux_plan" {
  type = object({
    name      = string
    product   = string
    publisher = string
  })
  default = {
    name      = ""
    product   = ""
    publisher = ""
  }
  description = "For sources of the marketplace that are bought with a plan; the scale set must name it as well."
}

# The machine that builds.

variable "location" {
  type        = string
  default     = "westeurope"
  description = "Where the build runs; with build_resource_group_name, where that group is."
  validation {
    condition     = can(regex("^[a-z0-9]+$", var.location))
    error_message = "The location is a region name as in az account list-locations: westeurope, not West Europe."
  }
}

variable "vm_size" {
  type        = string
  default     = "Standard_D2s_v5"
  description = "For arm64 one of its sizes, such as Standard_D2ps_v5."
}

variable "build_resource_group_name" {
  type        = string
  default     = ""
  description = "An existing group to build in, for who may not make groups. By default one is made, and deleted afterwards."
  validation {
    condition     = can(regex("^([A-Za-z0-9][A-Za-z0-9_().-]{0,89})?$", var.build_resource_group_name)) && can(regex("[.-]$", var.build_resource_group_name)) == false
    error_message = "The build_resource_group_name has up to 90 letters, digits, dots, hyphens, underscores and parentheses, and no dot or hyphen at its end."
  }
}

variable "virtual_network" {
  type = object({
    resource_group = string
    name           = string
    subnet         = string
    public_ip      = bool
  })
  default = {
    resource_group = ""
    name           = ""
    subnet         = ""
    public_ip      = false
  }
  description = "An existing network. Without public_ip Packer must run where it reaches the subnet."
  validation {
    condition     = (var.virtual_network.name == "") == (var.virtual_network.resource_group == "") && (var.virtual_network.name == "") == (var.virtual_network.subnet == "")
    error_message = "The virtual_network needs its name, its resource_group and its subnet, or none of them."
  }
}

variable "spot" {
  type        = bool
  default     = false
  description = "Build on a spot VM, for some fifth of the price. A build that is evicted fails."
}

variable "identities" {
  type        = list(string)
  default     = []
  description = "Resource IDs of user-assigned identities for the machine that builds, if a script of yours needs one. The daemon needs none."
  validation {
    condition     = length([for id in var.identities : id if can(regex("(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft.ManagedIdentity/userAssignedIdentities/[^/]+$", id)) == false]) == 0
    error_message = "The identities are resource IDs, not client IDs: az identity show --query id --output tsv prints one."
  }
}

# Trusted Launch and confidential VMs. An image that is captured from such a VM needs an image definition with
# the feature SecurityType=TrustedLaunch (or ConfidentialVM). One that is captured from a plain generation 2 VM, as
# by default, into a definition with TrustedLaunchSupported runs with Trusted Launch and without.

variable "security_type" {
  type        = string
  default     = ""
  description = "TrustedLaunch or ConfidentialVM; empty for neither."
  validation {
    condition     = contains(["", "TrustedLaunch", "ConfidentialVM"], var.security_type)
    error_message = "The security_type must be TrustedLaunch or ConfidentialVM, or empty."
  }
}

variable "secure_boot_enabled" {
  type        = bool
  default     = false
  description = "With a security_type."
}

variable "vtpm_enabled" {
  type        = bool
  default     = false
  description = "With a security_type, which needs it."
}

variable "security_encryption_type" {
  type        = string
  default     = ""
  description = "With ConfidentialVM: VMGuestStateOnly or DiskWithVMGuestState."
  validation {
    condition     = contains(["", "VMGuestStateOnly", "DiskWithVMGuestState"], var.security_encryption_type)
    error_message = "The security_encryption_type must be VMGuestStateOnly or DiskWithVMGuestState, or empty."
  }
}
