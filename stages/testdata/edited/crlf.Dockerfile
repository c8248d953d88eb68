FROM alpine
ARG TOKEN
RUN a \
  # c
  && b
RUN <<E
cd /
E
