package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"sandbox.invalid/sandbox"
)

const reverser = `import socketserver as s, threading as t
class H(s.StreamRequestHandler):
    def handle(self): self.wfile.write(self.rfile.read()[::-1])
u = s.ThreadingUnixStreamServer('/tmp/reverser', H)
t.Thread(target=u.serve_forever, daemon=True).start()
s.ThreadingTCPServer(('127.0.0.1', 7300), H).serve_forever()
`

func isReversed(connection net.Conn, err error) {
	succeeds(err)
	defer connection.Close()
	_, err = io.WriteString(connection, "desserts")
	succeeds(err)
	succeeds(connection.(interface{ CloseWrite() error }).CloseWrite())
	answer, err := io.ReadAll(connection)
	succeeds(err)
	equal(string(answer), "stressed")
}

func ports(w *world) {
	soon, cancel := context.WithTimeout(w.ctx, 50*time.Millisecond)
	defer cancel()
	fails(w.box.WaitForPort(soon, "7300"), sandbox.ErrTimedOut)
	_, err := w.box.Connect(w.ctx, 7300)
	fails(err, sandbox.ErrRefused)
	check(errors.Is(err, syscall.ECONNREFUSED), "%v", err)
	server, err := w.box.Command(w.ctx, "python3", "-c", reverser).Detach("reverser")
	succeeds(err)
	succeeds(w.box.WaitForPort(w.ctx, "7300"))
	succeeds(w.box.WaitForPort(w.ctx, "/tmp/reverser"))
	isReversed(w.box.Connect(w.ctx, 7300))
	isReversed(w.box.Dial(w.ctx, "tcp", "localhost:7300"))
	isReversed(w.box.Dial(w.ctx, "unix", "/tmp/reverser"))
	_, err = w.box.Dial(w.ctx, "tcp", "example.com:7300")
	fails(err, sandbox.ErrInvalidArgument)
	_, err = w.box.Dial(w.ctx, "unix", "missing")
	fails(err, sandbox.ErrFileNotFound)

	forward, err := w.box.Forward(w.ctx, "0", "7300")
	succeeds(err)
	defer forward.Close()
	equal(forward.Local(), fmt.Sprintf("127.0.0.1:%d", forward.Port()))
	open, err := net.Dial("tcp", forward.Local())
	succeeds(err)
	defer open.Close()
	isReversed(net.Dial("tcp", forward.Local()))
	check(forward.IsOpen() && forward.Connections() >= 1, "%d connections", forward.Connections())
	succeeds(forward.LastFailure())
	_, err = w.box.Forward(w.ctx, forward.Local(), "7300")
	fails(err, sandbox.ErrBusy)
	toNobody, err := w.box.Forward(w.ctx, "0", "7301")
	succeeds(err)
	defer toNobody.Close()
	refused, err := net.Dial("tcp", toNobody.Local())
	succeeds(err)
	_, err = refused.Read(make([]byte, 1))
	check(errors.Is(err, syscall.ECONNRESET), "%v", err)
	succeeds(refused.Close())
	fails(toNobody.LastFailure(), sandbox.ErrRefused)
	waited := make(chan error)
	go func() { waited <- forward.Wait(w.ctx) }()
	succeeds(forward.Close())
	err = <-waited
	check(err == nil || errors.Is(err, sandbox.ErrClosed), "%v", err)
	check(!forward.IsOpen(), "it is open")
	_, err = net.Dial("tcp", forward.Local())
	check(errors.Is(err, syscall.ECONNREFUSED), "%v", err)
	succeeds(server.Kill(w.ctx))
	succeeds(server.Remove(w.ctx))
}
