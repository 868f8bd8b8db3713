@echo off
rem Stand-in for the agent's run.cmd: the listener, in the foreground.
setlocal
cd /d "%~dp0"
"%~dp0bin\Agent.Listener.exe" run %*
exit /b %ERRORLEVEL%
