package engine

import (
	"context"
	"crypto/rand"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/sshforward"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/fsutil"
	fstypes "github.com/tonistiigi/fsutil/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Helper is a program that is run inside a cache mount: nothing else is in its
// container. It gets as its last two arguments the directory of the mount and
// a unix socket, whose other end is a MountHandler.
type Helper struct {
	Path string // of a static executable for the engine's platform, on this machine
	Args []string
}

// MountHandler speaks with the Helper in a cache mount. When it returns, the
// helper's connection ends, and not before that may the helper itself: what a
// container that ends has sent last is lost.
type MountHandler func(ctx context.Context, conn io.ReadWriter) error

// ErrMountBusy says that a mount could not be reached in time: most likely
// another build holds one of sharing=locked.
var ErrMountBusy = fmt.Errorf("the mount was not free within %v", mountBusyAfter)

// CheckHelper tells why a helper cannot be run in the engine's cache mounts,
// nil if it can.
func (e *Engine) CheckHelper(ctx context.Context, h Helper) error {
	if !e.BuildKit {
		return errors.New("the classic builder has no cache mounts")
	}
	workers, err := e.client.ListWorkers(ctx)
	if err != nil {
		return fmt.Errorf("ask the engine for its platform: %w", err)
	}
	if len(workers) == 0 || len(workers[0].Platforms) == 0 {
		return errors.New("the engine does not tell its platform")
	}
	native := workers[0].Platforms[0]
	if native.OS != runtime.GOOS || native.Architecture != runtime.GOARCH {
		return fmt.Errorf("this program is for %s/%s, the engine is %s/%s: it cannot run inside its cache mounts", runtime.GOOS, runtime.GOARCH, native.OS, native.Architecture)
	}
	file, err := elf.Open(h.Path)
	if err != nil {
		return fmt.Errorf("read this program: %w", err)
	}
	defer file.Close()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			return errors.New("this program was not built with CGO_ENABLED=0: it cannot run inside cache mounts")
		}
	}
	return nil
}

// Names inside the container of a mount step, and of what the session serves.
const (
	mountDir     = "/mount"
	helperFile   = "/helper"
	streamSocket = "/stream"
	helperSource = "docker-build-remote-cache-helper"
	streamID     = "docker-build-remote-cache"
)

// mountStepDefinition is a step of our own beside those of the Dockerfile: the
// helper on an empty file system with a cache mount of one of its steps, which
// it shares since the mount is in the daemon's terms what it is there: what it
// begins with is part of what identifies it (getRefCacheDir in
// solver/llbsolver/mounts/mount.go), and how it is shared decides who waits for
// whom. The stream comes as an ssh agent would: the daemon needs no network
// and gets no credentials.
func mountStepDefinition(g *graph, op *pb.Op, mount *pb.Mount, h Helper) (*pb.Definition, error) {
	definition := &pb.Definition{Metadata: map[string]*pb.OpMetadata{}}
	step := &pb.Op{Platform: op.Platform, Constraints: op.Constraints}
	add := func(op *pb.Op, name string) (digest.Digest, error) {
		raw, err := op.MarshalVT()
		if err != nil {
			return "", fmt.Errorf("write build definition: %w", err)
		}
		definition.Def = append(definition.Def, raw)
		d := digest.FromBytes(raw)
		definition.Metadata[string(d)] = &pb.OpMetadata{Description: map[string]string{"llb.customname": name}}
		return d, nil
	}
	mount = mount.CloneVT()
	mount.Dest, mount.Readonly, mount.Output = mountDir, false, -1
	if mount.Input >= 0 {
		begins := g.sub(inputEdge(op.Inputs[mount.Input]))
		definition.Def = begins.Def[:len(begins.Def)-1]
		definition.Metadata, definition.Source = begins.Metadata, begins.Source
		step.Inputs = append(step.Inputs, op.Inputs[mount.Input])
		mount.Input = 0
	}
	program, err := add(&pb.Op{Op: &pb.Op_Source{Source: &pb.SourceOp{
		Identifier: "local://" + helperSource, Attrs: map[string]string{pb.AttrSharedKeyHint: helperSource},
	}}}, "the program for cache mounts")
	if err != nil {
		return nil, err
	}
	step.Inputs = append(step.Inputs, &pb.Input{Digest: string(program)})
	step.Op = &pb.Op_Exec{Exec: &pb.ExecOp{
		// The last argument makes each step one of its own.
		Meta:    &pb.Meta{Args: append(append([]string{helperFile}, h.Args...), mountDir, streamSocket, rand.Text()), Cwd: "/"},
		Network: pb.NetMode_NONE,
		Mounts: []*pb.Mount{
			{Input: -1, Dest: "/"},
			{Input: int64(len(step.Inputs) - 1), Selector: "/" + filepath.Base(h.Path), Dest: helperFile, Readonly: true, Output: -1},
			{Input: -1, Dest: streamSocket, Output: -1, MountType: pb.MountType_SSH, SSHOpt: &pb.SSHOpt{ID: streamID, Mode: 0o600}},
			mount,
		},
	}}
	d, err := add(step, "cache mount "+mount.CacheOpt.ID)
	if err != nil {
		return nil, err
	}
	end := &pb.Op{Inputs: []*pb.Input{{Digest: string(d)}}}
	raw, err := end.MarshalVT()
	definition.Def = append(definition.Def, raw)
	return definition, err
}

// mountBusyAfter is how long a mount step may wait to begin. It takes some
// hundred milliseconds, most of it for the program to be sent, unless somebody
// else holds the mount.
const mountBusyAfter = 20 * time.Second

// runOnMount runs a mount step and speaks with it.
func (e *Engine) runOnMount(ctx context.Context, s *sender, definition *pb.Definition, h Helper, handler MountHandler) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opt, err := s.mountStepOpt(h)
	if err != nil {
		return err
	}
	stream := &mountStream{handler: handler, begun: make(chan struct{}), over: make(chan struct{})}
	opt.Session = append(opt.Session, stream)
	waiting := time.AfterFunc(mountBusyAfter, func() { cancel(ErrMountBusy) })
	defer waiting.Stop()
	go func() {
		select {
		case <-stream.begun:
			waiting.Stop()
		case <-ctx.Done():
		}
	}()
	logs := newLogTail()
	_, err = e.client.Build(ctx, opt, product, func(ctx context.Context, gw client.Client) (*client.Result, error) {
		return gw.Solve(ctx, client.SolveRequest{Definition: definition})
	}, logs.watch())
	ended := stream.ended()
	switch {
	case err != nil && context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case ended && stream.err != nil:
		return stream.err
	case err == nil && !ended:
		return errors.New("the program in the mount did not connect")
	case err == nil:
		return nil
	default:
		return fmt.Errorf("run a program in the mount: %w%s", err, logs)
	}
}

// mountStepOpt is a session for a mount step. What such a mount begins with
// may be a stage, whose sources are at hand; its steps have run, so that they
// ask for no secrets.
func (s *sender) mountStepOpt(h Helper) (bkclient.SolveOpt, error) {
	opt, err := s.localsOpt(nil)
	if err != nil {
		return opt, err
	}
	dir, err := fsutil.NewFS(filepath.Dir(h.Path))
	if err != nil {
		return opt, fmt.Errorf("send this program: %w", err)
	}
	opt.LocalMounts[helperSource], err = fsutil.NewFilterFS(dir, &fsutil.FilterOpt{
		IncludePatterns: []string{globText(filepath.Base(h.Path))},
		Map: func(_ string, stat *fstypes.Stat) fsutil.MapResult {
			stat.Uid, stat.Gid, stat.ModTime = 0, 0, 0
			stat.Mode = uint32(os.FileMode(stat.Mode)&^os.ModePerm | 0o755)
			return fsutil.MapResultKeep
		},
	})
	if err != nil {
		return opt, fmt.Errorf("send this program: %w", err)
	}
	opt.Session = []session.Attachable{authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: authprovider.LoadAuthConfig(s.docker),
	})}
	opt.Internal = true
	return opt, nil
}

// globText is a pattern that matches a name alone.
func globText(name string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `!`, `\!`).Replace(name)
}

// mountStream serves the stream to a mount step as if it were an ssh agent.
type mountStream struct {
	sshforward.UnimplementedSSHServer
	handler MountHandler
	begun   chan struct{}
	taken   atomic.Bool
	over    chan struct{} // closed once err is set
	err     error
}

// Register implements session.Attachable.
func (m *mountStream) Register(server *grpc.Server) { sshforward.RegisterSSHServer(server, m) }

// CheckAgent implements sshforward.SSHServer.
func (m *mountStream) CheckAgent(_ context.Context, r *sshforward.CheckAgentRequest) (*sshforward.CheckAgentResponse, error) {
	if r.ID != streamID {
		return nil, status.Errorf(codes.NotFound, "no ssh agent %q", r.ID)
	}
	return &sshforward.CheckAgentResponse{}, nil
}

// ForwardAgent implements sshforward.SSHServer.
func (m *mountStream) ForwardAgent(stream sshforward.SSH_ForwardAgentServer) error {
	if m.taken.Swap(true) {
		return status.Error(codes.ResourceExhausted, "one connection only")
	}
	close(m.begun)
	defer close(m.over)
	m.err = m.handler(stream.Context(), &streamConn{stream: stream})
	return m.err
}

// handlerLimit bounds how long a handler may go on when its step has ended, and
// with that its connection and its context.
const handlerLimit = 10 * time.Second

// ended tells, after the step, whether the handler was called and has returned:
// what it has written is then the caller's.
func (m *mountStream) ended() bool {
	if !m.taken.Load() {
		return false
	}
	select {
	case <-m.over:
		return true
	case <-time.After(handlerLimit):
		return false
	}
}

// streamConn is the stream as a connection.
type streamConn struct {
	stream sshforward.SSH_ForwardAgentServer
	rest   []byte // received and not read
}

// Read implements io.Reader.
func (c *streamConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		message, err := c.stream.Recv()
		if err != nil {
			return 0, err
		}
		c.rest = message.Data
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// streamPart bounds one message, in bytes.
const streamPart = 256 << 10

// Write implements io.Writer.
func (c *streamConn) Write(p []byte) (int, error) {
	written := 0
	for len(p) > 0 {
		part := p[:min(len(p), streamPart)]
		if err := c.stream.Send(&sshforward.BytesMessage{Data: part}); err != nil {
			return written, err
		}
		written, p = written+len(part), p[len(part):]
	}
	return written, nil
}

// logTail keeps the end of what a step printed, for messages.
type logTail struct {
	mu   sync.Mutex
	text []byte
	over chan struct{}
}

const maxLogTail = 1 << 10

func newLogTail() *logTail { return &logTail{over: make(chan struct{})} }

func (l *logTail) watch() chan *bkclient.SolveStatus {
	stream := make(chan *bkclient.SolveStatus)
	go func() {
		defer close(l.over)
		for status := range stream {
			l.mu.Lock()
			for _, log := range status.Logs {
				l.text = append(l.text, log.Data...)
			}
			l.text = l.text[max(0, len(l.text)-maxLogTail):]
			l.mu.Unlock()
		}
	}()
	return stream
}

func (l *logTail) String() string {
	<-l.over
	l.mu.Lock()
	defer l.mu.Unlock()
	if text := strings.TrimSpace(string(l.text)); text != "" {
		return ": " + text
	}
	return ""
}
