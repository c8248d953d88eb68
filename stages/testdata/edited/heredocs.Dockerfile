FROM alpine
ARG TOKEN
RUN <<EOF
set -e
RUN=not-an-instruction
apk add curl
EOF
RUN <<-'TABS'
	echo "$HOME"
	TABS
RUN --mount=type=tmpfs,target=/t <<EOF

# after an empty line
EOF
RUN cat <<A > /a && cat <<B > /b
of a
A
of b
B
RUN python3 <<PY
print("ARG TOKEN")
PY
RUN <<EOF
EOF
COPY <<file /etc/file
RUN in a file
file
