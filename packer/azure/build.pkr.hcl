# The builds, and in their sources what only plugin 2 knows: how an image goes straight to the gallery, Trusted
# Launch, and the token of GitHub Actions.

locals {
  # The region of the build must be among them.
  regions = merge({ (var.location) = 1 }, var.target_regions)
  # A gallery keeps confidential images encrypted as their VMs will be.
  encryption = {
    ""                     = null
    "VMGuestStateOnly"     = "EncryptedVMGuestStateOnlyWithPmk"
    "DiskWithVMGuestState" = "EncryptedWithPmk"
  }
  config = var.config != "" ? var.config : "${path.root}/../config.yaml"
  lock   = var.lock != "" ? var.lock : "${path.root}/../agent.lock"
}

build {
  source "azure-arm.linux" {
    oidc_request_url   = local.oidc ? var.oidc_request_url : null
    oidc_request_token = local.oidc ? var.oidc_request_token : null

    security_type            = var.security_type != "" ? var.security_type : null
    secure_boot_enabled      = var.secure_boot_enabled
    vtpm_enabled             = var.vtpm_enabled
    security_encryption_type = var.security_encryption_type != "" ? var.security_encryption_type : null

    shared_image_gallery_destination {
      subscription         = var.subscription_id
      resource_group       = var.gallery.resource_group
      gallery_name         = var.gallery.name
      image_name           = var.gallery.linux_image
      image_version        = var.image_version
      storage_account_type = var.storage_account_type
      dynamic "target_region" {
        for_each = local.regions
        content {
          name     = target_region.key
          replicas = target_region.value
        }
      }
      confidential_vm_image_encryption_type = local.encryption[var.security_encryption_type]
    }
  }

  provisioner "file" {
    source      = var.package
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

build {
  source "azure-arm.windows" {
    oidc_request_url   = local.oidc ? var.oidc_request_url : null
    oidc_request_token = local.oidc ? var.oidc_request_token : null

    security_type            = var.security_type != "" ? var.security_type : null
    secure_boot_enabled      = var.secure_boot_enabled
    vtpm_enabled             = var.vtpm_enabled
    security_encryption_type = var.security_encryption_type != "" ? var.security_encryption_type : null

    shared_image_gallery_destination {
      subscription         = var.subscription_id
      resource_group       = var.gallery.resource_group
      gallery_name         = var.gallery.name
      image_name           = var.gallery.windows_image
      image_version        = var.image_version
      storage_account_type = var.storage_account_type
      dynamic "target_region" {
        for_each = local.regions
        content {
          name     = target_region.key
          replicas = target_region.value
        }
      }
      confidential_vm_image_encryption_type = local.encryption[var.security_encryption_type]
    }
  }

  provisioner "file" {
    source      = var.program
    destination = "C:/Windows/Temp/${basename(var.program)}"
  }
  provisioner "file" {
    source      = local.config
    destination = "C:/Windows/Temp/config.yaml"
  }
  provisioner "file" {
    source      = local.lock
    destination = "C:/Windows/Temp/agent.lock"
  }
  provisioner "powershell" {
    scripts = ["${path.root}/../../scripts/image/provision.ps1", "${path.root}/../../scripts/image/generalize.ps1"]
  }
}
