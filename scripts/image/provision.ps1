# Runs as administrator on the machine that becomes the image: installs the daemon, its configuration and the
# agent that the lock file pins. Packer puts the files into C:\Windows\Temp.
$ErrorActionPreference = 'Stop'
$from = 'C:\Windows\Temp'
$program = Join-Path $env:ProgramFiles 'azp-bootstrap'
$data = Join-Path $env:ProgramData 'azp-bootstrap'
function Invoke-Checked { & $args[0] $args[1..($args.Count - 1)]; if ($LASTEXITCODE -ne 0) { throw "$($args -join ' ') ended with $LASTEXITCODE" } }

New-Item -ItemType Directory -Force -Path $program, $data | Out-Null
Copy-Item (Join-Path $from 'azp-bootstrap.exe') $program
Copy-Item (Join-Path $from 'config.yaml') $data
# Whoever can change the configuration can send the PAT elsewhere: administrators and the system only.
Invoke-Checked icacls $data /inheritance:r /grant '*S-1-5-32-544:(OI)(CI)F' /grant '*S-1-5-18:(OI)(CI)F'
$exe = Join-Path $program 'azp-bootstrap.exe'
Invoke-Checked $exe config check
Invoke-Checked $exe prepare --lock (Join-Path $from 'agent.lock')
Invoke-Checked $exe install
Remove-Item (Join-Path $from 'azp-bootstrap.exe'), (Join-Path $from 'config.yaml'), (Join-Path $from 'agent.lock')
