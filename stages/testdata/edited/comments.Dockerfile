FROM debian
RUN apt-get update \
# a comment with \
    # another one
 && apt-get install \
      curl `# the client` \
      jq

  RUN	true
RUN true\
 && false
