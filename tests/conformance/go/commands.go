package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"sandbox.invalid/sandbox"
)

func run(w *world) {
	args := []string{"a b", `"double" 'single'`, "two\nlines", "\xff\xfe", "", "$HOME"}
	out, err := w.box.Command(w.ctx, "printf", append([]string{"%s\\0"}, args...)...).Output()
	succeeds(err)
	equal(string(out), strings.Join(args, "\x00")+"\x00")
	cmd := w.box.Command(w.ctx, "sh", "-c", "echo $VARIABLE; pwd; id -un")
	cmd.Env, cmd.Dir, cmd.User = []string{"VARIABLE=a=b c"}, "/usr/lib", "sandbox"
	out, err = cmd.Output()
	succeeds(err)
	equal(string(out), "a=b c\n/usr/lib\nsandbox\n")
	out, err = w.box.Shell(w.ctx, `echo "$2" | tr a-z A-Z && echo $GREETING`, "one", "two words").Output()
	succeeds(err)
	equal(string(out), "TWO WORDS\nhello, you\n")
}

func streams(w *world) {
	cmd := w.box.Command(w.ctx, "cat")
	stdin, err := cmd.StdinPipe()
	succeeds(err)
	stdout, err := cmd.StdoutPipe()
	succeeds(err)
	succeeds(cmd.Start())
	lines := bufio.NewReader(stdout)
	for number := range 3 {
		line := fmt.Sprintf("line %d\n", number)
		_, err := io.WriteString(stdin, line)
		succeeds(err)
		back, err := lines.ReadString('\n')
		succeeds(err)
		equal(back, line)
	}
	succeeds(stdin.Close())
	_, err = lines.ReadByte()
	equal(err, io.EOF)
	succeeds(cmd.Wait())

	output, err := w.box.Execute(w.ctx, "echo out; echo err >&2")
	succeeds(err)
	equal(string(output.Stdout)+"|"+string(output.Stderr), "out\n|err\n")
	both, err := w.box.Shell(w.ctx, "echo 1; echo 2 >&2; echo 3; echo 4 >&2").CombinedOutput()
	succeeds(err)
	equal(string(both), "1\n2\n3\n4\n")

	cancellable, cancel := context.WithCancel(w.ctx)
	defer cancel()
	for _, ctx := range []context.Context{w.ctx, cancellable} {
		// It goes on when it sees that its first output has arrived.
		w.sh("rm -f /tmp/arrived")
		var seen []string
		line := "echo first; until [ -e /tmp/arrived ]; do sleep 0.02; done; echo second >&2"
		succeeds(w.box.Shell(ctx, line).Stream(func(stream sandbox.Stream, data []byte) error {
			seen = append(seen, fmt.Sprint(stream, " ", string(data)))
			return w.box.WriteFile(w.ctx, "/tmp/arrived", nil, 0o644)
		}))
		equal(strings.Join(seen, ""), "1 first\n2 second\n")
	}
	var stderr bytes.Buffer
	cmd = w.box.Shell(w.ctx, "echo thrown away; echo kept >&2")
	cmd.Stderr = &stderr
	succeeds(cmd.Run())
	equal(stderr.String(), "kept\n")
	succeeds(w.box.Shell(w.ctx, "echo nobody reads this").Run())
}

func exitStatus(w *world) {
	for _, code := range []int{0, 3, 255} {
		output, err := w.box.Execute(w.ctx, fmt.Sprintf("exit %d", code))
		succeeds(err)
		check(output.ExitCode() == code && output.Exited() && output.Signal() == "" && output.Success() == (code == 0), "%v", output)
	}
	output, err := w.box.Execute(w.ctx, "kill -KILL $$")
	succeeds(err)
	check(output.ExitCode() == -1 && !output.Exited() && output.Signal() == "KILL" && !output.Success(), "%v", output)
	output, err = w.box.Execute(w.ctx, "echo first >&2; echo the last line >&2; exit 7")
	succeeds(err)
	e := fails(output.Check(), sandbox.ErrCommandFailed)
	check(strings.Contains(e.Message, "7") && strings.Contains(e.Message, "the last line"), "%s", e.Message)
	var failed *sandbox.ExitError
	check(errors.As(w.box.Shell(w.ctx, "exit 4").Run(), &failed) && failed.ExitCode() == 4, "%v", failed)
	fails(w.box.Command(w.ctx, "no-such-program").Run(), sandbox.ErrCommand)
	_, err = w.box.Command(w.ctx, "no-such-program").Output()
	fails(err, sandbox.ErrCommand)
}

func timeout(w *world) {
	began := time.Now()
	cmd := w.box.Shell(w.ctx, "echo so far; sleep 60.1")
	cmd.Timeout = 4 * time.Second
	_, err := cmd.Collect()
	e := fails(err, sandbox.ErrTimedOut, os.ErrDeadlineExceeded)
	equal(string(e.Stdout), "so far\n")
	check(!errors.Is(err, context.DeadlineExceeded), "no context was the cause")
	check(!w.runs("sleep 60.1"), "it still runs")
	ctx, cancel := context.WithTimeout(w.ctx, 4*time.Second)
	defer cancel()
	_, err = w.box.Execute(ctx, "echo so far; sleep 60.2")
	e = fails(err, sandbox.ErrTimedOut, os.ErrDeadlineExceeded, context.DeadlineExceeded)
	equal(string(e.Stdout), "so far\n")
	check(!w.runs("sleep 60.2"), "it still runs")
	check(time.Since(began) < 30*time.Second, "it took %v", time.Since(began))
}

func cancel(w *world) {
	for number, how := range []string{"kill", "signal", "context"} {
		line := fmt.Sprintf("sleep 61.%d", number)
		ctx, cancel := context.WithCancel(w.ctx)
		defer cancel()
		cmd := w.box.Shell(ctx, line)
		succeeds(cmd.Start())
		state, err := cmd.Process.TryWait()
		check(state == nil && err == nil && cmd.Process.ID() != "", "%v %v", state, err)
		ended := make(chan error)
		go func() { ended <- cmd.Wait() }()
		await("it runs", func() bool { return w.runs(line) })
		began := time.Now()
		switch how {
		case "kill":
			succeeds(cmd.Process.Kill())
		case "signal":
			fails(cmd.Process.Signal("no signal"), sandbox.ErrInvalidArgument)
			succeeds(cmd.Process.Signal("TERM"))
		default:
			cancel()
		}
		err = <-ended
		check(time.Since(began) < 30*time.Second, "it took %v", time.Since(began))
		if how == "context" {
			fails(err, context.Canceled, sandbox.ErrCancelled)
		} else {
			fails(err, sandbox.ErrCommandFailed)
			equal(cmd.ProcessState.Signal(), map[string]string{"kill": "KILL", "signal": "TERM"}[how])
		}
		w.gone(line)
	}
}

func terminal(w *world) {
	cmd := w.box.Shell(w.ctx, "stty size; read line; stty size")
	cmd.Terminal = &sandbox.Terminal{Kind: "xterm-256color", Columns: 100, Rows: 30}
	stdin, err := cmd.StdinPipe()
	succeeds(err)
	stdout, err := cmd.StdoutPipe()
	succeeds(err)
	succeeds(cmd.Start())
	lines := bufio.NewReader(stdout)
	line, err := lines.ReadString('\n')
	succeeds(err)
	equal(line, "30 100\r\n")
	succeeds(cmd.Process.Resize(120, 40))
	_, err = io.WriteString(stdin, "\n")
	succeeds(err)
	rest, err := io.ReadAll(lines)
	succeeds(err)
	check(strings.Contains(string(rest), "40 120\r\n"), "%q", rest)
	succeeds(cmd.Wait())
}

func detached(w *world) {
	start := func() *sandbox.Detached {
		detached, err := w.box.Shell(w.ctx, "echo ran >>/tmp/ran; echo out; echo err >&2; exit 5").Detach("key-1")
		succeeds(err)
		return detached
	}
	first, second := start(), start()
	equal(first.Key(), "key-1")
	state, err := second.Wait(w.ctx)
	succeeds(err)
	equal(state.ExitCode(), 5)
	equal(w.sh("cat /tmp/ran"), "ran\n")
	_, err = w.box.Shell(w.ctx, "echo another").Detach("key-1")
	fails(err, sandbox.ErrConflict)
	client, err := sandbox.NewClient(w.config())
	succeeds(err)
	defer client.Close()
	box, err := client.Attach(w.ctx, w.unique)
	succeeds(err)
	found, err := box.Detached("key-1")
	succeeds(err)
	state, err = found.TryWait(w.ctx)
	succeeds(err)
	equal(state.ExitCode(), 5)
	read, err := found.Read(w.ctx, sandbox.Stdout, 1, 100)
	succeeds(err)
	equal(string(read), "ut\n")
	ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
	defer cancel()
	position, text := sandbox.Position{Stdout: 2}, ""
	state, err = found.Stream(ctx, &position, func(stream sandbox.Stream, data []byte) error {
		text += fmt.Sprint(stream, string(data))
		return nil
	})
	succeeds(err)
	equal(state.ExitCode(), 5)
	check(text == "1t\n2err\n" || text == "2err\n1t\n", "%q", text)
	equal(position, sandbox.Position{Stdout: 4, Stderr: 4})
	succeeds(found.Remove(w.ctx))
	_, err = first.TryWait(w.ctx)
	fails(err, sandbox.ErrDetachedNotFound)
	sleeper, err := w.box.Command(w.ctx, "sleep", "62").Detach("key-2")
	succeeds(err)
	fails(sleeper.Remove(w.ctx), sandbox.ErrConflict)
	state, err = sleeper.TryWait(w.ctx)
	check(state == nil && err == nil, "%v %v", state, err)
	succeeds(sleeper.Kill(w.ctx))
	check(!w.runs("sleep 62"), "it still runs")
	state, err = sleeper.Wait(ctx)
	succeeds(err)
	equal(state.Signal(), "KILL")
	succeeds(sleeper.Signal(w.ctx, "TERM"))
	succeeds(sleeper.Remove(w.ctx))
	_, err = w.box.Detached("no key")
	fails(err, sandbox.ErrInvalidArgument)
}

func allBytes(w *world) {
	all := make([]byte, 256)
	for value := range all {
		all[value] = byte(value)
	}
	file := w.path("bytes")
	succeeds(os.WriteFile(file, all, 0o600))
	opened, err := os.Open(file)
	succeeds(err)
	defer opened.Close()
	reader, writer := io.Pipe()
	go func() { writer.Write(all); writer.Close() }()
	for _, stdin := range []io.Reader{bytes.NewReader(all), opened, reader} {
		cmd := w.box.Command(w.ctx, "cat")
		cmd.Stdin = stdin
		out, err := cmd.Output()
		succeeds(err)
		same(out, all)
	}
	for _, stdin := range []io.Reader{nil, strings.NewReader(""), io.MultiReader()} {
		cmd := w.box.Command(w.ctx, "cat")
		cmd.Stdin = stdin
		out, err := cmd.Output()
		succeeds(err)
		equal(len(out), 0)
	}
	fails(w.box.Command(w.ctx, "echo", "a\x00b").Run(), sandbox.ErrInvalidArgument)
	fails(w.box.Command(w.ctx, "a\x00b").Run(), sandbox.ErrInvalidArgument)
}

// noise is bytes that no compression or text handling leaves alone.
func noise(length int) []byte {
	bytes, sum := make([]byte, 0, length+sha256.Size), sha256.Sum256(nil)
	for len(bytes) < length {
		bytes = append(bytes, sum[:]...)
		sum = sha256.Sum256(sum[:])
	}
	return bytes[:length]
}

func large(w *world) {
	input := noise(16 << 20)
	for _, stdin := range []io.Reader{bytes.NewReader(input), io.MultiReader(bytes.NewReader(input))} {
		cmd := w.box.Command(w.ctx, "sha256sum")
		cmd.Stdin = stdin
		out, err := cmd.Output()
		succeeds(err)
		equal(string(out), fmt.Sprintf("%x  -\n", sha256.Sum256(input)))
	}
	cmd := w.box.Command(w.ctx, "cat")
	var output bytes.Buffer
	cmd.Stdin, cmd.Stdout = bytes.NewReader(input), &output
	succeeds(cmd.Run())
	same(output.Bytes(), input)
	limited := w.box.Command(w.ctx, "cat")
	limited.Stdin, limited.OutputLimit = bytes.NewReader(input), 1000
	kept, err := limited.Collect()
	succeeds(err)
	same(kept.Stdout, input[:1000])
	equal(kept.Truncated, 16<<20-1000)
}

func callback(w *world) {
	cancellable, cancel := context.WithCancel(w.ctx)
	defer cancel()
	for number, ctx := range []context.Context{w.ctx, cancellable} {
		sleep := fmt.Sprintf("sleep 63.%d", number)
		mine := errors.New("enough")
		err := w.box.Shell(ctx, "echo now; "+sleep).Stream(func(sandbox.Stream, []byte) error { return mine })
		fails(err, sandbox.ErrCancelled, mine)
		w.gone(sleep)
		value := func() (value any) {
			defer func() { value = recover() }()
			_ = w.box.Shell(ctx, "echo now; "+sleep).Stream(func(sandbox.Stream, []byte) error { panic(mine) })
			return nil
		}()
		equal(value, any(mine))
		w.gone(sleep)
		_, err = w.box.UploadFrom(ctx, strings.NewReader("text"), "/tmp/stopped", &sandbox.TransferOptions{
			Progress: func(sandbox.Progress) error { return mine },
		})
		fails(err, sandbox.ErrCancelled, mine)
		exists, err := w.box.Exists(ctx, "/tmp/stopped")
		check(err == nil && !exists, "%v %v", exists, err)
		equal(w.sh("echo on"), "on\n")
	}
}

func threads(w *world) {
	client, err := sandbox.NewClient(w.config())
	succeeds(err)
	defer client.Close()
	box, err := client.Attach(w.ctx, w.unique)
	succeeds(err)
	defer box.Close()
	var all sync.WaitGroup
	wrong := make(chan string, 80)
	for range 8 {
		all.Add(1)
		go func() {
			defer all.Done()
			for range 10 {
				text := rand.Text()
				output, err := box.Command(w.ctx, "echo", text).Output()
				if err != nil || string(output) != text+"\n" {
					wrong <- string(output)
				}
			}
		}()
	}
	all.Wait()
	equal(len(wrong), 0)
	idle, busy := box.SessionCounts()
	check(idle >= 1 && idle <= 8 && busy == 0, "%d idle and %d busy sessions", idle, busy)
}

// Go does not fork: another program inherits no connection.
func fork(w *world) {
	w.sh("true")
	listing, err := exec.Command("ls", "-l", "/proc/self/fd").CombinedOutput()
	succeeds(err)
	check(!strings.Contains(string(listing), "socket:"), "%s", listing)
	equal(w.sh("echo on"), "on\n")
}
