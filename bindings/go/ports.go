package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"time"
)

// Connect connects to a TCP port of the sandbox's own loopback addresses. The server there may listen on a loopback
// address only.
//
// The connection is an ordinary one of this machine, a *net.TCPConn, whose bytes go through an SSH session that all
// connections into the sandbox share. Each side can close its half with CloseWrite. If the connection breaks, on the
// way or in the sandbox, Read fails with ECONNRESET instead of io.EOF. It stays usable after the handles are closed.
//
// [ErrRefused] if nothing listens there; [ErrTimedOut] after the client's time to connect; [ErrConnect] and its like if
// the sandbox can't be reached.
func (s *Sandbox) Connect(ctx context.Context, port int) (net.Conn, error) {
	return s.connect(ctx, strconv.Itoa(port))
}

// Dial is [Sandbox.Connect] with what net.Dialer.DialContext takes, so that it does as the DialContext of an
// http.Transport: the network "tcp" and an address such as "localhost:8080", or "unix" and the path of a socket in the
// sandbox, for which errors are [ErrFileNotFound] and [ErrPermissionDenied] too. A host that is neither a loopback
// address, "localhost" or empty, nor the sandbox's name is [ErrInvalidArgument].
func (s *Sandbox) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, s.order("connect to port").fail(ErrInvalidArgument, err.Error())
		}
		if ip := net.ParseIP(host); host != "" && host != "localhost" && host != s.name && (ip == nil || !ip.IsLoopback()) {
			return nil, s.order("connect to port").fail(ErrInvalidArgument, host+" is not in the sandbox")
		}
		return s.connect(ctx, port)
	case "unix":
		return s.connect(ctx, asPath(address))
	default:
		return nil, s.order("connect to port").fail(ErrInvalidArgument, "there is no network "+network)
	}
}

// asPath is the name of a file as a path with a slash.
func asPath(name string) string {
	for _, c := range name {
		if c == '/' {
			return name
		}
	}
	return "./" + name
}

func (s *Sandbox) connect(ctx context.Context, target string) (net.Conn, error) {
	op := s.order("connect to port")
	op.texts = []string{target}
	return ask(ctx, op, s.handle, func(sandbox *C.sbx_sandbox) (net.Conn, error) {
		var fd C.int32_t
		err := invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_sandbox_connect(sandbox, text(target), &fd, err) })
		if err != nil {
			return nil, err
		}
		file := os.NewFile(uintptr(fd), target)
		defer file.Close()
		// It has a descriptor of its own.
		return net.FileConn(file)
	}, func(connection net.Conn) { connection.Close() })
}

// WaitForPort waits in the sandbox until something listens on a port, such as "8080", or on a Unix socket, a path with
// a slash. The check makes no connection to the server. The context limits the time.
func (s *Sandbox) WaitForPort(ctx context.Context, target string) error {
	// What nobody waits for any more goes on in the background, but no longer than this.
	piece := NoLimit
	if ctx.Done() != nil {
		piece = 5 * time.Second
	}
	for {
		err := tell(ctx, s.operation("wait for port", target), s.handle,
			func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
				return C.sbx_sandbox_wait_for_port(sandbox, text(target), seconds(piece), err)
			})
		if ctx.Err() != nil || !errors.Is(err, ErrTimedOut) {
			return err
		}
	}
}

// A Forward is a local port or Unix socket whose connections end in a sandbox; made by [Sandbox.Forward]. It listens
// until it is closed, or until its Pod has ended. It never connects to another Pod of the same name. Its connections
// end with it. If the SSH session is lost, its open connections break and later ones use a new session.
type Forward struct {
	handle         *handle[*C.sbx_forward]
	local, sandbox string
	port           int
}

// Forward listens on this machine and connects each connection to a port of the sandbox or a Unix socket in it, as
// [Sandbox.Connect] does. local is a port of 127.0.0.1 such as "8080", or "ADDRESS:PORT", or a path with a slash, of
// which the file must not exist; port 0 is one that the system chooses. target is a port such as "8080", or a path with
// a slash. It does not check whether anything listens in the sandbox; [Sandbox.WaitForPort] waits for that. The context
// is that of the start.
//
// [ErrBusy] if the local port or file is in use; [ErrPermissionDenied] if it may not be used.
func (s *Sandbox) Forward(ctx context.Context, local, target string) (*Forward, error) {
	free := func(forward *C.sbx_forward) { C.sbx_forward_free(forward) }
	op := s.order("forward port")
	op.texts = []string{local, target}
	forward, err := ask(ctx, op, s.handle, func(sandbox *C.sbx_sandbox) (forward *C.sbx_forward, err error) {
		err = invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_forward(sandbox, text(local), text(target), &forward, err)
		})
		return forward, err
	}, free)
	if err != nil {
		return nil, err
	}
	where, port := C.GoString(C.sbx_forward_local(forward)), int(C.sbx_forward_port(forward))
	return &Forward{newHandle(forward, free), where, s.name, port}, nil
}

// Close stops listening and breaks the open connections, for which it waits up to 2 seconds. It always returns nil, and
// is there for io.Closer.
func (f *Forward) Close() error {
	get(f.handle, func(forward *C.sbx_forward) bool {
		C.sbx_forward_close(forward)
		return true
	})
	f.handle.close()
	return nil
}

// Local is where it listens, such as "127.0.0.1:8080", or a path.
func (f *Forward) Local() string { return f.local }

// Port is the local port, also where the system has chosen it; 0 for a Unix socket.
func (f *Forward) Port() int { return f.port }

// Connections are how many there are at this moment; 0 after Close.
func (f *Forward) Connections() int {
	return get(f.handle, func(forward *C.sbx_forward) int { return int(C.sbx_forward_connections(forward)) })
}

// IsOpen says whether it still listens.
func (f *Forward) IsOpen() bool {
	return get(f.handle, func(forward *C.sbx_forward) bool { return bool(C.sbx_forward_is_open(forward)) })
}

// LastFailure is why the last connection that failed did so, such as [ErrRefused] because nothing listened in the
// sandbox; nil if none has, and after Close. A connection that its local side breaks off does not count as failed.
func (f *Forward) LastFailure() error {
	return get(f.handle, func(forward *C.sbx_forward) error {
		var failure *C.sbx_error
		if !C.sbx_forward_last_failure(forward, &failure) {
			return nil
		}
		defer C.sbx_error_free(failure)
		return newError(failure)
	})
}

// Wait waits until it has ended, or the context is done. It is nil if it was closed, else the reason: the Pod is gone,
// or its sandbox was deleted.
func (f *Forward) Wait(ctx context.Context) error {
	return tell(ctx, operation{name: "forward port", sandbox: f.sandbox}, f.handle,
		func(forward *C.sbx_forward, err **C.sbx_error) C.sbx_status { return C.sbx_forward_wait(forward, err) })
}
