# escape=`
# check=skip=JSONArgsRecommended
FROM mcr.microsoft.com/windows/nanoserver:ltsc2022 AS win
RUN echo one && `
    echo two
COPY src C:\src\
WORKDIR C:\src
FROM win
CMD dir C:\
