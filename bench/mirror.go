package bench

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// mirror is a forward proxy that keeps what it has fetched, so that Debian's
// mirrors are neither measured nor bothered. Packages are kept for ever, as
// their names hold their versions; everything else for the life of the process,
// so that lists and packages stay consistent in one run.
type mirror struct {
	packages, lists string // directories

	mu      sync.Mutex
	fetches map[string]*sync.Mutex // by URL: each is fetched once
}

func newMirror(packages, lists string) *mirror {
	return &mirror{packages: packages, lists: lists, fetches: map[string]*sync.Mutex{}}
}

func (m *mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Only plain http can be kept; apt verifies signatures, not transports.
	if r.Method != http.MethodGet || !r.URL.IsAbs() || r.URL.Scheme != "http" {
		http.Error(w, "only GET of http URLs", http.StatusBadRequest)
		return
	}
	file, status, err := m.fetch(r)
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadGateway)
	case status != http.StatusOK:
		http.Error(w, http.StatusText(status), status)
	default:
		http.ServeFile(w, r, file)
	}
}

// fetch is the file that holds what a URL names. status is the mirror's answer
// if it has none.
func (m *mirror) fetch(r *http.Request) (file string, status int, err error) {
	address := r.URL.String()
	dir := m.lists
	if strings.HasSuffix(address, ".deb") {
		dir = m.packages
	}
	file = filepath.Join(dir, fmt.Sprintf("%x", sha256.Sum256([]byte(address))))
	m.mu.Lock()
	fetch := m.fetches[address]
	if fetch == nil {
		fetch = &sync.Mutex{}
		m.fetches[address] = fetch
	}
	m.mu.Unlock()
	fetch.Lock()
	defer fetch.Unlock()
	if _, err := os.Stat(file); err == nil {
		return file, http.StatusOK, nil
	}
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, address, nil)
	if err != nil {
		return "", 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return "", response.StatusCode, nil
	}
	part, err := os.CreateTemp(dir, "part-")
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(part.Name())
	_, err = io.Copy(part, response.Body)
	if closed := part.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(part.Name(), file)
	}
	return file, http.StatusOK, err
}
