package sandbox

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// All tests that need one share it.
var shared struct {
	sync.Mutex
	client *Client
	box    *Sandbox
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.box != nil {
		if err := shared.box.Delete(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		shared.client.Close()
	}
	os.Exit(code)
}

func newClient(t *testing.T) *Client {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs the cluster")
	}
	if os.Getenv("SANDBOX_TEST_POSITION") == "" {
		t.Fatal("this test needs the test cluster: run `make test`, or go test -short for those that don't")
	}
	client, err := NewClient(&Config{Owner: "go", Lifetime: 10 * time.Minute, CommandTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// box is the sandbox that the tests share.
func box(t *testing.T) *Sandbox {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.box == nil {
		client := newClient(t)
		box, err := client.Create(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		shared.client, shared.box = client, box
	}
	return shared.box
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// gone waits until no process in the sandbox has this command line.
func gone(t *testing.T, box *Sandbox, text string) {
	t.Helper()
	await(t, text+" is gone", func() bool { return !runs(t, box, text) })
}

func runs(t *testing.T, box *Sandbox, text string) bool {
	t.Helper()
	output, err := box.Command(context.Background(), "pgrep", "-xf", text).Collect()
	if err != nil {
		t.Fatal(err)
	}
	return output.Success()
}

// threads is how many threads the library has.
func threads(t *testing.T) (count int) {
	names, _ := filepath.Glob("/proc/self/task/*/comm")
	for _, name := range names {
		if text, _ := os.ReadFile(name); strings.HasPrefix(string(text), "sandbox") {
			count++
		}
	}
	return count
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// listen is the address of a server that says nothing.
func listen(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { connection.Close() })
		}
	}()
	return listener.Addr().String()
}
