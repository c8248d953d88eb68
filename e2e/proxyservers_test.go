package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// proxyServer is a real proxy for packages, behind a front that can be cut.
type proxyServer struct {
	tool     string // as --proxy names it
	part     string // of a request for a package itself
	front    *front
	upstream *meter
}

type proxyServers []*proxyServer

func (s proxyServers) options() []string {
	var options []string
	for _, server := range s {
		options = append(options, "--proxy", server.tool+"=http://"+server.front.address())
	}
	return options
}

// startProxies starts Debian's apt-cacher-ng, verdaccio, and a cache for Go's
// modules, all empty. What they load they load through a meter.
func startProxies(t *testing.T) proxyServers {
	t.Helper()
	// Another test is not to wait for half of the files.
	out, err := exec.CommandContext(t.Context(), "../scripts/proxy-servers").Output()
	if err != nil {
		t.Fatalf("fetch the proxies: %v", err)
	}
	dirs := map[string]string{}
	for line := range strings.Lines(string(out)) {
		server, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		dirs[server] = dir
	}
	apt := &proxyServer{tool: "apt", part: ".deb ", upstream: startMeter(t)}
	apt.front = startFront(t, aptCacherNG(t, dirs["apt-cacher-ng"], apt.upstream))
	npm := &proxyServer{tool: "npm", part: ".tgz ", upstream: startMeter(t)}
	npm.front = startFront(t, verdaccio(t, dirs["verdaccio"], npm.upstream))
	golang := &proxyServer{tool: "go", part: ".zip ", upstream: startMeter(t)}
	golang.front = startFront(t, goProxy(t, golang.upstream))
	return proxyServers{apt, npm, golang}
}

// aptCacherNG runs Debian's apt-cacher-ng and returns its address.
func aptCacherNG(t *testing.T, dir string, upstream *meter) string {
	t.Helper()
	libraries, err := filepath.Glob(filepath.Join(dir, "usr/lib/*-linux-gnu"))
	if err != nil || len(libraries) == 0 {
		t.Fatalf("no libraries in %s: %v", dir, err)
	}
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(filepath.Join(dir, "usr/sbin/apt-cacher-ng"), "ForeGround=1", "BindAddress=127.0.0.1", "Port="+port,
		"CacheDir="+t.TempDir(), "LogDir="+t.TempDir(), "Proxy="+upstream.url)
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(append(libraries, filepath.Join(dir, "lib", filepath.Base(libraries[0]))), ":"))
	serve(t, cmd, address)
	return address
}

// verdaccio runs verdaccio and returns its address.
func verdaccio(t *testing.T, dir string, upstream *meter) string {
	t.Helper()
	home := t.TempDir()
	config := filepath.Join(home, "config.yaml")
	text := fmt.Sprintf(`storage: %s/storage
https_proxy: %[2]s
uplinks:
  npmjs:
    url: https://registry.npmjs.org/
packages:
  '**':
    access: $all
    proxy: npmjs
log: {type: stdout, format: pretty, level: warn}
`, home, upstream.url)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	cmd := exec.Command("node", filepath.Join(dir, "node_modules/.bin/verdaccio"), "--config", config, "--listen", address)
	cmd.Env = append(os.Environ(), "HOME="+home, "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt")
	serve(t, cmd, address)
	return address
}

// goProxy is a plain HTTP cache in front of the Go proxy that this machine uses:
// no server that is made for it can be had as a Go module or a Debian package.
func goProxy(t *testing.T, upstream *meter) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOPROXY").Output()
	if err != nil {
		t.Fatal(err)
	}
	origin, _, _ := strings.Cut(strings.FieldsFunc(string(out), func(r rune) bool { return r == ',' || r == '|' || r == '\n' })[0], "\n")
	var kept sync.Map
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if body, ok := kept.Load(r.URL.Path); ok {
			w.Write(body.([]byte))
			return
		}
		request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, strings.TrimRight(origin, "/")+r.URL.EscapedPath(), nil)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		upstream.bytes.Add(int64(len(body)))
		if answer.StatusCode == http.StatusOK {
			kept.Store(r.URL.Path, body)
		}
		w.WriteHeader(answer.StatusCode)
		w.Write(body)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// freeAddress is below the ports that the kernel hands out, since nobody holds
// it until the server does; apt-cacher-ng knows no others.
func freeAddress(t *testing.T) string {
	t.Helper()
	l := listen(t)
	defer l.Close()
	return l.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	for range 100 {
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 21000+rand.IntN(11000))); err == nil {
			return l
		}
	}
	t.Fatal("no port is free")
	return nil
}

// serve runs a server until the test ends, and waits until it listens.
func serve(t *testing.T, cmd *exec.Cmd, address string) {
	t.Helper()
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	for deadline := time.Now().Add(runTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended:\n%s", cmd, &said)
		default:
		}
	}
	t.Fatalf("%s does not listen", cmd)
}

// front is the address of a server that steps are given: it hands bytes on, and
// can be cut off at a request.
type front struct {
	listener net.Listener
	server   string
	accepted atomic.Int64

	mu    sync.Mutex
	fatal string // "" for none
	dead  bool
	open  []net.Conn
}

func startFront(t *testing.T, server string) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{listener: l, server: server}
	t.Cleanup(f.die)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.accepted.Add(1)
			go f.relay(conn)
		}
	}()
	return f
}

func (f *front) address() string { return f.listener.Addr().String() }

func (f *front) port() string {
	_, port, _ := net.SplitHostPort(f.address())
	return "127.0.0.1:" + port
}

func (f *front) connections() int64 { return f.accepted.Load() }

// dieAt cuts the server off once a request has a text.
func (f *front) dieAt(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fatal = text
}

func (f *front) alive() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.dead
}

func (f *front) die() {
	f.listener.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	for _, conn := range f.open {
		conn.Close()
	}
}

func (f *front) relay(client net.Conn) {
	server, err := net.Dial("tcp", f.server)
	if err != nil {
		client.Close()
		return
	}
	f.mu.Lock()
	f.open = append(f.open, client, server)
	dead := f.dead
	f.mu.Unlock()
	if dead {
		f.die()
	}
	go func() {
		io.Copy(client, server)
		client.Close()
	}()
	defer server.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := client.Read(buffer)
		f.mu.Lock()
		fatal := f.fatal != "" && bytes.Contains(buffer[:n], []byte(f.fatal))
		f.mu.Unlock()
		if fatal {
			f.die()
			return
		}
		if _, werr := server.Write(buffer[:n]); err != nil || werr != nil {
			return
		}
	}
}

// meter is an HTTP proxy that counts what comes back.
type meter struct {
	url   string
	bytes atomic.Int64
}

func (m *meter) reset() { m.bytes.Store(0) }

func startMeter(t *testing.T) *meter {
	t.Helper()
	m := &meter{}
	server := httptest.NewUnstartedServer(m)
	server.Listener.Close()
	server.Listener = listen(t) // apt-cacher-ng again
	server.Start()
	t.Cleanup(server.CloseClientConnections)
	m.url = server.URL
	return m
}

func (m *meter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodConnect {
		m.tunnel(w, r)
		return
	}
	r.RequestURI = ""
	r.Header.Del("Proxy-Connection")
	answer, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer answer.Body.Close()
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	n, _ := io.Copy(w, answer.Body)
	m.bytes.Add(n)
}

func (m *meter) tunnel(w http.ResponseWriter, r *http.Request) {
	server, err := net.Dial("tcp", r.Host)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer server.Close()
	client, buffered, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer client.Close()
	fmt.Fprint(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	go func() {
		io.Copy(server, buffered)
		server.Close()
	}()
	counted := &countedPipe{client, &m.bytes}
	io.Copy(counted, server)
}

type countedPipe struct {
	to    io.Writer
	bytes *atomic.Int64
}

func (c *countedPipe) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}
