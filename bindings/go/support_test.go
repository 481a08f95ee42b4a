package sandbox

import (
	"context"
	"flag"
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
	flag.Parse()
	if testing.Short() {
		flag.Set("test.skip", "^Example") // which can't skip themselves
	}
	code := m.Run()
	if err := endShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// endShared leaves nothing; the next test that needs the sandbox makes another.
func endShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.box == nil {
		return nil
	}
	err := shared.box.Delete(context.Background())
	shared.client.Close()
	shared.client, shared.box = nil, nil
	return err
}

var config = &Config{Owner: "go", Lifetime: 10 * time.Minute, CommandTimeout: time.Minute}

func newClient(t *testing.T) *Client {
	t.Helper()
	needsCluster(t)
	client, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func needsCluster(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it needs the cluster")
	}
	if os.Getenv("SANDBOX_TEST_POSITION") == "" {
		t.Fatal("this test needs the test cluster: run `make test`, or go test -short for those that don't")
	}
}

// box is the sandbox that the tests share.
func box(t *testing.T) *Sandbox {
	t.Helper()
	needsCluster(t)
	return SharedBox()
}

// SharedBox is the same for the examples, which are another package's.
func SharedBox() *Sandbox {
	shared.Lock()
	defer shared.Unlock()
	if shared.box == nil {
		client, err := NewClient(config)
		if err != nil {
			panic(err)
		}
		if shared.box, err = client.Create(context.Background(), nil); err != nil {
			panic(err)
		}
		shared.client = client
	}
	return shared.box
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 60 s: %s", what)
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

// threads are the names of the library's threads.
func threads() (names []string) {
	files, _ := filepath.Glob("/proc/self/task/*/comm")
	for _, file := range files {
		if name, _ := os.ReadFile(file); strings.HasPrefix(string(name), "sandbox-") {
			names = append(names, strings.TrimSpace(string(name)))
		}
	}
	return names
}

// descriptors are what the open ones of this process are.
func descriptors() (targets []string) {
	files, _ := filepath.Glob("/proc/self/fd/*")
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
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
