# Windows Server 2025.
windows_source = {
  publisher = "MicrosoftWindowsServer"
  offer     = "WindowsServer"
  sku       = "2025-datacenter-azure-edition"
}
