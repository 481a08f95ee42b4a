package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"io"
	"sync"
	"time"
)

// A Process is a command that was started. What is forgotten runs on to its end or its timeout, with its input closed
// and its output thrown away.
type Process struct {
	handle  *handle[*C.sbx_child]
	id      string
	sandbox string
}

func newProcess(child *C.sbx_child, sandbox string) *Process {
	h := newHandle(child, func(child *C.sbx_child) { C.sbx_child_free(child) })
	return &Process{h, C.GoString(C.sbx_child_id(child)), sandbox}
}

// ID is the command's number in the sandbox, as text.
func (p *Process) ID() string { return p.id }

// Kill kills the command and all processes that it started. [Cmd.Wait] waits until they are gone.
func (p *Process) Kill() error {
	return p.order("kill command", func(child *C.sbx_child, err **C.sbx_error) C.sbx_status {
		return C.sbx_child_kill(child, err)
	})
}

// Signal sends the command's process group a signal, named without SIG, such as "INT" or "TERM": the numbers of signals
// are those of another system. [ErrInvalidArgument] if there is no signal of this name.
func (p *Process) Signal(name string) error {
	return p.order("signal command", func(child *C.sbx_child, err **C.sbx_error) C.sbx_status {
		return C.sbx_child_signal(child, text(name), err)
	}, name)
}

// Resize changes the size of the command's terminal, in characters.
func (p *Process) Resize(columns, rows uint16) error {
	return p.order("resize terminal", func(child *C.sbx_child, _ **C.sbx_error) C.sbx_status {
		C.sbx_child_resize(child, C.uint16_t(columns), C.uint16_t(rows))
		return C.SBX_OK
	})
}

// TryWait is how the command ended, or nil while it runs. It does not wait.
func (p *Process) TryWait() (*ProcessState, error) {
	op := operation{name: "wait for command", sandbox: p.sandbox}
	return ask(context.Background(), op, p.handle, func(child *C.sbx_child) (*ProcessState, error) {
		return exitStatus(func(exitStatus **C.sbx_exit_status, err **C.sbx_error) C.sbx_status {
			return C.sbx_child_try_wait(child, nil, exitStatus, err)
		})
	}, nil)
}

// order asks for something that is not waited for. A process that was waited for is gone: [ErrClosed].
func (p *Process) order(what string, call func(*C.sbx_child, **C.sbx_error) C.sbx_status, texts ...string) error {
	return tell(context.Background(), operation{name: what, sandbox: p.sandbox, texts: texts}, p.handle, call)
}

func (p *Process) wait(child *C.sbx_child) (*ProcessState, error) {
	return exitStatus(func(exitStatus **C.sbx_exit_status, err **C.sbx_error) C.sbx_status {
		return C.sbx_child_wait(child, exitStatus, err)
	})
}

func (p *Process) collect(child *C.sbx_child) (*Output, error) {
	return collect(p.sandbox, func(output **C.sbx_output, err **C.sbx_error) C.sbx_status {
		return C.sbx_child_wait_with_output(child, output, err)
	})
}

// finish waits for the end of a command, a bit only once the context is done: then it is being killed.
func finish[T any](ctx context.Context, p *Process, op operation, lastMoment func() time.Time,
	call func(*C.sbx_child) (T, error)) (T, error) {
	var none T
	child, isOpen := p.handle.borrow()
	if !isOpen {
		return none, op.fail(ErrClosed, "the command was waited for before")
	}
	if ctx.Done() == nil {
		defer p.handle.giveBack()
		return call(child)
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := call(child)
		p.handle.giveBack()
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
	}
	if a, isThere := within(answers, lastMoment()); isThere {
		return a.value, a.err
	}
	return none, op.stopped(ctx)
}

// An outputPipe reads one of a command's output streams.
type outputPipe struct {
	process *Process
	read    func(child *C.sbx_child, buffer *C.uint8_t, capacity C.size_t, length *C.size_t, err **C.sbx_error) C.sbx_status
	letGo   func(child *C.sbx_child)
}

func (p *Process) stdout() *outputPipe {
	return &outputPipe{p, func(child *C.sbx_child, buffer *C.uint8_t, capacity C.size_t, length *C.size_t,
		err **C.sbx_error) C.sbx_status {
		return C.sbx_child_read_stdout(child, buffer, capacity, length, err)
	}, func(child *C.sbx_child) { C.sbx_child_close_stdout(child) }}
}

func (p *Process) stderr() *outputPipe {
	return &outputPipe{p, func(child *C.sbx_child, buffer *C.uint8_t, capacity C.size_t, length *C.size_t,
		err **C.sbx_error) C.sbx_status {
		return C.sbx_child_read_stderr(child, buffer, capacity, length, err)
	}, func(child *C.sbx_child) { C.sbx_child_close_stderr(child) }}
}

func (o *outputPipe) Read(p []byte) (int, error) {
	op := operation{name: "read output", sandbox: o.process.sandbox}
	length, err := ask(context.Background(), op, o.process.handle, func(child *C.sbx_child) (int, error) {
		var length C.size_t
		buffer, capacity := lent(p)
		err := invoke(func(err **C.sbx_error) C.sbx_status { return o.read(child, buffer, capacity, &length, err) })
		return int(length), err
	}, nil)
	if err == nil && length == 0 {
		err = io.EOF
	}
	return length, err
}

// Close lets what still comes be thrown away.
func (o *outputPipe) Close() {
	get(o.process.handle, func(child *C.sbx_child) struct{} { o.letGo(child); return struct{}{} })
}

// An inputPipe writes to a command's standard input. Before the start a Write waits for it.
type inputPipe struct {
	op        operation
	process   *Process // nil if the command did not start
	isStarted chan struct{}
	isClosed  chan struct{}
	once      sync.Once
}

func (i *inputPipe) start(process *Process) {
	i.process = process
	close(i.isStarted)
}

func (i *inputPipe) Write(p []byte) (int, error) {
	select {
	case <-i.isStarted:
	case <-i.isClosed:
	}
	select {
	case <-i.isClosed:
		return 0, i.op.fail(ErrClosed, "the command's input was closed")
	default:
	}
	if i.process == nil {
		return 0, i.op.fail(ErrClosed, "the command did not start")
	}
	err := i.process.order(i.op.name, func(child *C.sbx_child, err **C.sbx_error) C.sbx_status {
		data, length := lent(p)
		return C.sbx_child_write_stdin(child, data, length, err)
	})
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (i *inputPipe) Close() error {
	i.once.Do(func() { close(i.isClosed) })
	select {
	case <-i.isStarted:
		i.end()
	default: // the start ends it
	}
	return nil
}

func (i *inputPipe) end() {
	if i.process != nil {
		get(i.process.handle, func(child *C.sbx_child) struct{} { C.sbx_child_close_stdin(child); return struct{}{} })
	}
}
