# The last step of a build: checked, then generalized by sysprep, as Azure wants it.
$ErrorActionPreference = 'Stop'
$exe = Join-Path $env:ProgramFiles 'azp-bootstrap\azp-bootstrap.exe'
& $exe seal
if ($LASTEXITCODE -ne 0) { throw "azp-bootstrap seal ended with $LASTEXITCODE" }
while ((Get-Service RdAgent).Status -ne 'Running' -or (Get-Service WindowsAzureGuestAgent).Status -ne 'Running') { Start-Sleep -Seconds 5 }
& "$env:SystemRoot\System32\Sysprep\Sysprep.exe" /oobe /generalize /quiet /quit /mode:vm
while ((Get-ItemProperty 'HKLM:\SOFTWARE\Microsoft\Windows\CurrentVersion\Setup\State').ImageState -ne 'IMAGE_STATE_GENERALIZE_RESEAL_TO_OOBE') { Start-Sleep -Seconds 10 }
