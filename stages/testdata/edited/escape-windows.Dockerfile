# escape=`
FROM mcr.microsoft.com/windows/servercore:ltsc2022
ARG FEED
SHELL ["powershell", "-Command", "$ErrorActionPreference = 'Stop';"]
RUN Invoke-WebRequest x -OutFile C:\x.zip; `
    Remove-Item C:\x.zip
RUN dir C:\
WORKDIR C:\src
