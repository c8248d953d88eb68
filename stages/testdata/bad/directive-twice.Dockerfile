# escape=\
# escape=\
FROM alpine
