package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"errors"
	"time"
	"unsafe"
)

// A Stream is one of the two output streams of a command.
type Stream int32

// The output streams of a command.
const (
	// Standard output.
	Stdout Stream = C.SBX_STREAM_STDOUT
	// Standard error.
	Stderr Stream = C.SBX_STREAM_STDERR
)

// A Detached is a command that runs in the sandbox whether anybody is connected or not; made by [Cmd.Detach] or
// [Sandbox.Detached]. Its output and its status stay in the sandbox until [Detached.Remove]. Other processes may use it
// too, under its key.
type Detached struct {
	handle  *handle[*C.sbx_detached]
	key     string
	sandbox string
	turns   *turns
}

// Detached is a handle for the command that [Cmd.Detach] started under this key, in this process or another. No request
// is sent: only the first use of the handle tells whether the command exists. [ErrInvalidArgument] if the key is
// invalid.
func (s *Sandbox) Detached(key string) (*Detached, error) {
	op := s.order("detached command")
	op.texts = []string{key}
	return newDetached(s, context.Background(), op, s.handle, func(sandbox *C.sbx_sandbox, detached **C.sbx_detached,
		err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_detached(sandbox, text(key), detached, err)
	})
}

func newDetached[P comparable](s *Sandbox, ctx context.Context, op operation, from *handle[P],
	call func(pointer P, detached **C.sbx_detached, err **C.sbx_error) C.sbx_status) (*Detached, error) {
	free := func(detached *C.sbx_detached) { C.sbx_detached_free(detached) }
	detached, err := ask(ctx, op, from, func(pointer P) (detached *C.sbx_detached, err error) {
		err = invoke(func(err **C.sbx_error) C.sbx_status { return call(pointer, &detached, err) })
		return detached, err
	}, free)
	if err != nil {
		return nil, err
	}
	return &Detached{newHandle(detached, free), C.GoString(C.sbx_detached_key(detached)), s.name, s.turns}, nil
}

func (d *Detached) operation(texts ...string) operation {
	return operation{"detached command", d.sandbox, texts, d.turns}
}

// Close frees the handle. The command runs on, and is found again under its key. It always returns nil, and is there
// for io.Closer.
func (d *Detached) Close() error {
	d.handle.close()
	return nil
}

// Key is the key that it was started with.
func (d *Detached) Key() string { return d.key }

// TryWait is how the command ended, or nil while it runs. It does not wait for it.
//
// [ErrDetachedNotFound] if no command has this key; [ErrTimedOut] if its own timeout ended it; [ErrCommand] if it did
// not run; [ErrOutcomeUnknown] if the process that supervises it in the sandbox was killed; [ErrConnect] and its like
// if the sandbox can't be reached.
func (d *Detached) TryWait(ctx context.Context) (*ProcessState, error) {
	return ask(ctx, d.operation(), d.handle, func(detached *C.sbx_detached) (*ProcessState, error) {
		return exitStatus(func(exitStatus **C.sbx_exit_status, err **C.sbx_error) C.sbx_status {
			return C.sbx_detached_try_wait(detached, nil, exitStatus, err)
		})
	}, nil)
}

// Wait waits until the command has ended, or the context is done; the command goes on then. Else it fails as
// [Detached.TryWait].
func (d *Detached) Wait(ctx context.Context) (*ProcessState, error) {
	// What nobody waits for any more goes on in the background, but no longer than this.
	piece := NoLimit
	if ctx.Done() != nil {
		piece = 5 * time.Second
	}
	for {
		state, err := ask(ctx, d.operation(), d.handle, func(detached *C.sbx_detached) (*ProcessState, error) {
			return exitStatus(func(exitStatus **C.sbx_exit_status, err **C.sbx_error) C.sbx_status {
				return C.sbx_detached_wait(detached, seconds(piece), exitStatus, err)
			})
		}, nil)
		if ctx.Err() != nil || !errors.Is(err, ErrTimedOut) {
			return state, err
		}
		// Whether it still runs, or its own timeout has ended it.
		if state, err := d.TryWait(ctx); state != nil || err != nil {
			return state, err
		}
	}
}

// Read reads what the command has written so far to a stream, starting at byte offset: at most limit bytes. It does not
// wait. No bytes means that there is no more output yet, or none at all if the command has ended.
func (d *Detached) Read(ctx context.Context, stream Stream, offset uint64, limit int) ([]byte, error) {
	return ask(ctx, d.operation(), d.handle, func(detached *C.sbx_detached) ([]byte, error) {
		return contents(func(bytes **C.sbx_bytes, err **C.sbx_error) C.sbx_status {
			return C.sbx_detached_read(detached, C.int32_t(stream), C.uint64_t(offset), C.size_t(max(limit, 0)), bytes, err)
		})
	}, nil)
}

// A Position is how much of the output of a detached command was received, in bytes.
type Position struct {
	// Of the standard output, of the standard error.
	Stdout, Stderr uint64
}

// Stream hands the output to receive as it comes, from the position on, until the command has ended. It calls receive
// as [Cmd.Stream] does, and moves the position along, so that after an error the same call continues where this one
// stopped. A nil position is the beginning. An error of receive, a panic, or the end of the context ends the call, not
// the command.
//
// Once the context is done it returns at once; the SSH session of the call is free again when the command writes
// something more or ends.
func (d *Detached) Stream(ctx context.Context, position *Position, receive func(stream Stream, data []byte) error) (*ProcessState, error) {
	if position == nil {
		position = &Position{}
	}
	c := &conversation{receive: func(stream Stream, data []byte) error {
		err := receive(stream, data)
		switch {
		case err != nil:
		case stream == Stdout:
			position.Stdout += uint64(len(data))
		default:
			position.Stderr += uint64(len(data))
		}
		return err
	}}
	out, err := C.uint64_t(position.Stdout), C.uint64_t(position.Stderr)
	return talk(ctx, d.operation(), d.handle, 0, c, func(detached *C.sbx_detached, userdata unsafe.Pointer) (*ProcessState, error) {
		return exitStatus(func(exitStatus **C.sbx_exit_status, failure **C.sbx_error) C.sbx_status {
			return C.sbx_detached_stream(detached, &out, &err, onReceive, userdata, exitStatus, failure)
		})
	})
}

// Kill kills the command and all its descendants, also those that left its process group, and returns when they are
// gone. It does nothing if the command has ended.
//
// [ErrDetachedNotFound] if no command has this key; [ErrCommand] if some process can't be killed.
func (d *Detached) Kill(ctx context.Context) error {
	return tell(ctx, d.operation(), d.handle, func(detached *C.sbx_detached, err **C.sbx_error) C.sbx_status {
		return C.sbx_detached_kill(detached, err)
	})
}

// Signal sends the command's process group a signal, named without SIG, such as "INT" or "TERM". Does nothing if the
// command has ended. [ErrInvalidArgument] if there is no signal of this name; else as [Detached.Kill].
func (d *Detached) Signal(ctx context.Context, name string) error {
	return tell(ctx, d.operation(name), d.handle, func(detached *C.sbx_detached, err **C.sbx_error) C.sbx_status {
		return C.sbx_detached_signal(detached, text(name), err)
	})
}

// Remove removes the output and the status of a command that has ended. Its key is free again. [ErrConflict] if it
// runs; [ErrDetachedNotFound] if no command has this key.
func (d *Detached) Remove(ctx context.Context) error {
	return tell(ctx, d.operation(), d.handle, func(detached *C.sbx_detached, err **C.sbx_error) C.sbx_status {
		return C.sbx_detached_remove(detached, err)
	})
}
