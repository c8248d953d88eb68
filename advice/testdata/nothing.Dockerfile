FROM alpine AS a
RUN apk add --no-cache curl
RUN echo npm ci > file
RUN $NPM ci
RUN ./npm.sh ci
RUN if [ -f x ; then
SHELL ["powershell", "-Command"]
RUN npm ci
