package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/cachehost"
)

// proxiesVerb stands in the image's place.
const proxiesVerb = "proxies"

// composeLimit bounds docker compose, which may have to pull images.
const composeLimit = 15 * time.Minute

const proxiesIntro = `Run caching proxies for package managers and for Docker Hub on this machine.

Usage:
  docker-build-remote-cache proxies up [--listen ADDRESS]   # start them, and print the --proxy options
  docker-build-remote-cache proxies status                  # list them
  docker-build-remote-cache proxies down [--volumes]        # stop them; --volumes deletes what they keep
  docker-build-remote-cache proxies print                   # print the Compose file, for a server of its own

Options:
`

type proxiesOptions struct {
	action  string
	listen  string
	volumes bool
	help    bool
}

func (o *proxiesOptions) table() []option {
	return []option{
		{name: "listen", value: "ADDRESS", form: "an IP address", set: parsed(netip.ParseAddr, func(a netip.Addr) { o.listen = a.String() }),
			help: "Address to open the ports at: of this machine's containers alone by default, 0.0.0.0 for the whole network"},
		{name: "volumes", set: toggle(&o.volumes), help: "Delete what the proxies keep, too"},
		{name: "help", short: "h", set: toggle(&o.help), help: "Print this text and stop"},
	}
}

var proxiesActions = []string{"up", "status", "down", "print"}

// parseProxies reads the arguments after the verb.
func parseProxies(args []string) (*proxiesOptions, error) {
	o := &proxiesOptions{}
	known := o.table()
	flags := flagSet(known)
	if err := flags.Parse(args); err != nil {
		return nil, parseError(err, known)
	}
	if o.help {
		return o, nil
	}
	if len(flags.Args()) != 1 || !slices.Contains(proxiesActions, flags.Arg(0)) {
		return nil, usagef("an image called proxies is written with a tag: proxies:latest",
			"after proxies comes %s", orList(proxiesActions))
	}
	o.action = flags.Arg(0)
	switch {
	case o.listen != "" && o.action != "up":
		return nil, usagef("leave it out", "--listen goes with proxies up")
	case o.volumes && o.action != "down":
		return nil, usagef("leave it out", "--volumes goes with proxies down")
	}
	return o, nil
}

// composeError says that docker compose cannot be run here.
type composeError struct{ reason string }

func (e *composeError) Error() string { return "run the proxies: " + e.reason }

// runProxies is the verb.
func runProxies(ctx context.Context, s surroundings) int {
	o, err := parseProxies(s.args[1:])
	switch {
	case err != nil:
		return s.fail(err)
	case o.help:
		fmt.Fprint(s.stdout, proxiesIntro+flagSet(o.table()).FlagUsagesWrapped(helpWidth))
		return exitOK
	case o.action == "print":
		s.stdout.Write(cachehost.Compose)
		return exitOK
	}
	ctx, cancel := context.WithTimeoutCause(ctx, composeLimit, fmt.Errorf("docker compose has not ended within %v", composeLimit))
	defer cancel()
	if err := composeThere(ctx); err != nil {
		return s.fail(err)
	}
	var listen, host string
	switch o.action {
	case "up":
		listen, host = whereToListen(ctx, o.listen)
		err = s.compose(ctx, listen, "up", "--detach", "--wait", "--remove-orphans")
	case "status":
		err = s.compose(ctx, "", "ps", "--all")
	case "down":
		args := []string{"down", "--remove-orphans"}
		if o.volumes {
			args = append(args, "--volumes")
		}
		err = s.compose(ctx, "", args...)
	}
	if err != nil {
		return s.fail(err)
	}
	if o.action == "up" {
		for _, value := range cachehost.Proxies(host) {
			fmt.Fprintf(s.stdout, "--proxy %s\n", value)
		}
		s.talk(`an engine that is to use the mirror for all its pulls has in its daemon.json: "registry-mirrors": [%q]`, cachehost.Mirror(host))
	}
	return exitOK
}

func composeThere(ctx context.Context) error {
	if _, err := exec.LookPath("docker"); err != nil {
		return &composeError{"there is no docker on PATH"}
	}
	if err := exec.CommandContext(ctx, "docker", "compose", "version").Run(); err != nil {
		return &composeError{"docker has no compose plugin"}
	}
	return nil
}

// compose runs docker compose on the file that is built in, which it reads from
// standard input.
func (s surroundings) compose(ctx context.Context, listen string, args ...string) error {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"compose", "--file", "-"}, args...)...)
	cmd.Stdin = bytes.NewReader(cachehost.Compose)
	cmd.Stdout, cmd.Stderr = s.stderr, s.stderr
	if args[0] == "ps" {
		cmd.Stdout = s.stdout
	}
	if listen != "" {
		cmd.Env = append(cmd.Environ(), cachehost.ListenVariable+"="+listen)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("docker compose %s: %w", args[0], err)
	}
	return nil
}

// whereToListen is the address for the ports, and the host's name in --proxy.
// By default that is the address of Docker's bridge on this machine: steps
// reach it whatever network they have, and other machines do not. Where the
// engine's machine is another one, as with Docker Desktop, it is the name that
// containers have for this machine.
func whereToListen(ctx context.Context, given string) (listen, host string) {
	if given != "" {
		if a, err := netip.ParseAddr(given); err == nil && !a.IsUnspecified() {
			return given, given
		}
		name, err := os.Hostname()
		if err != nil {
			name = given
		}
		return given, name
	}
	out, err := exec.CommandContext(ctx, "docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}").Output()
	gateway := strings.TrimSpace(string(out))
	if err == nil && ownAddress(gateway) {
		return gateway, gateway
	}
	return "127.0.0.1", "host.docker.internal"
}

func ownAddress(address string) bool {
	addresses, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addresses, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		return ok && network.IP.String() == address
	})
}

// composeHint is the remedy for a machine without docker compose.
func composeHint(err error) string {
	var missing *composeError
	if !errors.As(err, &missing) {
		return ""
	}
	return "install it (docs.docker.com/compose/install), or take the file elsewhere: " + program + " " + proxiesVerb + " print >compose.yaml"
}
