package sandbox

/*
#include <sandbox.h>

int32_t sandbox_go_receive(void *userdata, sbx_stream stream, uint8_t *data, size_t len);
int32_t sandbox_go_progress(void *userdata, char *path, uint64_t done, int64_t total);
int64_t sandbox_go_read(void *userdata, uint8_t *buffer, size_t capacity);
int32_t sandbox_go_write(void *userdata, uint8_t *data, size_t len);
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/cgo"
	"sync"
	"time"
	"unsafe"
)

// A conversation is a call of C that calls back. What is to be called runs on the goroutine that waits for the call:
// there a panic or runtime.Goexit goes its usual way, and both must never unwind C. And no function is called after the
// call has returned.
type conversation struct {
	receive  func(stream Stream, data []byte) error
	progress func(Progress) error
	source   io.Reader
	target   io.Writer

	ctx    context.Context
	work   chan func()
	stop   chan struct{}
	once   sync.Once
	begun  func() // gives the turn back
	err    error  // what a function answered that wants to stop
	buffer []byte // what functions get: C's own memory might outlive its contents
}

// conduct makes the call and does what it asks for, until it ends. Once the context is done it waits only a bit for
// that; then it returns false if the call still runs.
func (c *conversation) conduct(ctx context.Context, wait time.Duration, call func()) bool {
	c.ctx, c.work, c.stop = ctx, make(chan func()), make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		call()
	}()
	hasStopped := func() bool {
		c.halt()
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ended:
			return true
		case <-timer.C:
			return false
		}
	}
	isUnwinding := true
	defer func() {
		if isUnwinding {
			hasStopped()
		}
	}()
	for {
		select {
		case work := <-c.work:
			work()
		case <-ended:
			isUnwinding = false
			return true
		case <-ctx.Done():
			isUnwinding = false
			return hasStopped()
		}
	}
}

// halt makes the call end at its next callback.
func (c *conversation) halt() { c.once.Do(func() { close(c.stop) }) }

// do has a function called, and says whether to go on.
func (c *conversation) do(function func() error) bool {
	if c.begun != nil {
		c.begun()
	}
	answer := make(chan error, 1)
	work := func() {
		err := function()
		if c.err == nil {
			c.err = err
		}
		answer <- err
	}
	select {
	case <-c.stop:
		return false
	default:
	}
	select {
	case c.work <- work:
	case <-c.stop:
		return false
	}
	select {
	case err := <-answer:
		return err == nil
	case <-c.stop:
		return false
	}
}

// abandonable calls what may block for long, a Read or a Write, and leaves it alone when the context is done: what
// comes of it then is nobody's.
func (c *conversation) abandonable(call func() (int, error)) (int, error) {
	if c.ctx.Done() == nil {
		return call()
	}
	var (
		length int
		err    error
		how    outcome
		ended  = make(chan struct{})
	)
	go func() {
		defer close(ended)
		how.of(func() { length, err = call() })
	}()
	select {
	case <-c.ctx.Done():
		return 0, c.ctx.Err()
	case <-ended:
		how.goOn()
		return length, err
	}
}

// An outcome is how a function ended that was called on another goroutine than the one that is concerned.
type outcome struct {
	isBack   bool
	panicked any
}

// of makes a call.
func (o *outcome) of(call func()) {
	defer func() {
		if !o.isBack {
			o.panicked = recover()
		}
	}()
	call()
	o.isBack = true
}

// goOn lets a panic or runtime.Goexit of the call go on here.
func (o *outcome) goOn() {
	switch {
	case o.isBack:
	case o.panicked != nil:
		panic(o.panicked)
	default:
		runtime.Goexit()
	}
}

// fill is a Read that gives something, or io.EOF, or another error, whatever the reader does.
func fill(buffer []byte, read func(buffer []byte) (int, error)) (int, error) {
	for range 100 {
		length, err := read(buffer)
		if length < 0 || length > len(buffer) {
			return 0, fmt.Errorf("a Read of %d bytes returned %d", len(buffer), length)
		}
		if length != 0 || err != nil {
			return length, err
		}
	}
	return 0, io.ErrNoProgress
}

// writeAll is a Write of all or an error, whatever the writer does.
func writeAll(target io.Writer, data []byte) (int, error) {
	length, err := target.Write(data)
	if err == nil && length != len(data) {
		err = io.ErrShortWrite
	}
	return length, err
}

// talk is ask for a call that calls back.
func talk[P comparable, T any](ctx context.Context, op operation, h *handle[P], wait time.Duration, c *conversation,
	call func(pointer P, userdata unsafe.Pointer) (T, error)) (T, error) {
	var value, none T
	if err := op.check(ctx); err != nil {
		return none, err
	}
	if err := op.turns.take(ctx, op); err != nil {
		return none, err
	}
	c.begun = sync.OnceFunc(op.turns.giveBack)
	pointer, isOpen := h.borrow()
	if !isOpen {
		c.begun()
		return none, op.fail(ErrClosed, "the handle was closed")
	}
	var err error
	hasEnded := c.conduct(ctx, wait, func() {
		defer c.begun()
		defer h.giveBack()
		self := cgo.NewHandle(c)
		defer self.Delete()
		value, err = call(pointer, unsafe.Pointer(&self))
	})
	switch {
	case !hasEnded:
		return none, op.stopped(ctx)
	case errors.Is(err, ErrCancelled) && ctx.Err() != nil:
		return none, op.stopped(ctx)
	case err != nil && c.err != nil:
		// C knows only that a callback wants to stop.
		if e := (*Error)(nil); errors.As(err, &e) {
			e.Message += ": " + c.err.Error()
		}
		return none, because(err, c.err)
	}
	return value, err
}

func conversationOf(userdata unsafe.Pointer) *conversation {
	return (*(*cgo.Handle)(userdata)).Value().(*conversation)
}

// What C calls.
var (
	onReceive  = C.sbx_output_fn(C.sandbox_go_receive)
	onProgress = C.sbx_progress_fn(C.sandbox_go_progress)
	onRead     = C.sbx_read_fn(C.sandbox_go_read)
	onWrite    = C.sbx_write_fn(C.sandbox_go_write)
)

func goesOn(yes bool) C.int32_t {
	if yes {
		return 0
	}
	return 1
}

//export sandbox_go_receive
func sandbox_go_receive(userdata unsafe.Pointer, stream C.sbx_stream, data *C.uint8_t, length C.size_t) C.int32_t {
	c := conversationOf(userdata)
	c.buffer = append(c.buffer[:0], borrowed(data, length)...)
	return goesOn(c.do(func() error { return c.receive(Stream(stream), c.buffer) }))
}

//export sandbox_go_progress
func sandbox_go_progress(userdata unsafe.Pointer, path *C.char, done C.uint64_t, total C.int64_t) C.int32_t {
	c := conversationOf(userdata)
	progress := Progress{C.GoString(path), int64(done), int64(total)}
	return goesOn(c.do(func() error {
		if c.progress == nil {
			return nil
		}
		return c.progress(progress)
	}))
}

//export sandbox_go_read
func sandbox_go_read(userdata unsafe.Pointer, buffer *C.uint8_t, capacity C.size_t) C.int64_t {
	c := conversationOf(userdata)
	if len(c.buffer) < int(capacity) {
		c.buffer = make([]byte, capacity)
	}
	length := 0
	isFine := capacity == 0 || c.do(func() (err error) {
		length, err = fill(c.buffer[:capacity], func(buffer []byte) (int, error) {
			return c.abandonable(func() (int, error) { return c.source.Read(buffer) })
		})
		if err == io.EOF {
			return nil
		}
		return err
	})
	if !isFine {
		return -1
	}
	return C.int64_t(copy(borrowed(buffer, capacity), c.buffer[:length]))
}

//export sandbox_go_write
func sandbox_go_write(userdata unsafe.Pointer, data *C.uint8_t, length C.size_t) C.int32_t {
	c := conversationOf(userdata)
	c.buffer = append(c.buffer[:0], borrowed(data, length)...)
	return goesOn(c.do(func() error {
		_, err := c.abandonable(func() (int, error) { return writeAll(c.target, c.buffer) })
		return err
	}))
}
