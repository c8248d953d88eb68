FROM alpine
ARG TOKEN
RUN ["/bin/tool", "--flag"]
RUN --network=none ["/bin/tool"]
RUN ["not json]
RUN <<EOF
#!/usr/bin/env python3
print(1)
EOF
RUN <<-EOF
	#!/bin/sh
	true
EOF
