package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"
)

func TestASandboxThatIsCreatedTooLateIsDeleted(t *testing.T) {
	client := newClient(t)
	defer client.Close()
	name := fmt.Sprintf("go-late-%d", os.Getpid())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		// Once it is there, but does not take commands yet; or a bit later.
		await(t, "the Pod is there", func() bool { _, err := client.GetSandboxInfo(t.Context(), name); return err == nil })
		cancel()
	}()
	box, err := client.Create(ctx, &Spec{Name: name})
	if err == nil {
		// It was faster than the request above.
		t.Log("it was created in time")
		if err := box.Delete(t.Context()); err != nil {
			t.Error(err)
		}
	} else if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	await(t, "the Pod is gone", func() bool {
		_, err := client.GetSandboxInfo(t.Context(), name)
		return errors.Is(err, ErrNotFound)
	})
}

func TestDetachedOutlivesItsContext(t *testing.T) {
	box := box(t)
	ctx, cancel := context.WithCancel(t.Context())
	detached, err := box.Shell(ctx, "echo one; until [ -e go ]; do sleep 0.05; done; echo two").Detach("outlives")
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	short, cancelIt := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancelIt()
	if _, err := detached.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	short, cancelIt = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancelIt()
	position, text := &Position{}, ""
	receive := func(stream Stream, data []byte) error { text += string(data); return nil }
	if _, err := detached.Stream(short, position, receive); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if _, err := box.Execute(t.Context(), "touch go"); err != nil {
		t.Error(err)
	}
	state, err := detached.Stream(t.Context(), position, receive)
	if err != nil || !state.Success() || text != "one\ntwo\n" {
		t.Error(state, err, text)
	}
	if err := detached.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := detached.TryWait(t.Context()); !errors.Is(err, ErrDetachedNotFound) {
		t.Error(err)
	}
	slow := box.Shell(t.Context(), "sleep 60")
	slow.Timeout = time.Second
	if detached, err = slow.Detach("slow"); err != nil {
		t.Fatal(err)
	}
	if _, err := detached.Wait(t.Context()); !errors.Is(err, ErrTimedOut) || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}
