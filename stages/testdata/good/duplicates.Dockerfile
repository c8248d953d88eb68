FROM alpine AS x
RUN echo first
FROM x AS y
RUN echo based on the first
FROM debian AS X
RUN echo second
FROM x AS z
COPY --from=X / /second
FROM alpine
COPY --from=x / /second
COPY --from=0 / /first
