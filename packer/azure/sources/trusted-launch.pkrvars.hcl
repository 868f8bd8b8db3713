# Built as a Trusted Launch VM: the image definition must have been made with --features SecurityType=TrustedLaunch.
security_type       = "TrustedLaunch"
secure_boot_enabled = true
vtpm_enabled        = true
