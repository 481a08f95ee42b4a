package sandbox

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// handles is how many there are, for tests that look for leaks.
var handles atomic.Int64

// A handle is a pointer of C that is freed once: when it is closed and no call uses it any more, or after nothing
// refers to the handle itself any more. A call that was given the handle refers to it, whatever has become of the
// object that has it.
type handle[P comparable] struct {
	free      func(P)
	forgotten runtime.Cleanup

	mu       sync.Mutex
	pointer  P
	calls    int
	isClosed bool
}

func newHandle[P comparable](pointer P, free func(P)) *handle[P] {
	handles.Add(1)
	counted := func(pointer P) {
		free(pointer)
		handles.Add(-1)
	}
	h := &handle[P]{pointer: pointer, free: counted}
	// Freeing may close a connection, for which the runtime's other cleanups should not wait.
	h.forgotten = runtime.AddCleanup(h, func(pointer P) { go counted(pointer) }, pointer)
	return h
}

// borrow keeps the pointer from being freed until giveBack; false if the handle was closed.
func (h *handle[P]) borrow() (P, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.isClosed {
		var none P
		return none, false
	}
	h.calls++
	return h.pointer, true
}

func (h *handle[P]) giveBack() {
	h.mu.Lock()
	h.calls--
	isLast := h.isClosed && h.calls == 0
	h.mu.Unlock()
	if isLast {
		h.free(h.pointer)
	}
}

// close frees the pointer, now or with the end of the last call; true the first time.
func (h *handle[P]) close() bool {
	h.mu.Lock()
	isFirst := !h.isClosed
	h.isClosed = true
	h.forgotten.Stop() // in time: the unlocking below still refers to the handle
	isUnused := h.calls == 0
	h.mu.Unlock()
	if isFirst && isUnused {
		h.free(h.pointer)
	}
	return isFirst
}

// get asks something that neither blocks nor fails; the zero value if the handle was closed.
func get[P comparable, T any](h *handle[P], ask func(P) T) T {
	pointer, isOpen := h.borrow()
	if !isOpen {
		var none T
		return none
	}
	defer h.giveBack()
	return ask(pointer)
}
