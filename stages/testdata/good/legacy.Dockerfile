FROM ubuntu
MAINTAINER someone <someone@example.com>
ENV LANG C.UTF-8
VOLUME /data
STOPSIGNAL SIGINT
SHELL ["/bin/bash", "-c"]
RUN echo a     very	long            line that goes on and on and on and on and on and on and on and on and on and on and on and on
ADD app.tar.gz /
