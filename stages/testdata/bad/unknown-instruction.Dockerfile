FROM alpine
RUN true

INSTALL curl
