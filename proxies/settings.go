package proxies

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/buildkit/util/suggest"
)

// none is the value that turns a proxy, or all of this, off.
const none = "none"

// Settings are the proxies that one source names, the zero value for none.
type Settings struct {
	// AsWritten leaves every step as it is written ("none").
	AsWritten bool
	// Proxies by tool; nil is a tool that goes direct whatever a source says
	// that comes after this one.
	Proxies map[Tool]*Address
}

// Set adds what people write as one --proxy: none, or TOOL=URL, TOOL=none. The
// last for a tool counts. Errors do not repeat the URL.
func (s *Settings) Set(text string) error {
	if text == none {
		s.AsWritten = true
		return nil
	}
	name, value, ok := strings.Cut(text, "=")
	if !ok || !word.MatchString(name) {
		return errors.New("it is neither TOOL=URL nor none")
	}
	return s.SetTool(name, value)
}

// SetTool adds a tool's proxy by its URL, or none.
func (s *Settings) SetTool(name, value string) error {
	tool := Tool(name)
	if !slices.Contains(Tools(), tool) {
		return unknownTool(name)
	}
	if s.Proxies == nil {
		s.Proxies = map[Tool]*Address{}
	}
	if value == none {
		s.Proxies[tool] = nil
		return nil
	}
	a, err := ParseAddress(value)
	if err != nil {
		return fmt.Errorf("%s: %w", tool, err)
	}
	if tool == Cargo && a.url.User != nil {
		return fmt.Errorf("%s: cargo takes no password in a URL", tool)
	}
	if tool == Docker && (a.url.User != nil || strings.Trim(a.url.Path, "/") != "") {
		return fmt.Errorf("%s: a registry's mirror is a host and a port alone; docker login keeps its password", tool)
	}
	s.Proxies[tool] = &a
	return nil
}

// word is what may be the name of a tool, and not a part of a URL.
var word = regexp.MustCompile(`^[A-Za-z-]{1,20}$`)

func unknownTool(name string) error {
	var names []string
	for _, tool := range Tools() {
		names = append(names, string(tool))
	}
	if nearest, ok := suggest.Search(name, names, false); ok {
		return fmt.Errorf("there is no proxy for %q, did you mean %s?", name, nearest)
	}
	return fmt.Errorf("there is no proxy for %q", name)
}

// Under gives the settings with what a source of less weight adds.
func (s Settings) Under(lesser Settings) Settings {
	joined := Settings{AsWritten: s.AsWritten || lesser.AsWritten && len(s.Proxies) == 0, Proxies: map[Tool]*Address{}}
	for _, from := range []Settings{lesser, s} {
		for tool, a := range from.Proxies {
			joined.Proxies[tool] = a
		}
	}
	return joined
}

// Of is the proxy for a tool.
func (s Settings) Of(tool Tool) (Address, bool) {
	if a := s.Proxies[tool]; a != nil && !s.AsWritten {
		return *a, true
	}
	return Address{}, false
}
