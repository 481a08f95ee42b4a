package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"bytes"
	"context"
	"math"
	"time"
	"unsafe"
)

// stopTimeout is how long a call that was stopped is waited for, so that its end is proved if that is possible.
const stopTimeout = 10 * time.Second

// NoLimit is for durations that may be without a limit. Any negative duration says the same.
const NoLimit time.Duration = -1

// text lends a string to C for one call. It has no NUL inside, see operation.
func text(s string) *C.char {
	b := make([]byte, len(s)+1)
	copy(b, s)
	return (*C.char)(unsafe.Pointer(unsafe.SliceData(b)))
}

// lent lends bytes to C for one call.
func lent(b []byte) (*C.uint8_t, C.size_t) {
	return (*C.uint8_t)(unsafe.SliceData(b)), C.size_t(len(b))
}

// copied makes a Go slice of bytes of C; nil for NULL.
func copied(data *C.uint8_t, length C.size_t) []byte {
	if data == nil {
		return nil
	}
	return bytes.Clone(borrowed(data, length))
}

// borrowed is the bytes themselves.
func borrowed(data *C.uint8_t, length C.size_t) []byte {
	if length == 0 {
		return []byte{}
	}
	return unsafe.Slice((*byte)(data), int(length))
}

func seconds(d time.Duration) C.double {
	if d < 0 {
		return -1
	}
	return C.double(d.Seconds())
}

func duration(seconds C.double) time.Duration {
	return time.Duration(math.Round(float64(seconds) * float64(time.Second)))
}

// A settings object calls setters until one fails. What has the zero value is left as it is.
type settings struct {
	err error
}

func (s *settings) do(set func(err **C.sbx_error) C.sbx_status) {
	if s.err == nil {
		s.err = invoke(set)
	}
}

func (s *settings) text(what, value string, set func(value *C.char, err **C.sbx_error) C.sbx_status) {
	if value == "" || s.err != nil {
		return
	}
	if s.err = (operation{name: "set " + what, texts: []string{value}}).check(context.Background()); s.err == nil {
		s.do(func(err **C.sbx_error) C.sbx_status { return set(text(value), err) })
	}
}

func (s *settings) seconds(value time.Duration, set func(seconds C.double, err **C.sbx_error) C.sbx_status) {
	if value != 0 {
		s.do(func(err **C.sbx_error) C.sbx_status { return set(seconds(value), err) })
	}
}

func (s *settings) flag(value bool, set func(err **C.sbx_error) C.sbx_status) {
	if value {
		s.do(set)
	}
}

func (s *settings) pairs(what string, pairs map[string]string,
	set func(name, value *C.char, err **C.sbx_error) C.sbx_status) {
	for name, value := range pairs {
		s.pair(what, name, value, set)
	}
}

func (s *settings) pair(what, name, value string, set func(name, value *C.char, err **C.sbx_error) C.sbx_status) {
	if s.err == nil {
		s.err = operation{name: "set " + what, texts: []string{name, value}}.check(context.Background())
		s.do(func(err **C.sbx_error) C.sbx_status { return set(text(name), text(value), err) })
	}
}

// ask makes a call that can't be interrupted. When the context is done it returns at once; the call then ends in the
// background, and what it made is discarded.
func ask[P comparable, T any](ctx context.Context, op operation, h *handle[P], call func(P) (T, error),
	discard func(T)) (T, error) {
	var none T
	if err := op.check(ctx); err != nil {
		return none, err
	}
	if err := op.turns.take(ctx, op); err != nil {
		return none, err
	}
	pointer, isOpen := h.borrow()
	if !isOpen {
		op.turns.giveBack()
		return none, op.fail(ErrClosed, "the handle was closed")
	}
	if ctx.Done() == nil {
		defer op.turns.giveBack()
		defer h.giveBack()
		return call(pointer)
	}
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer)
	go func() {
		value, err := call(pointer)
		h.giveBack()
		op.turns.giveBack()
		select {
		case answers <- answer{value, err}:
		case <-ctx.Done():
			if err == nil && discard != nil {
				discard(value)
			}
		}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		return none, op.stopped(ctx)
	}
}

// tell is ask for a call that gives nothing but its status.
func tell[P comparable](ctx context.Context, op operation, h *handle[P],
	call func(P, **C.sbx_error) C.sbx_status) error {
	_, err := ask(ctx, op, h, func(pointer P) (struct{}, error) {
		return struct{}{}, invoke(func(err **C.sbx_error) C.sbx_status { return call(pointer, err) })
	}, nil)
	return err
}
