package proxies

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// MaxAddress bounds an address, in bytes.
const MaxAddress = 2048

// Address is the URL of a proxy. It may hold a password: people are shown
// String, package managers get URL.
type Address struct{ url url.URL }

// harmless are the characters of a URL that mean nothing to any of the formats
// that it is written in, quoted or not. Others are percent-encoded by people.
var harmless = regexp.MustCompile(`^[A-Za-z0-9._~:/@%+=*\[\]-]+$`)

// ParseAddress reads a URL. Errors do not repeat it, as it may hold a
// password.
func ParseAddress(text string) (Address, error) {
	if len(text) > MaxAddress {
		return Address{}, fmt.Errorf("the URL is longer than %d bytes", MaxAddress)
	}
	if !harmless.MatchString(text) {
		return Address{}, errors.New("the URL is empty or has characters that have to be percent-encoded")
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return Address{}, errors.New("it is no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return Address{}, errors.New("the URL does not begin with http:// or https://")
	case u.Hostname() == "":
		return Address{}, errors.New("the URL names no host")
	}
	return Address{*u}, nil
}

// URL is the whole address, with a password if it has one.
func (a Address) URL() string { return a.url.String() }

// String is the address for people, without user and password.
func (a Address) String() string {
	shown := a.url
	if shown.User != nil {
		shown.User = url.User("xxxxx")
	}
	return shown.String()
}

// GoString keeps passwords from the output of %#v.
func (a Address) GoString() string { return a.String() }

// Root is the address of the server itself, without a path or a password.
func (a Address) Root() string {
	return (&url.URL{Scheme: a.url.Scheme, Host: a.url.Host, Path: "/"}).String()
}

// Password is the password in the address, "" for none.
func (a Address) Password() string {
	password, _ := a.url.User.Password()
	return password
}

// hostNames mean the machine that they are said on.
var hostNames = []string{"localhost", "host.docker.internal", "host.containers.internal"}

// OnHost tells whether the address means the machine that runs the engine: a
// step that has a network of its own reaches it by another address.
func (a Address) OnHost() bool {
	if slices.Contains(hostNames, strings.ToLower(a.url.Hostname())) {
		return true
	}
	ip, err := netip.ParseAddr(a.url.Hostname())
	return err == nil && ip.IsLoopback()
}

// At is the address with another host and the same port.
func (a Address) At(host string) Address {
	moved := a
	switch port := a.url.Port(); {
	case port != "":
		moved.url.Host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		moved.url.Host = "[" + host + "]"
	default:
		moved.url.Host = host
	}
	return moved
}

// base is the URL without a slash at its end.
func (a Address) base() string { return strings.TrimRight(a.URL(), "/") }

// bare is base without user and password, and they apart.
func (a Address) bare() (base, user, password string) {
	user = a.url.User.Username()
	password = a.Password()
	bare := a
	bare.url.User = nil
	return bare.base(), user, password
}

// Host is the host and the port, as in the name of an image.
func (a Address) Host() string { return a.url.Host }
