package proxies

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// Contents is the secret by which steps are given a proxy: the file that its
// package manager reads. Docker has none.
func Contents(tool Tool, a Address) ([]byte, bool) {
	m, ok := managerOf(tool)
	if !ok {
		return nil, false
	}
	return []byte(m.contents(a)), true
}

// aptConf leaves https alone: apt would ask the proxy for tunnels, which
// caches refuse (apt-transport-https(1)).
func aptConf(a Address) string {
	return fmt.Sprintf("Acquire::http::Proxy \"%s/\";\nAcquire::https::Proxy \"DIRECT\";\n", a.base())
}

// pipConf trusts a host without TLS, or pip would leave it out.
func pipConf(a Address) string {
	conf := fmt.Sprintf("[global]\nindex-url = %s/\ncache-dir = %s\n", a.base(), pipScratch)
	if a.url.Scheme == "http" {
		conf += fmt.Sprintf("trusted-host = %s\n", a.url.Hostname())
	}
	return conf
}

// npmrc keeps the address out of a lockfile that a step makes. A lockfile's own
// addresses of registry.npmjs.org lead to the proxy by npm's default of
// replace-registry-host. npm takes no password in a URL.
func npmrc(a Address) string {
	base, user, password := a.bare()
	conf := fmt.Sprintf("registry=%s/\nomit-lockfile-registry-resolved=true\ncache=%s\n", base, npmScratch)
	if user != "" {
		_, place, _ := strings.Cut(base, ":")
		conf += fmt.Sprintf("%s/:_auth=%s\n", place, base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
	}
	return conf
}

// gemDefaults sets a variable inside Ruby, where its name may have slashes:
// the mirror is of rubygems.org alone, and Bundler goes there itself when the
// mirror does not answer within some seconds (bundler.io/man/bundle-config.1.html).
func gemDefaults(a Address) string {
	return fmt.Sprintf(`mirror = '%[1]s/'
ENV['BUNDLE_MIRROR__HTTPS://RUBYGEMS__ORG/'] ||= mirror
ENV['BUNDLE_MIRROR__HTTPS://RUBYGEMS__ORG/__FALLBACK_TIMEOUT'] ||= '5'
ENV['BUNDLE_USER_CACHE'] ||= '%[2]s/bundle'
ENV['GEM_SPEC_CACHE'] ||= '%[2]s/specs'
Gem.singleton_class.send(:define_method, :default_sources) { [mirror] }
`, a.base(), gemScratch)
}

// goEnv is the toolchain's own file but for the proxy. After the bar, Go turns
// to the next on any error (go.dev/ref/mod#environment-variables).
func goEnv(a Address) string {
	return fmt.Sprintf("GOPROXY=%s|https://proxy.golang.org,direct\nGOSUMDB=sum.golang.org\nGOTOOLCHAIN=auto\n", a.base())
}

// mavenSettings keeps the mirror of Maven's own file, which blocks
// repositories without TLS; of the others only Central is led elsewhere. The
// mirror goes by Central's name, which is noted beside every artifact.
func mavenSettings(a Address) string {
	base, user, password := a.bare()
	server := ""
	if user != "" {
		server = fmt.Sprintf("<servers><server><id>central</id><username>%s</username><password>%s</password></server></servers>\n", xml(user), xml(password))
	}
	return `<?xml version="1.0" encoding="UTF-8"?>
<settings xmlns="http://maven.apache.org/SETTINGS/1.2.0">
` + server + `<mirrors>
<mirror><id>central</id><mirrorOf>central</mirrorOf><url>` + xml(base) + `</url></mirror>
<mirror><id>maven-default-http-blocker</id><mirrorOf>external:http:*</mirrorOf><name>Pseudo repository to mirror external repositories initially using HTTP.</name><url>http://0.0.0.0/</url><blocked>true</blocked></mirror>
</mirrors>
</settings>
`
}

var xml = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace

// cargoConfig replaces crates.io alone; Cargo.lock goes on to name it.
func cargoConfig(a Address) string {
	return fmt.Sprintf("[source.crates-io]\nreplace-with = \"docker-build-remote-cache\"\n\n[source.docker-build-remote-cache]\nregistry = \"sparse+%s/\"\n", a.base())
}
