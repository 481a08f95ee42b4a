package sandbox

import (
	"context"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
)

// everything is one of each kind of handle, with a name.
func everything(t *testing.T) map[string]io.Closer {
	t.Helper()
	own := *config
	client, err := NewClient(&own)
	if err != nil {
		t.Fatal(err)
	}
	attached, err := client.Attach(t.Context(), box(t).Name())
	if err != nil {
		t.Fatal(err)
	}
	cmd := attached.Command(context.Background(), "cat")
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		cmd.Wait()
	}()
	file, err := attached.Open(context.Background(), "/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	detached, err := attached.Detached("nothing")
	if err != nil {
		t.Fatal(err)
	}
	kill := closerFunc(func() { cmd.Process.Kill() })
	return map[string]io.Closer{
		"client": client, "sandbox": attached, "input": input, "output": output, "process": kill, "file": file,
		"detached": detached,
	}
}

type closerFunc func()

func (f closerFunc) Close() error {
	f()
	return nil
}

func TestHandlesEndInAnyOrder(t *testing.T) {
	box(t)
	before := handles.Load()
	for range 5 {
		things := everything(t)
		names := make([]string, 0, len(things))
		for name := range things {
			names = append(names, name)
		}
		rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		t.Log(names)
		for range 2 {
			for _, name := range names {
				things[name].Close()
			}
		}
	}
	// By several at once, each twice.
	for range 3 {
		var all sync.WaitGroup
		for _, thing := range everything(t) {
			for range 4 {
				all.Add(1)
				go func() {
					defer all.Done()
					thing.Close()
					thing.Close()
				}()
			}
		}
		all.Wait()
	}
	await(t, "all are freed", func() bool { runtime.GC(); return handles.Load() <= before })
	if _, err := box(t).Execute(t.Context(), "true"); err != nil {
		t.Error(err)
	}
}

// A user has what is forgotten together with it, and uses it in its finalizer.
type user struct {
	things map[string]io.Closer
	file   *File
}

func TestWhatIsForgottenIsFreedAfterItsLastUser(t *testing.T) {
	box(t)
	before, read := handles.Load(), make(chan error, 5)
	for range cap(read) {
		things := everything(t)
		forgotten := &user{things: things, file: things["file"].(*File)}
		things["process"].Close()
		runtime.SetFinalizer(forgotten, func(u *user) {
			// A finalizer must not block.
			go func() {
				_, err := u.file.Read(make([]byte, 8))
				u.things["client"].Close()
				read <- err
			}()
		})
	}
	for range cap(read) {
		var err error
		isRead := false
		await(t, "a finalizer has run", func() bool {
			runtime.GC()
			select {
			case err = <-read:
				isRead = true
			default:
			}
			return isRead
		})
		if err != nil {
			t.Error(err)
		}
	}
	await(t, "all are freed", func() bool { runtime.GC(); return handles.Load() <= before })
}
