package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker-build-remote-cache/docker-build-remote-cache/proxies"
	"github.com/moby/buildkit/util/suggest"
	"github.com/pelletier/go-toml/v2"
)

// systemConfig is where an organisation puts what holds for a whole machine.
const systemConfig = "/etc/" + program + "/config.toml"

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 64 << 10

// configFile is what can stand in a configuration file.
type configFile struct {
	// Proxy has a tool's URL or none by the tool's name; all = "none" is
	// --proxy none.
	Proxy map[string]string `toml:"proxy"`
}

// readConfig adds to the options what configuration files say and neither an
// option nor a variable does. Given by --config it is the only one; else that
// of the user comes before that of the machine.
func (s surroundings) readConfig(o *options) error {
	files, must := []string{s.userConfig(), systemConfig}, false
	if o.config != "" {
		files, must = []string{o.config}, true
	}
	for _, name := range files {
		if name == "" {
			continue
		}
		settings, err := readConfigFile(name)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !must:
		case err != nil:
			return usagef("a configuration file is described in docs/proxies.md", "read %s: %v", name, err)
		default:
			o.proxies = o.proxies.Under(settings)
		}
	}
	return nil
}

// userConfig is the user's own file, "" where there is no home directory
// (specifications.freedesktop.org/basedir-spec).
func (s surroundings) userConfig() string {
	dir := s.getenv("XDG_CONFIG_HOME")
	if dir == "" && s.getenv("HOME") != "" {
		dir = filepath.Join(s.getenv("HOME"), ".config")
	}
	if !filepath.IsAbs(dir) {
		return ""
	}
	return filepath.Join(dir, program, "config.toml")
}

func readConfigFile(name string) (proxies.Settings, error) {
	file, err := os.Open(name)
	if err != nil {
		return proxies.Settings{}, errors.Unwrap(err) // without the name, which is told already
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxConfig+1))
	if err != nil {
		return proxies.Settings{}, err
	}
	return parseConfig(text)
}

// parseConfig reads a configuration file strictly. Errors repeat no value, as
// one may hold a password.
func parseConfig(text []byte) (proxies.Settings, error) {
	var settings proxies.Settings
	if len(text) > maxConfig {
		return settings, fmt.Errorf("it is larger than %d bytes", maxConfig)
	}
	var c configFile
	decoder := toml.NewDecoder(strings.NewReader(string(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return settings, configError(err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Proxy)) {
		value := c.Proxy[name]
		var err error
		switch {
		case name != "all":
			err = settings.SetTool(name, value)
		case value == "none":
			settings.AsWritten = true
		default:
			err = errors.New(`proxy.all can only be "none"`)
		}
		if err != nil {
			return proxies.Settings{}, err
		}
	}
	return settings, nil
}

func configError(err error) error {
	var unknown *toml.StrictMissingError
	var wrong *toml.DecodeError
	switch {
	case errors.As(err, &unknown) && len(unknown.Errors) > 0:
		key := strings.Join(unknown.Errors[0].Key(), ".")
		line, _ := unknown.Errors[0].Position()
		message := fmt.Sprintf("line %d: unknown key %s", line, key)
		if nearest, ok := suggest.Search(key, []string{"proxy"}, false); ok {
			message += ", did you mean " + nearest + "?"
		}
		return errors.New(message)
	case errors.As(err, &wrong):
		line, _ := wrong.Position()
		return fmt.Errorf("line %d is not as TOML and docs/proxies.md have it", line)
	}
	return errors.New("it is no TOML")
}
