# A scale set whose VMs join Azure Pipelines by themselves. See README.md here.
terraform {
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 4.5, < 6" # 4.0 to 4.4 refuse ed25519 keys
    }
    azapi = { # for imds_profile alone
      source  = "Azure/azapi"
      version = "~> 2.0"
    }
  }
}

provider "azurerm" {
  subscription_id = var.subscription_id
  features {}
}

variable "subscription_id" { type = string }
variable "resource_group" { type = string }
variable "location" { type = string }
variable "image_id" { type = string } # of a gallery image version, or of the definition for the latest
variable "subnet_id" { type = string }
variable "vault_name" { type = string } # of a vault in this resource group that holds the secret
variable "ssh_key" { type = string }

variable "name" {
  type    = string
  default = "web"
}

# Each VM takes one job of the pool Default and boots anew from its image: one-job-one-vm.md.
variable "one_job" {
  type    = bool
  default = false
}

variable "secret_name" {
  type    = string
  default = "azp-pat"
}

# Metadata Security Protocol: the version of an inVMAccessControlProfile; "" = off. See README.md here.
variable "imds_profile" {
  type    = string
  default = ""
}

resource "azurerm_user_assigned_identity" "agents" {
  name                = "${var.name}-agents"
  resource_group_name = var.resource_group
  location            = var.location
}

data "azurerm_key_vault" "vault" {
  name                = var.vault_name
  resource_group_name = var.resource_group
}

# On this one secret. Its value is not read here: it would stand in Terraform's state.
resource "azurerm_role_assignment" "may_read" {
  scope                = "${data.azurerm_key_vault.vault.id}/secrets/${var.secret_name}"
  role_definition_name = "Key Vault Secrets User"
  principal_id         = azurerm_user_assigned_identity.agents.principal_id
  principal_type       = "ServicePrincipal"
}

resource "azurerm_linux_virtual_machine_scale_set" "agents" {
  name                = var.name
  resource_group_name = var.resource_group
  location            = var.location
  sku                 = "Standard_D2s_v5"
  instances           = 2
  source_image_id     = var.image_id
  overprovision       = false # a VM that is made only to be deleted would register for nothing
  secure_boot_enabled = true
  vtpm_enabled        = true
  admin_username      = "azureuser"
  depends_on          = [azurerm_role_assignment.may_read]

  # What this scale set joins (sources.userData must be on in the image's configuration).
  user_data = base64encode(var.one_job ? yamlencode({
    "azp-bootstrap" = { target = { pool = { name = "Default" } } }
    }) : yamlencode({
    "azp-bootstrap" = { target = { environment = { project = "Shop", name = "production", tags = ["web"] } } }
  }))

  # User data may not say that a VM leaves: whoever may write tags or user data must not end VMs. Custom data, for cloud-init:
  custom_data = var.one_job ? base64encode(<<-END
    #cloud-config
    write_files:
      - path: /etc/azp-bootstrap/conf.d/50-one-job.yaml
        content: |
          retire: {jobs: 1, then: reimage}
  END
  ) : null

  admin_ssh_key {
    username   = "azureuser"
    public_key = var.ssh_key
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.agents.id]
  }

  os_disk {
    caching              = "ReadWrite"
    storage_account_type = "Premium_LRS"
  }

  network_interface {
    name    = "nic"
    primary = true
    ip_configuration {
      name      = "ip"
      primary   = true
      subnet_id = var.subnet_id
    }
  }

  # A running job is waited for up to this, less 15 s, and up to drain.timeout.
  termination_notification {
    enabled = true
    timeout = "PT15M"
  }

  automatic_instance_repair {
    enabled      = true
    grace_period = "PT30M" # as health.grace
    action       = "Replace"
  }

  boot_diagnostics {} # the serial console shows each phase, and what failed

  extension {
    name                       = "health"
    publisher                  = "Microsoft.ManagedServices"
    type                       = "ApplicationHealthLinux"
    type_handler_version       = "2.0" # rich states
    auto_upgrade_minor_version = true
    settings = jsonencode({
      protocol          = "http"
      port              = 8484
      requestPath       = "/healthz"
      intervalInSeconds = 10
      numberOfProbes    = 6 # one probe that meets a daemon being upgraded is no reason for a repair
      gracePeriod       = 1800
    })
  }
}

# azurerm has no argument for it. VMs that are there already get it when they are upgraded to the latest model.
resource "azapi_update_resource" "metadata_security_protocol" {
  count       = var.imds_profile == "" ? 0 : 1
  type        = "Microsoft.Compute/virtualMachineScaleSets@2024-11-01"
  resource_id = azurerm_linux_virtual_machine_scale_set.agents.id
  body = {
    properties = {
      virtualMachineProfile = {
        securityProfile = {
          proxyAgentSettings = {
            enabled    = true
            imds       = { inVMAccessControlProfileReferenceId = var.imds_profile }
            wireServer = { mode = "Enforce" }
          }
        }
      }
    }
  }
}

# A VM may ask that a VM of this scale set is deleted or boots anew. Azure has no right for "this VM alone".
data "azurerm_resource_group" "agents" {
  name = var.resource_group
}

resource "azurerm_role_definition" "may_retire" {
  count       = var.one_job ? 1 : 0
  name        = "azp-bootstrap one job, one VM (${var.name})"
  description = "Delete and reimage VMs of a scale set"
  scope       = data.azurerm_resource_group.agents.id

  permissions {
    actions = [
      "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/delete",
      "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/reimage/action",
    ]
  }
}

resource "azurerm_role_assignment" "retires" {
  count              = var.one_job ? 1 : 0
  scope              = azurerm_linux_virtual_machine_scale_set.agents.id
  role_definition_id = azurerm_role_definition.may_retire[0].role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.agents.principal_id
  principal_type     = "ServicePrincipal"
}

output "client_id" {
  value = azurerm_user_assigned_identity.agents.client_id # credential.identity.clientId
}
