package sandbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestACommandIsAsInOsExec(t *testing.T) {
	box := box(t)
	// A context that can be cancelled takes other ways than one that can't.
	for _, ctx := range []context.Context{context.Background(), t.Context()} {
		out, err := box.Command(ctx, "printf", "%s|", "a b", "", "\xff'\"\n").Output()
		if err != nil || string(out) != "a b||\xff'\"\n|" {
			t.Errorf("%q %v", out, err)
		}
		out, err = box.Shell(ctx, "echo out; echo err >&2; echo out").CombinedOutput()
		if err != nil || string(out) != "out\nerr\nout\n" {
			t.Errorf("%q %v", out, err)
		}
		cmd := box.Shell(ctx, "cat; echo $X; pwd; echo oh >&2; exit 3")
		cmd.Env, cmd.Dir, cmd.Stdin = []string{"X=y=z"}, "/usr", strings.NewReader("in\n")
		out, err = cmd.Output()
		var failed *ExitError
		if !errors.As(err, &failed) || failed.ExitCode() != 3 || string(failed.Stderr) != "oh\n" || !errors.Is(err, ErrCommandFailed) {
			t.Error(err)
		}
		if string(out) != "in\ny=z\n/usr\n" || cmd.ProcessState.ExitCode() != 3 {
			t.Errorf("%q", out)
		}
		if err := box.Shell(ctx, "kill -KILL $$").Run(); !errors.As(err, &failed) || failed.Signal() != "KILL" || failed.ExitCode() != -1 {
			t.Error(err)
		}
		if err := box.Command(ctx, "no-such-program").Run(); !errors.Is(err, ErrCommand) {
			t.Error(err)
		}
		if err := box.Command(ctx, "echo", "a\x00b").Run(); !errors.Is(err, ErrInvalidArgument) {
			t.Error(err)
		}
		cmd = box.Command(ctx, "true")
		cmd.OutputLimit = -1
		if _, err := cmd.Output(); !errors.Is(err, ErrInvalidArgument) || !strings.Contains(err.Error(), "OutputLimit") {
			t.Error(err)
		}
		cmd = box.Shell(ctx, "stty size; echo $TERM")
		cmd.Terminal = &Terminal{Columns: 100, Rows: 30}
		if out, err := cmd.Output(); err != nil || string(out) != "30 100\r\nxterm-256color\r\n" {
			t.Errorf("%q %v", out, err)
		}
		var stdout, stderr bytes.Buffer
		cmd = box.Shell(ctx, "wc -c; echo oh >&2")
		// From a reader of no known kind, more than any buffer takes.
		cmd.Stdin, cmd.Stdout, cmd.Stderr = io.LimitReader(zeros{}, 5<<20), &stdout, &stderr
		if err := cmd.Run(); err != nil || strings.TrimSpace(stdout.String()) != "5242880" || stderr.String() != "oh\n" {
			t.Error(err, stdout.String(), stderr.String())
		}
		broken := errors.New("broken")
		cmd = box.Shell(ctx, "cat >/dev/null")
		cmd.Stdin = io.MultiReader(strings.NewReader("half"), failing{broken})
		if err := cmd.Run(); !errors.Is(err, broken) {
			t.Error(err)
		}
		cmd = box.Shell(ctx, "yes | head -c 10000000")
		cmd.Stdout = failing{broken}
		if err := cmd.Run(); !errors.Is(err, broken) {
			t.Error(err)
		}
		cmd = box.Command(ctx, "uname")
		cmd.Stdout = short{}
		if err := cmd.Run(); !errors.Is(err, io.ErrShortWrite) {
			t.Error(err)
		}
		if err := cmd.Run(); !errors.Is(err, ErrInvalidArgument) {
			t.Error("a command ran twice")
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestPipesTalkWhileTheCommandRuns(t *testing.T) {
	cmd := box(t).Command(t.Context(), "cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if state, err := cmd.Process.TryWait(); state != nil || err != nil {
		t.Error(state, err)
	}
	for line := range 5 {
		fmt.Fprintf(stdin, "line %d\n", line)
		buffer := make([]byte, 100)
		n, err := stdout.Read(buffer)
		if err != nil || string(buffer[:n]) != fmt.Sprintf("line %d\n", line) {
			t.Errorf("%q %v", buffer[:n], err)
		}
	}
	stdin.Close()
	if rest, err := io.ReadAll(stdout); len(rest) != 0 || err != nil {
		t.Error(rest, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Kill(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if _, err := stdin.Write([]byte("late")); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}

func TestWaitDoesNotCutTheInputShort(t *testing.T) {
	cmd := box(t).Command(t.Context(), "wc", "-c")
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer stdin.Close()
		for range 50 {
			stdin.Write(make([]byte, 100<<10))
		}
	}()
	if err := cmd.Run(); err != nil || strings.TrimSpace(stdout.String()) != "5120000" {
		// The goroutine may have begun before the start.
		t.Error(err, stdout.String())
	}
	// A command that ends by itself does not wait for its input's end.
	cmd = box(t).Command(t.Context(), "true")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Run(); err != nil {
		t.Error(err)
	}
}

func TestAContextKills(t *testing.T) {
	box := box(t)
	for name, run := range map[string]func(*Cmd) error{
		"run":     (*Cmd).Run,
		"output":  func(c *Cmd) error { _, err := c.Output(); return err },
		"collect": func(c *Cmd) error { _, err := c.Collect(); return err },
		"stream":  func(c *Cmd) error { return c.Stream(func(Stream, []byte) error { return nil }) },
	} {
		for _, cause := range []error{context.Canceled, context.DeadlineExceeded} {
			mark := fmt.Sprintf("%d", 100000+time.Now().UnixNano()%100000)
			ctx, cancel := context.WithCancel(t.Context())
			if cause == context.DeadlineExceeded {
				ctx, cancel = context.WithTimeout(t.Context(), 4*time.Second)
			} else {
				go func() {
					await(t, "the command runs", func() bool { return runs(t, box, "sleep "+mark) })
					cancel()
				}()
			}
			began := time.Now()
			err := run(box.Shell(ctx, "echo before; sleep "+mark))
			cancel()
			if !errors.Is(err, cause) {
				t.Errorf("%s, %v: %v", name, cause, err)
			}
			var e *Error
			// A cancelled one may be seen in the sandbox before its start is known here, where there is no output yet.
			collects := cause == context.DeadlineExceeded && (name == "output" || name == "collect")
			if collects && (!errors.As(err, &e) || string(e.Stdout) != "before\n") {
				t.Errorf("%s, %v: output %+v", name, cause, e)
			}
			if took := time.Since(began); took > 30*time.Second {
				t.Errorf("%s, %v took %v", name, cause, took)
			}
			gone(t, box, "sleep "+mark)
		}
	}
}

func TestATimeoutIsNoContext(t *testing.T) {
	cmd := box(t).Shell(t.Context(), "echo before; sleep 60")
	cmd.Timeout = 300 * time.Millisecond
	out, err := cmd.Output()
	if !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || string(out) != "before\n" {
		t.Errorf("%q %v", out, err)
	}
}

func TestAPanicComesOutOfTheCall(t *testing.T) {
	box := box(t)
	for name, ctx := range map[string]context.Context{"direct": context.Background(), "spawned": t.Context()} {
		mark := fmt.Sprintf("%d", 200000+time.Now().UnixNano()%100000)
		line := "echo now; sleep " + mark
		for what, call := range map[string]func(do func()) error{
			"stream": func(do func()) error {
				return box.Shell(ctx, line).Stream(func(Stream, []byte) error { do(); return nil })
			},
			"writer": func(do func()) error {
				cmd := box.Shell(ctx, line)
				cmd.Stdout = writerFunc(func([]byte) error { do(); return nil })
				return cmd.Run()
			},
			"upload": func(do func()) error {
				_, err := box.UploadFrom(ctx, zeros{}, "/tmp/panic", &TransferOptions{Progress: func(Progress) error { do(); return nil }})
				return err
			},
		} {
			value := func() (value any) {
				defer func() { value = recover() }()
				t.Error(call(func() { panic("mine") }))
				return nil
			}()
			if value != "mine" {
				t.Errorf("%s, %s: %v", name, what, value)
			}
			if what != "writer" {
				isGone := make(chan bool, 1)
				go func() {
					defer close(isGone)
					call(runtime.Goexit)
					isGone <- true
				}()
				if <-isGone {
					t.Errorf("%s, %s goes on after Goexit", name, what)
				}
			}
			mine := errors.New("mine")
			if what == "stream" {
				err := box.Shell(ctx, line).Stream(func(Stream, []byte) error { return mine })
				if !errors.Is(err, mine) || !errors.Is(err, ErrCancelled) {
					t.Error(err)
				}
			}
		}
		gone(t, box, "sleep "+mark)
	}
	if exists, err := box.Exists(t.Context(), "/tmp/panic"); exists || err != nil {
		t.Error(exists, err)
	}
}

func TestAPanicOfAWriterEndsTheWait(t *testing.T) {
	for name, do := range map[string]func(){"panic": func() { panic("mine") }, "Goexit": runtime.Goexit} {
		cmd := box(t).Shell(t.Context(), "echo now; exec sleep 60")
		cmd.Stdout = writerFunc(func([]byte) error { do(); return nil })
		// It stays open.
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		type ending struct{ value, err any }
		ended := make(chan ending, 1)
		go func() {
			result := ending{err: "none"}
			defer func() { result.value = recover(); ended <- result }()
			result.err = cmd.Run()
		}()
		select {
		case result := <-ended:
			if (result.value == "mine") != (name == "panic") || result.err != "none" {
				t.Errorf("%s: %+v", name, result)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: the wait goes on", name)
		}
	}
}

func TestWhatIsThereIsNotMissed(t *testing.T) {
	results := make(chan int, 1)
	for number := range 1000 {
		results <- number
		if result, isThere := within(results, time.Time{}); !isThere || result != number {
			t.Fatal(number, result, isThere)
		}
	}
	if _, isThere := within(results, time.Time{}); isThere {
		t.Error("a result that nobody sent")
	}
	// The proof of an end and what belongs to the command share the time.
	cmd := &Cmd{WaitDelay: time.Hour}
	if first := cmd.lastMoment(); time.Until(first) < 59*time.Minute || cmd.lastMoment() != first {
		t.Error(first)
	}
}

func TestTwoHundredGoroutinesAndNothingIsLeft(t *testing.T) {
	if err := endShared(); err != nil {
		t.Error(err)
	}
	await(t, "the handles of earlier tests are freed", func() bool { runtime.GC(); return handles.Load() == 0 })
	await(t, fmt.Sprint("the threads of earlier tests have ended: ", threads()), func() bool { return len(threads()) == 0 })
	// What is opened once per process and kept: a pair of sockets for signals by tokio, those of its poller by Go.
	newClient(t).Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	writer.Close()
	goroutines, descriptorsBefore := runtime.NumGoroutine(), descriptors()
	creator, client := newClient(t), newClient(t)
	created, err := creator.Create(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Another client than the sandbox's own, whose key is not known there yet.
	box, err := client.Attach(t.Context(), created.Name())
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for number := range 200 {
		all.Add(1)
		go func() {
			defer all.Done()
			ctx, text := context.Background(), fmt.Sprint(number)
			if number%2 == 0 {
				ctx = t.Context()
			}
			switch number % 4 {
			case 0, 1:
				output, err := box.Execute(ctx, "echo "+text)
				if err != nil || string(output.Stdout) != text+"\n" {
					t.Error(number, err)
				}
			case 2:
				name := "/tmp/goroutine-" + text
				if err := box.WriteFile(ctx, name, []byte(text), 0o600); err != nil {
					t.Error(number, err)
				}
				if contents, err := box.ReadFile(ctx, name); err != nil || string(contents) != text {
					t.Error(number, err)
				}
			default:
				var stdout bytes.Buffer
				cmd := box.Command(ctx, "cat")
				cmd.Stdin, cmd.Stdout = io.MultiReader(strings.NewReader(text)), &stdout
				if err := cmd.Run(); err != nil || stdout.String() != text {
					t.Error(number, err)
				}
			}
		}()
	}
	all.Wait()
	if idle, busy := box.SessionCounts(); idle > 16 || busy != 0 {
		t.Errorf("%d idle and %d busy sessions", idle, busy)
	}
	// One that was started and forgotten, and one handle.
	if err := box.Command(context.Background(), "true").Start(); err != nil {
		t.Error(err)
	}
	if _, err := client.Attach(t.Context(), box.Name()); err != nil {
		t.Error(err)
	}
	box.Close()
	client.Close()
	if err := created.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	creator.Close()
	await(t, "handles are freed", func() bool { runtime.GC(); return handles.Load() == 0 })
	await(t, "goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
	await(t, fmt.Sprint("these threads have ended: ", threads()), func() bool { return len(threads()) == 0 })
	await(t, fmt.Sprint("descriptors are closed: ", descriptors(), " and before ", descriptorsBefore), func() bool {
		return len(descriptors()) <= len(descriptorsBefore)
	})
}

func TestCloseWaitsForNobodyAndBreaksNothing(t *testing.T) {
	client := newClient(t)
	box, err := client.Attach(t.Context(), box(t).Name())
	if err != nil {
		t.Fatal(err)
	}
	var calls sync.WaitGroup
	for range 20 {
		calls.Add(1)
		go func() {
			defer calls.Done()
			if output, err := box.Execute(context.Background(), "echo fine"); err != nil {
				if !errors.Is(err, os.ErrClosed) {
					t.Error(err)
				}
			} else if string(output.Stdout) != "fine\n" {
				t.Errorf("%q", output.Stdout)
			}
		}()
	}
	client.Close()
	box.Close()
	box.Close()
	calls.Wait()
	if _, err := box.Execute(t.Context(), "true"); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if err := box.Command(t.Context(), "true").Run(); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if err := box.Delete(t.Context()); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}
