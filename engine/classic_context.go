package engine

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/patternmatcher/ignorefile"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
)

// addedDockerfile is the Dockerfile's name in what is sent.
const addedDockerfile = ".dockerfile.docker-build-remote-cache"

// contextArchive is the build context as the classic builder takes it: a tar,
// kept in a file, as every solve needs it again, with another Dockerfile.
type contextArchive struct {
	path     string
	ignored  []byte // .dockerignore
	compress bool
}

// newContextArchive packs the context, without what .dockerignore excludes.
func newContextArchive(ctx context.Context, o Options) (*contextArchive, error) {
	file, err := os.CreateTemp("", "docker-build-remote-cache-context-")
	if err != nil {
		return nil, fmt.Errorf("pack build context: %w", err)
	}
	a := &contextArchive{path: file.Name(), compress: o.Classic.Compress}
	err = a.write(ctx, file, o.Context)
	if err = errors.Join(err, file.Close()); err != nil {
		a.remove()
		return nil, fmt.Errorf("pack build context: %w", err)
	}
	return a, nil
}

func (a *contextArchive) remove() { os.Remove(a.path) }

func (a *contextArchive) write(ctx context.Context, out io.Writer, dir string) error {
	var err error
	if a.ignored, err = readIgnoreFile(filepath.Join(dir, ignoreName)); err != nil {
		return err
	}
	excludes, err := ignorefile.ReadAll(bytes.NewReader(a.ignored))
	if err != nil {
		return fmt.Errorf("read %s: %w", ignoreName, err)
	}
	files, err := contextFiles(dir)
	if err != nil {
		return err
	}
	files, err = fsutil.NewFilterFS(files, &fsutil.FilterOpt{
		ExcludePatterns: append(excludes, ignoreName, addedDockerfile),
		Map: func(_ string, stat *fstypes.Stat) fsutil.MapResult {
			if os.FileMode(stat.Mode)&os.ModeSocket != 0 {
				return fsutil.MapResultExclude // tar knows none
			}
			return fsutil.MapResultKeep
		},
	})
	if err != nil {
		return err
	}
	return a.pack(out, func(out io.Writer) error { return fsutil.WriteTar(ctx, files, out) })
}

// pack lets write go through a buffer and, if asked for, gzip.
func (a *contextArchive) pack(out io.Writer, write func(io.Writer) error) error {
	buffered := bufio.NewWriterSize(out, 1<<18)
	if !a.compress {
		return errors.Join(write(buffered), buffered.Flush())
	}
	packed := gzip.NewWriter(buffered)
	return errors.Join(write(packed), packed.Close(), buffered.Flush())
}

// open gives the context with a Dockerfile ahead of it. As with docker build
// and a Dockerfile from elsewhere, an ignore file goes along that names both:
// the daemon drops them after reading them, so that no COPY sees them.
func (a *contextArchive) open(dockerfile []byte) (io.ReadCloser, error) {
	ignored := fmt.Appendf(nil, "%s\n%s\n%s\n", a.ignored, ignoreName, addedDockerfile)
	var ahead bytes.Buffer
	err := a.pack(&ahead, func(out io.Writer) error {
		return addFiles(out, []addedFile{{addedDockerfile, dockerfile}, {ignoreName, ignored}})
	})
	if err != nil {
		return nil, err
	}
	file, err := os.Open(a.path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(&ahead, file), file}, nil
}

type addedFile struct {
	name string
	text []byte
}

// addFiles writes the beginning of a tar.
func addFiles(out io.Writer, files []addedFile) error {
	archive := tar.NewWriter(out)
	for _, file := range files {
		header := &tar.Header{Name: file.name, Mode: 0o644, Size: int64(len(file.text)), ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(file.text); err != nil {
			return err
		}
	}
	return archive.Flush() // not Close: what follows belongs to the same tar
}
