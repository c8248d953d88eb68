package main

import (
	"fmt"
	"strings"
)

// helpWidth is the number of columns that the help text keeps to.
const helpWidth = 100

const helpIntro = `Build an image as docker build does, with every stage cached in a registry.

Usage:
  docker-build-remote-cache [REGISTRY/]NAME[:TAG] [OPTION...] [PATH]

PATH is the directory of the build context, by default the current one. Options may stand before or
after the image. A build that succeeds pushes NAME:TAG, unless --push=false is given.

Examples:
  # Build the current directory from its cache, push the image and save the cache
  docker-build-remote-cache ghcr.io/acme/app:1.2

  # Another Dockerfile, stage and directory, an argument and a secret
  docker-build-remote-cache ghcr.io/acme/app -f build/Dockerfile --target server \
      --build-arg VERSION=1.2 --secret id=npm,env=NPM_TOKEN services/app

  # Show what would be read, built and saved
  docker-build-remote-cache ghcr.io/acme/app:1.2 --dry-run
`

const helpEnd = `
  The engine is found as docker finds it: BUILDKIT_HOST, DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG;
  DOCKER_BUILDKIT=0 asks for the classic builder. SOURCE_DATE_EPOCH becomes a build argument.

Exit status:
  0         the image was built, and pushed if asked for
  1         the build failed
  64        the command line is wrong
  130, 143  the build was interrupted, or terminated
  The state of the cache never changes it.

Other commands, each with a --help: save, after a build that was killed; proxies, which runs
caching proxies for --proxy.

An image called %s is written with a tag, as in save:latest.
Documentation: https://github.com/docker-build-remote-cache/docker-build-remote-cache
`

// helpText is what --help prints on standard output.
func helpText() string {
	p := newParser(func(string) (string, bool) { return "", false })
	ours, docker := p.ownOptions(), p.dockerOptions()
	var b strings.Builder
	b.WriteString(helpIntro)
	b.WriteString("\nOptions of the cache:\n")
	b.WriteString(flagSet(ours).FlagUsagesWrapped(helpWidth))
	b.WriteString("\nOptions of docker build and docker buildx build:\n")
	b.WriteString(flagSet(docker).FlagUsagesWrapped(helpWidth))
	b.WriteString("\nEnvironment, read where the option is not given:\n")
	for _, o := range append(ours, docker...) {
		if o.env != "" {
			fmt.Fprintf(&b, "  %-*s--%s\n", len(ownPrefix)+20, o.env, o.name)
		}
	}
	fmt.Fprintf(&b, helpEnd, orList(reservedVerbs))
	return b.String()
}
