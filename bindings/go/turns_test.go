package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestATurnIsWaitedForAsLongAsItsContext(t *testing.T) {
	turnstile := newTurnstile(2)
	first, op := turnstile.turns("one"), operation{name: "wait"}
	if turnstile.turns("one") != first || turnstile.turns("two") == first {
		t.Error("turns belong to a sandbox")
	}
	for range 2 {
		if err := first.take(t.Context(), op); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := first.take(ctx, op); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, ErrTimedOut) {
		t.Error(err)
	}
	taken := make(chan error)
	go func() { taken <- first.take(context.Background(), op) }()
	first.giveBack()
	if err := <-taken; err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(first)
	await(t, "turns that nobody has are forgotten", func() bool {
		runtime.GC()
		turnstile.mu.Lock()
		defer turnstile.mu.Unlock()
		return len(turnstile.of) == 0
	})
}

// limited is a client of so many sessions, and its handle of the shared sandbox.
func limited(t *testing.T, sessions int) *Sandbox {
	t.Helper()
	own := *config
	own.MaxSessions = sessions
	client, err := NewClient(&own)
	if err != nil {
		t.Fatal(err)
	}
	if client.MaxSessions() != sessions {
		t.Error(client.MaxSessions())
	}
	attached, err := client.Attach(t.Context(), box(t).Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		attached.Close()
		client.Close()
	})
	return attached
}

func TestWhatIsCalledBackNeedsNoTurnOfItsCaller(t *testing.T) {
	narrow := limited(t, 2)
	isCalled := false
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		err := narrow.Shell(ctx, "echo a; sleep 1").Stream(func(Stream, []byte) error {
			isCalled = true
			if taken := len(narrow.turns.taken); taken != 0 {
				return fmt.Errorf("%d turns are taken", taken)
			}
			// Both turns are free, and there is one session more.
			_, err := narrow.Execute(ctx, "true")
			return err
		})
		if err != nil || !isCalled {
			t.Error(err, isCalled)
		}
	}
	if len(narrow.turns.taken) != 0 {
		t.Error("a turn is lost")
	}
}

func TestTurnsComeBackWhateverHappens(t *testing.T) {
	narrow := limited(t, 1)
	failed := errors.New("no more")
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		narrow.Command(ctx, "no-such-program").Run()
		narrow.ReadFile(ctx, "/no/such/file")
		narrow.Shell(ctx, "exec yes").Stream(func(Stream, []byte) error { return failed })
		narrow.DownloadTo(ctx, "/etc/passwd", writerFunc(func([]byte) error { return failed }), nil)
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is lost")
				}
			}()
			narrow.Shell(ctx, "exec yes").Stream(func(Stream, []byte) error { panic("in a callback") })
		}()
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		narrow.Command(short, "sleep", "60").Run()
		cancel()
		done, cancel := context.WithCancel(ctx)
		cancel()
		narrow.Command(done, "true").Run()
		// A process that runs, and a file that is open, have a session and no turn.
		cmd := narrow.Command(ctx, "sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		cmd.Wait()
		file, err := narrow.Open(ctx, "/etc/passwd")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.Read(make([]byte, 8)); err != nil {
			t.Error(err)
		}
		file.Close()
	}
	await(t, "all turns are free", func() bool { return len(narrow.turns.taken) == 0 })
	closed := limited(t, 1)
	closed.Close()
	for range 2 {
		if err := closed.Command(t.Context(), "true").Run(); !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
	}
}

// What the first two can't do, the third can: whoever orders does not wait behind who works.
func TestADeletionWaitsForNoTurn(t *testing.T) {
	client := newClient(t)
	defer client.Close()
	own, err := client.Create(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range client.MaxSessions() {
		if err := own.turns.take(t.Context(), operation{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := own.Info(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := own.Renew(t.Context(), time.Hour); err != nil {
		t.Error(err)
	}
	if err := own.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

const crowd = "SANDBOX_GO_TEST_CROWD"

func TestFiveHundredGoroutinesHaveThreeHundredThreads(t *testing.T) {
	name := os.Getenv(crowd)
	if name == "" {
		// The limit is the whole process's, and who exceeds it is ended.
		own := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
		own.Env = append(os.Environ(), crowd+"="+box(t).Name())
		if told, err := own.CombinedOutput(); err != nil || !strings.Contains(string(told), "most threads") {
			t.Errorf("%v\n%s", err, told)
		}
		return
	}
	debug.SetMaxThreads(300)
	client, err := NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	attached, err := client.Attach(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	ended, most := make(chan struct{}), atomic.Int64{}
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(10 * time.Millisecond):
				tasks, _ := filepath.Glob("/proc/self/task/*")
				most.Store(max(most.Load(), int64(len(tasks))))
			}
		}
	}()
	var all sync.WaitGroup
	for number := range 500 {
		all.Add(1)
		go func() {
			defer all.Done()
			ctx, err := context.Background(), error(nil)
			if number%2 == 0 {
				ctx = t.Context()
			}
			switch number % 5 {
			case 0:
				err = attached.Command(ctx, "sleep", "0.3").Run()
			case 1:
				_, err = attached.Command(ctx, "sleep", "0.3").Collect()
			case 2:
				_, err = attached.ReadFile(ctx, "/etc/passwd")
			case 3:
				_, err = client.ExecuteCommand(ctx, name, "sleep 0.3")
			case 4:
				err = attached.Shell(ctx, "sleep 0.3; echo a").Stream(func(Stream, []byte) error { return nil })
			}
			if err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	close(ended)
	t.Log("most threads:", most.Load())
	if most.Load() > 300 {
		t.Error("those of the library are counted too")
	}
}
