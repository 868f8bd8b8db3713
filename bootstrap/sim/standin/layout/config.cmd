@echo off
rem Stand-in for the agent's config.cmd: no code of the original.
setlocal
cd /d "%~dp0"
if /i "%~1" equ "remove" (
    "%~dp0bin\Agent.Listener.exe" %*
) else (
    "%~dp0bin\Agent.Listener.exe" configure %*
)
exit /b %ERRORLEVEL%
