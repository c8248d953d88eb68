package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	bkclient "github.com/moby/buildkit/client"
)

// openOutput opens the destination of an --output that is one file; "-" is
// stdout.
func openOutput(destination string, stdout io.Writer) (io.WriteCloser, error) {
	if destination == "-" {
		return keepOpen{stdout}, nil
	}
	return os.Create(destination)
}

type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// loadEntry exports an image into the Docker Engine: the store of the one
// that builds, else the engine of the environment, to which layers travel
// uncompressed since both are near. done delivers that engine's verdict.
func (e *Engine) loadEntry(ctx context.Context, names string) (entry bkclient.ExportEntry, done func() error, err error) {
	if e.docker != nil {
		return bkclient.ExportEntry{Type: "moby", Attrs: map[string]string{"name": names, "unpack": "true"}}, nil, nil
	}
	docker, err := e.selection.dockerClient()
	if err != nil {
		return entry, nil, &UnreachableError{"Docker Engine", err}
	}
	if _, err := docker.Ping(ctx); err != nil {
		docker.Close()
		return entry, nil, &UnreachableError{"Docker Engine at " + docker.DaemonHost(), err}
	}
	reader, writer := io.Pipe()
	verdict := make(chan error, 1)
	go func() {
		defer docker.Close()
		response, err := docker.ImageLoad(ctx, reader)
		if err == nil {
			err = readMessages(response.Body, func(dockerMessage) {})
			response.Body.Close()
		}
		reader.CloseWithError(errors.Join(err, io.ErrClosedPipe))
		if err != nil {
			err = fmt.Errorf("load image: %w", err)
		}
		verdict <- err
	}()
	return bkclient.ExportEntry{
			Type:   bkclient.ExporterDocker,
			Attrs:  map[string]string{"name": names, "compression": "uncompressed", "force-compression": "true"},
			Output: func(map[string]string) (io.WriteCloser, error) { return writer, nil },
		}, func() error {
			writer.Close() // nothing more will come when the build has failed
			return <-verdict
		}, nil
}
