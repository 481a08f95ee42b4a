package relay

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// start serves with handle behind two relays in a row, as the cluster has them, and connects to it.
func start(t *testing.T, handle func(stream)) stream {
	t.Helper()
	listen := func(network, address string) net.Listener {
		listener, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { listener.Close() })
		return listener
	}
	server := listen("tcp", "127.0.0.1:0")
	inner := listen("unix", filepath.Join(t.TempDir(), "socket"))
	outer := listen("tcp", "127.0.0.1:0")
	go Serve(inner, "tcp:"+server.Addr().String())
	go Serve(outer, "unix:"+inner.Addr().String())
	go func() {
		for {
			connection, err := server.Accept()
			if err != nil {
				return
			}
			go func() {
				defer connection.Close()
				handle(connection.(stream))
			}()
		}
	}()
	client, err := net.Dial("tcp", outer.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	client.SetDeadline(time.Now().Add(30 * time.Second))
	return client.(stream)
}

func TestCarriesBothDirectionsAtOnce(t *testing.T) {
	client := start(t, func(s stream) { io.Copy(s, s) })
	const size = 256 << 20
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16/16)
	sent, received := sha256.New(), sha256.New()
	failed := make(chan error, 1)
	go func() {
		for written := 0; written < size; written += len(block) {
			sent.Write(block)
			if _, err := client.Write(block); err != nil {
				failed <- err
				return
			}
		}
		failed <- client.CloseWrite()
	}()
	count, err := io.Copy(received, client)
	if err != nil || count != size {
		t.Fatalf("%d of %d bytes came back: %v", count, size, err)
	}
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(sent.Sum(nil), received.Sum(nil)) {
		t.Fatal("other bytes came back")
	}
}

func TestPassesAHalfCloseOn(t *testing.T) {
	client := start(t, func(s stream) {
		request, _ := io.ReadAll(s) // only the end of the request gets the answer
		s.Write(append([]byte("answer to "), request...))
	})
	client.Write([]byte("question"))
	client.CloseWrite()
	answer, err := io.ReadAll(client)
	if err != nil || string(answer) != "answer to question" {
		t.Fatalf("%q, %v", answer, err)
	}
}

func TestTheServerLearnsOfAClientThatIsGone(t *testing.T) {
	gone := make(chan error, 1)
	client := start(t, func(s stream) {
		_, err := io.Copy(s, endless{})
		gone <- err
	})
	io.ReadFull(client, make([]byte, 1<<20))
	client.Close()
	select {
	case err := <-gone:
		if err == nil {
			t.Fatal("an endless answer ended")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("the server still writes")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAServerThatIsDownEndsTheConnection(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go Serve(listener, "unix:"+filepath.Join(t.TempDir(), "nobody"))
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	client.SetDeadline(time.Now().Add(30 * time.Second))
	if read, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("%d bytes, %v", read, err)
	}
}

func TestRefusesOtherAddresses(t *testing.T) {
	for _, text := range []string{"", "127.0.0.1:80", "udp:127.0.0.1:80"} {
		if err := Run("tcp:127.0.0.1:0", text); err == nil {
			t.Errorf("%q was taken", text)
		}
		if err := Run(text, "tcp:127.0.0.1:80"); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}
