# Runs as administrator on the machine that becomes the image: installs the daemon, its configuration and the
# agent that the lock file pins. Packer puts the files into C:\Windows\Temp.
$ErrorActionPreference = 'Stop'
$from = 'C:\Windows\Temp'
$program = Join-Path $env:ProgramFiles 'azp-bootstrap'
$data = Join-Path $env:ProgramData 'azp-bootstrap'
function Invoke-Checked { & $args[0] $args[1..($args.Count - 1)]; if ($LASTEXITCODE -ne 0) { throw "$($args -join ' ') ended with $LASTEXITCODE" } }

New-Item -ItemType Directory -Force -Path $program, $data | Out-Null
$package = Get-Item (Join-Path $from 'azp-bootstrap_*_windows_*.zip')
Expand-Archive -Force $package.FullName $program
Copy-Item (Join-Path $from 'config.yaml') $data
$exe = Join-Path $program 'azp-bootstrap.exe'
# prepare keeps others from the configuration: whoever can change it can send the PAT elsewhere.
Invoke-Checked $exe prepare --lock (Join-Path $from 'agent.lock')
Invoke-Checked $exe config check
Invoke-Checked $exe install
Remove-Item $package, (Join-Path $from 'config.yaml'), (Join-Path $from 'agent.lock')
