// Package cachehost has the caching proxies that come with the tool: a Compose
// file of well-known servers, and the addresses by which builds use them. It
// starts nothing.
//
// No API stability is promised: the product is the command.
package cachehost

import (
	_ "embed" // for Compose
	"net"
	"strings"
)

// Compose is the file for docker compose. It can be deployed as it is; LISTEN
// in its environment is the address that its ports are open at.
//
//go:embed compose.yaml
var Compose []byte

// ListenVariable is the variable that Compose reads.
const ListenVariable = "LISTEN"

// server is where the proxy of a tool is.
type server struct{ tool, port, path string }

// servers in the order in which they are told; the tools are those of --proxy.
var servers = []server{
	{"apt", "3142", ""},
	{"pip", "3128", "/pypi/simple"},
	{"npm", "4873", ""},
	{"gem", "3128", "/gem"},
	{"go", "3000", ""},
	{"maven", "3128", "/maven"},
	{"cargo", "3128", "/cargo"},
	{"docker", "5050", ""},
}

// Proxies are the values of --proxy for servers on a host.
func Proxies(host string) []string {
	var values []string
	for _, s := range servers {
		values = append(values, s.tool+"=http://"+net.JoinHostPort(host, s.port)+s.path)
	}
	return values
}

// Mirror is the address of the mirror of Docker Hub on a host, as the
// registry-mirrors of an engine's configuration take it.
func Mirror(host string) string {
	for _, value := range Proxies(host) {
		if address, ok := strings.CutPrefix(value, "docker="); ok {
			return address
		}
	}
	return ""
}
