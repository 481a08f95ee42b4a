package sandbox

import (
	"context"
	"runtime"
	"sync"
	"weak"
)

// Turns let as many calls into C as there can be SSH sessions to a sandbox. C has those that are too many wait for a
// session, each with its thread, of which a process can't have as many as it has goroutines; so they wait here. A call
// has its turn until it returns or calls back: then it has its session, and what is called may need another turn. What
// uses a session that it has, such as an open [File] or a [Process], needs none.
type turns struct {
	taken chan struct{}
}

// take waits for a turn. The nil turns have no limit.
func (t *turns) take(ctx context.Context, op operation) error {
	if t == nil {
		return nil
	}
	select {
	case t.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return op.stopped(ctx)
	}
}

func (t *turns) giveBack() {
	if t != nil {
		<-t.taken
	}
}

// A turnstile has the turns of all sandboxes that a client knows, by name: those of two handles of one are the same.
type turnstile struct {
	limit int
	mu    sync.Mutex
	of    map[string]weak.Pointer[turns]
}

func newTurnstile(limit int) *turnstile {
	return &turnstile{limit: limit, of: map[string]weak.Pointer[turns]{}}
}

func (s *turnstile) turns(name string) *turns {
	s.mu.Lock()
	defer s.mu.Unlock()
	if found := s.of[name].Value(); found != nil {
		return found
	}
	made := &turns{make(chan struct{}, s.limit)}
	s.of[name] = weak.Make(made)
	runtime.AddCleanup(made, s.forget, name)
	return made
}

// forget removes what nobody has any more.
func (s *turnstile) forget(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[name].Value() == nil {
		delete(s.of, name)
	}
}
