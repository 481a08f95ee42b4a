package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"time"
)

// A Sandbox is a running Pod with an SSH server. Without [Sandbox.Delete] it stays until it expires.
type Sandbox struct {
	handle    *handle[*C.sbx_sandbox]
	name, uid string
	turns     *turns
}

func (c *Client) newSandbox(sandbox *C.sbx_sandbox, err error) (*Sandbox, error) {
	if err != nil {
		return nil, err
	}
	name := C.GoString(C.sbx_sandbox_name(sandbox))
	return &Sandbox{
		handle: newHandle(sandbox, func(sandbox *C.sbx_sandbox) { C.sbx_sandbox_free(sandbox) }),
		name:   name, uid: C.GoString(C.sbx_sandbox_uid(sandbox)), turns: c.turnstile.turns(name),
	}, nil
}

func (s *Sandbox) operation(name string, texts ...string) operation {
	return operation{name, s.name, texts, s.turns}
}

// order is an operation that does not wait until others have ended.
func (s *Sandbox) order(name string) operation { return operation{name: name, sandbox: s.name} }

// Close frees the handle. The sandbox stays. It always returns nil, and is there for io.Closer.
func (s *Sandbox) Close() error {
	s.handle.close()
	return nil
}

// Name is the name of the sandbox and of its Pod.
func (s *Sandbox) Name() string { return s.name }

// UID is Kubernetes' unique id of the Pod.
func (s *Sandbox) UID() string { return s.uid }

// SSHPort is the port of the SSH server, from the cache; 0 after Close.
func (s *Sandbox) SSHPort() int {
	return get(s.handle, func(sandbox *C.sbx_sandbox) int { return int(C.sbx_sandbox_ssh_port(sandbox)) })
}

// HostKey is the SSH server's host key as it is pinned, as OpenSSH writes it; "" before the first connection and after
// Close.
func (s *Sandbox) HostKey() string {
	return get(s.handle, func(sandbox *C.sbx_sandbox) string { return C.GoString(C.sbx_sandbox_host_key(sandbox)) })
}

// Timings say how long each phase of a creation took, counted from the call.
type Timings struct {
	// Until the API server had stored the Pod, or given the sandbox of a pool to this client.
	Accepted time.Duration
	// Until the container had started.
	Started time.Duration
	// Until the SSH login had succeeded.
	LoggedIn time.Duration
}

// An Origin is where a sandbox comes from. A later version of the library may have more of them.
type Origin int32

// The origins of sandboxes.
const (
	// It existed before: [Client.Attach].
	OriginAttached Origin = C.SBX_ORIGIN_ATTACHED
	// It was created by [Client.Create].
	OriginCreated Origin = C.SBX_ORIGIN_CREATED
	// A pool had it ready.
	OriginPool Origin = C.SBX_ORIGIN_POOL
	// The pool was empty, and its next sandbox was waited for.
	OriginPoolWait Origin = C.SBX_ORIGIN_POOL_WAIT
	// The pool was empty, and it was created instead.
	OriginPoolMiss Origin = C.SBX_ORIGIN_POOL_MISS
)

// Origin is where the sandbox of this handle comes from; [OriginAttached] after Close.
func (s *Sandbox) Origin() Origin {
	return get(s.handle, func(sandbox *C.sbx_sandbox) Origin { return Origin(C.sbx_sandbox_origin(sandbox)) })
}

// Timings are there if this handle came from [Client.Create] or [Pool.Claim] and was not closed.
func (s *Sandbox) Timings() (timings Timings, ok bool) {
	ok = get(s.handle, func(sandbox *C.sbx_sandbox) bool {
		var accepted, started, loggedIn C.double
		ok := C.sbx_sandbox_timings(sandbox, &accepted, &started, &loggedIn)
		timings = Timings{duration(accepted), duration(started), duration(loggedIn)}
		return bool(ok)
	})
	return timings, ok
}

// SessionCounts are how many idle and busy SSH sessions the client has to this sandbox at this moment; 0 after Close.
func (s *Sandbox) SessionCounts() (idle, busy int) {
	counts := get(s.handle, func(sandbox *C.sbx_sandbox) (counts [2]C.size_t) {
		C.sbx_sandbox_session_counts(sandbox, &counts[0], &counts[1])
		return counts
	})
	return int(counts[0]), int(counts[1])
}

// Info asks Kubernetes about the sandbox: one API call. [ErrNotFound] if its Pod is gone, even if a new Pod has the
// same name.
func (s *Sandbox) Info(ctx context.Context) (*Info, error) {
	return ask(ctx, s.order("get sandbox info"), s.handle, func(sandbox *C.sbx_sandbox) (*Info, error) {
		return takeInfo(func(info **C.sbx_info, err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_info(sandbox, info, err)
		})
	}, nil)
}

// Usage asks the sandbox what it uses now: one round trip and no API call.
func (s *Sandbox) Usage(ctx context.Context) (*Usage, error) {
	return ask(ctx, s.order("get sandbox usage"), s.handle, func(sandbox *C.sbx_sandbox) (*Usage, error) {
		var usage *C.sbx_usage
		if err := invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_sandbox_usage(sandbox, &usage, err) }); err != nil {
			return nil, err
		}
		defer C.sbx_usage_free(usage)
		return newUsage(usage), nil
	}, nil)
}

// An AuthorizedKey is a key with which somebody else than the clients may log in.
type AuthorizedKey struct {
	// The public key as a line of authorized_keys, with its comment.
	Key string
	// When it may log in no longer; the zero time is as long as the sandbox lives.
	Until time.Time
}

// AuthorizeKey lets somebody else log in with OpenSSH's programs, who has the private key of key: a line as in
// authorized_keys, without options. It is good for lifetime from now; a negative one is as long as the sandbox lives.
// Whoever logs in with it can do there what this client can, but let nobody else in. ErrConflict if it is the key of a
// client of this library.
func (s *Sandbox) AuthorizeKey(ctx context.Context, key string, lifetime time.Duration) error {
	return s.keyed(ctx, "authorize key", key, func(sandbox *C.sbx_sandbox, key *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_authorize_key(sandbox, key, C.double(lifetime.Seconds()), err)
	})
}

// AuthorizedKeys are the keys that AuthorizeKey let in, by whichever client, and that may log in now.
func (s *Sandbox) AuthorizedKeys(ctx context.Context) ([]AuthorizedKey, error) {
	return ask(ctx, s.order("list keys"), s.handle, func(sandbox *C.sbx_sandbox) ([]AuthorizedKey, error) {
		var keys *C.sbx_key_list
		if err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_authorized_keys(sandbox, &keys, err)
		}); err != nil {
			return nil, err
		}
		defer C.sbx_key_list_free(keys)
		all := make([]AuthorizedKey, C.sbx_key_list_count(keys))
		for index := range all {
			var left C.double
			all[index].Key = C.GoString(C.sbx_key_list_key_at(keys, C.size_t(index)))
			if C.sbx_key_list_remaining_at(keys, C.size_t(index), &left) {
				all[index].Until = time.Now().Add(time.Duration(float64(left) * float64(time.Second)))
			}
		}
		return all, nil
	}, nil)
}

func (s *Sandbox) keyed(ctx context.Context, name, key string, call func(sandbox *C.sbx_sandbox, key *C.char, err **C.sbx_error) C.sbx_status) error {
	what := operation{name: name, sandbox: s.name, texts: []string{key}}
	_, err := ask(ctx, what, s.handle, func(sandbox *C.sbx_sandbox) (struct{}, error) {
		return struct{}{}, invoke(func(err **C.sbx_error) C.sbx_status { return call(sandbox, text(key), err) })
	}, nil)
	return err
}

// RevokeKey lets such a key log in no longer, and closes the connections that were made with it. It is no error if
// there was no such key.
func (s *Sandbox) RevokeKey(ctx context.Context, key string) error {
	return s.keyed(ctx, "revoke key", key, func(sandbox *C.sbx_sandbox, key *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_revoke_key(sandbox, key, nil, err)
	})
}

// Renew sets the sandbox's expiry to this time from now, at least a second, and returns it. It may be earlier than the
// current one, and never exceeds the hard limit of the spec.
func (s *Sandbox) Renew(ctx context.Context, lifetime time.Duration) (time.Time, error) {
	return ask(ctx, s.order("renew sandbox"), s.handle, func(sandbox *C.sbx_sandbox) (time.Time, error) {
		var expiry C.int64_t
		err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_sandbox_renew(sandbox, C.double(lifetime.Seconds()), &expiry, err)
		})
		if err != nil {
			return time.Time{}, err
		}
		return time.Unix(int64(expiry), 0), nil
	}, nil)
}

// Delete deletes the sandbox, waits until its Pod is gone, and closes the handle. It needs a context that is not done:
// in a defer that may be context.WithoutCancel(ctx).
//
// [ErrNotFound] if it was gone already, [ErrDelete] if its end could not be confirmed in time.
func (s *Sandbox) Delete(ctx context.Context) error {
	err := tell(ctx, s.order("delete sandbox"), s.handle, func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_delete(sandbox, err)
	})
	return s.deleted(err)
}

// Shutdown is an alias of [Sandbox.Delete].
func (s *Sandbox) Shutdown(ctx context.Context) error {
	err := tell(ctx, s.order("delete sandbox"), s.handle, func(sandbox *C.sbx_sandbox, err **C.sbx_error) C.sbx_status {
		return C.sbx_sandbox_shutdown(sandbox, err)
	})
	return s.deleted(err)
}

func (s *Sandbox) deleted(err error) error {
	if err == nil {
		s.handle.close()
	}
	return err
}
