package sandbox_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"sandbox.invalid/sandbox"
)

// created makes a sandbox as the first example does.
func created() *sandbox.Sandbox { return sandbox.SharedBox() }

func Example() {
	ctx := context.Background()
	client, err := sandbox.NewClient(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	box, err := client.Create(ctx, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer box.Delete(ctx)
	output, err := box.Execute(ctx, "echo hello; exit 3")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%q, %v\n", output.Stdout, output)
	// Output: "hello\n", exit status 3
}

func ExampleSandbox_Command() {
	ctx, box := context.Background(), created()
	pattern, file := "no such word", strings.NewReader("one\ntwo\nthree\n")
	cmd := box.Command(ctx, "grep", "-c", pattern) // no shell sees the arguments; box.Shell takes a line for one
	cmd.Stdin = file                               // any io.Reader
	out, err := cmd.Output()

	var failed *sandbox.ExitError
	if errors.As(err, &failed) && failed.ExitCode() == 1 {
		fmt.Println("no line has it")
	}
	fmt.Printf("%s", out)
	// Output:
	// no line has it
	// 0
}

func ExampleCmd_Stream() {
	ctx, box := context.Background(), created()
	enough := errors.New("enough")
	lines := 0
	err := box.Command(ctx, "yes").Stream(func(_ sandbox.Stream, data []byte) error {
		if lines += strings.Count(string(data), "\n"); lines > 1000 {
			return enough // kills the command
		}
		return nil
	})
	fmt.Println(errors.Is(err, enough), errors.Is(err, sandbox.ErrCancelled))
	// Output: true true
}

func ExampleCmd_Detach() {
	ctx, box := context.Background(), created()
	started, err := box.Shell(ctx, "echo done").Detach("nightly")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer started.Remove(ctx)
	// Here, or in another process that has attached the sandbox:
	found, err := box.Detached("nightly")
	if err != nil {
		fmt.Println(err)
		return
	}
	state, err := found.Wait(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := found.Read(ctx, sandbox.Stdout, 0, 100)
	fmt.Printf("%v, %q, %v\n", state, text, err)
	// Output: exit status 0, "done\n", <nil>
}

func ExampleSandbox_FS() {
	ctx, box := context.Background(), created()
	err := errors.Join(
		box.MkdirAll(ctx, "/tmp/project/src", 0o755),
		box.WriteFile(ctx, "/tmp/project/src/main.py", []byte("print('hello')\n"), 0o644),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer box.RemoveAll(ctx, "/tmp/project")
	err = fs.WalkDir(box.FS(ctx, "/tmp/project"), ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Println(path, entry.IsDir())
		return nil
	})
	fmt.Println(err)
	// Output:
	// . true
	// src true
	// src/main.py false
	// <nil>
}

func ExampleSandbox_UploadFrom() {
	ctx, box := context.Background(), created()
	source := strings.NewReader("any io.Reader")
	options := &sandbox.TransferOptions{Checksum: true, Progress: func(p sandbox.Progress) error {
		// An error stops the transfer.
		return nil
	}}
	transferred, err := box.UploadFrom(ctx, source, "/tmp/uploaded", options)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d bytes, SHA-256 %x…\n", transferred.Bytes, transferred.SHA256[:4])
	// Output: 13 bytes, SHA-256 b5b01b6f…
}

func ExampleSandbox_Forward() {
	ctx, box := context.Background(), created()
	server := box.Command(ctx, "python3", "-m", "http.server", "--bind", "127.0.0.1", "8080")
	web, err := server.Detach("web")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer web.Kill(ctx)
	if err := box.WaitForPort(ctx, "8080"); err != nil { // in the sandbox, without a connection
		fmt.Println(err)
		return
	}
	forward, err := box.Forward(ctx, "0", "8080") // listens until Close, or until the Pod ends
	if err != nil {
		fmt.Println(err)
		return
	}
	defer forward.Close()
	through := http.Client{Transport: &http.Transport{DialContext: box.Dial}} // without a listener
	for url, client := range map[string]*http.Client{
		"http://" + forward.Local(): http.DefaultClient,
		"http://localhost:8080/":    &through,
	} {
		answer, err := client.Get(url)
		if err != nil {
			fmt.Println(err)
			return
		}
		_, err = io.Copy(io.Discard, answer.Body)
		fmt.Println(answer.Status, err, answer.Body.Close())
	}
	// Output:
	// 200 OK <nil> <nil>
	// 200 OK <nil> <nil>
}

func ExamplePool() {
	ctx := context.Background()
	client, err := sandbox.NewClient(nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	// Any process that opens it under this name fills the same pool, or claims from it.
	pool, err := client.Pool("graders", nil, &sandbox.PoolOptions{Size: 1, KeepFilled: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()
	box, err := pool.Claim(ctx, &sandbox.Claim{Env: map[string]string{"TASK": "17"}, OnMiss: sandbox.OnMissWait})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer box.Delete(ctx)
	task, err := box.Command(ctx, "printenv", "TASK").Output()
	fmt.Printf("%q, %v\n", task, err)
	_, err = pool.Remove(ctx)
	fmt.Println(err)
	// Output:
	// "17\n", <nil>
	// <nil>
}

func ExampleError() {
	ctx, box := context.Background(), created()
	_, err := box.ReadFile(ctx, "/no/such/file")
	var e *sandbox.Error
	switch {
	case errors.Is(err, fs.ErrNotExist): // sandbox.ErrFileNotFound says the same
		fmt.Println("not there")
	case errors.As(err, &e):
		fmt.Println(e.Kind, e.Message, e.Verdict)
	}
	// Output: not there
}
