# An image with azp-bootstrap in an Azure Compute Gallery, for Linux and Windows.
#
#   make packages VERSION=1.0.0         # dist/azp-bootstrap_1.0.0_amd64.deb
#   scripts/pin-agent.sh VERSION        # packer/agent.lock
#   packer init packer/azure
#   packer build -only azure-arm.linux -var-file mine.pkrvars.hcl packer/azure
#
# docs/image-guide.md goes through it from zero. What plugin 1.4 knows stands here, the rest in build.pkr.hcl.

locals {
  tags = {
    "azp-bootstrap"         = var.daemon_version
    "azure-pipelines-agent" = var.agent_version
  }

  # The plugin takes the managed identity if it is told nothing else: no tenant, no token. With oidc and no token
  # it must refuse, not take the identity of the machine by accident: a tenant alone makes it say what is missing.
  oidc      = var.sign_in == "oidc"
  token     = var.client_jwt != "" || var.oidc_request_token != ""
  client_id = var.sign_in == "cli" || var.client_id == "" ? null : var.client_id
  tenant_id = local.oidc ? (local.token ? var.tenant_id : "no-token") : null

  network     = var.virtual_network.name != ""
  build_group = var.build_resource_group_name != ""
}

source "azure-arm" "linux" {
  use_azure_cli_auth = var.sign_in == "cli"
  subscription_id    = var.subscription_id
  tenant_id          = local.tenant_id
  client_id          = local.client_id
  client_jwt         = local.oidc ? var.client_jwt : null

  location                               = local.build_group ? null : var.location
  build_resource_group_name              = local.build_group ? var.build_resource_group_name : null
  virtual_network_name                   = local.network ? var.virtual_network.name : null
  virtual_network_resource_group_name    = local.network ? var.virtual_network.resource_group : null
  virtual_network_subnet_name            = local.network ? var.virtual_network.subnet : null
  private_virtual_network_with_public_ip = local.network && var.virtual_network.public_ip
  user_assigned_managed_identities       = var.identities
  spot {
    eviction_policy = var.spot ? "Delete" : null
  }

  vm_size         = var.vm_size
  os_type         = "Linux"
  image_publisher = var.linux_source.publisher
  image_offer     = var.linux_source.offer
  image_sku       = var.linux_source.sku
  azure_tags      = local.tags
  plan_info {
    plan_name      = var.linux_plan.name
    plan_product   = var.linux_plan.product
    plan_publisher = var.linux_plan.publisher
  }
  ssh_username = "packer"

  shared_gallery_image_version_exclude_from_latest = var.exclude_from_latest
}

source "azure-arm" "windows" {
  use_azure_cli_auth = var.sign_in == "cli"
  subscription_id    = var.subscription_id
  tenant_id          = local.tenant_id
  client_id          = local.client_id
  client_jwt         = local.oidc ? var.client_jwt : null

  location                               = local.build_group ? null : var.location
  build_resource_group_name              = local.build_group ? var.build_resource_group_name : null
  virtual_network_name                   = local.network ? var.virtual_network.name : null
  virtual_network_resource_group_name    = local.network ? var.virtual_network.resource_group : null
  virtual_network_subnet_name            = local.network ? var.virtual_network.subnet : null
  private_virtual_network_with_public_ip = local.network && var.virtual_network.public_ip
  user_assigned_managed_identities       = var.identities
  spot {
    eviction_policy = var.spot ? "Delete" : null
  }

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

  shared_gallery_image_version_exclude_from_latest = var.exclude_from_latest
}
