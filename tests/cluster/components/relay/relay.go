// Package relay hands connections on, so that a server in one network namespace answers in another:
// a unix socket's file is seen from all of them.
package relay

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"time"
)

// Run hands on every connection to from, for good. Both addresses are "tcp:HOST:PORT" or "unix:PATH".
func Run(from, to string) error {
	network, address, err := parse(from)
	if err != nil {
		return err
	}
	if _, _, err := parse(to); err != nil {
		return err
	}
	listener, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	return Serve(listener, to)
}

// Serve hands on every connection that listener accepts, until it is closed.
func Serve(listener net.Listener, to string) error {
	network, address, err := parse(to)
	if err != nil {
		return err
	}
	for {
		client, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			log.Printf("accept: %v", err)
			time.Sleep(100 * time.Millisecond) // too many open files, say: others will close theirs
			continue
		}
		go func() {
			defer client.Close()
			server, err := net.Dial(network, address)
			if err != nil {
				log.Printf("connect: %v", err)
				return
			}
			defer server.Close()
			join(client.(stream), server.(stream))
		}()
	}
}

func parse(text string) (network, address string, err error) {
	network, address, found := strings.Cut(text, ":")
	if !found || network != "tcp" && network != "unix" {
		return "", "", fmt.Errorf("%q is neither tcp:HOST:PORT nor unix:PATH", text)
	}
	return network, address, nil
}

// stream is what TCP and unix connections have in common.
type stream interface {
	net.Conn
	CloseWrite() error
}

// join carries both directions until both have ended. One that waits never holds up the other one,
// as it would in a single loop: when both peers write more than they read, that loop is stuck for good.
func join(a, b stream) {
	done := make(chan struct{})
	go func() {
		carry(a, b)
		close(done)
	}()
	carry(b, a)
	<-done
}

// carry copies one direction, in the kernel where it can, and passes its end on.
func carry(to, from stream) {
	if _, err := io.Copy(to, from); err != nil {
		// One side is gone; the other direction must not wait for it.
		to.Close()
		from.Close()
		return
	}
	_ = to.CloseWrite() // fails only if the other direction has closed it
}
