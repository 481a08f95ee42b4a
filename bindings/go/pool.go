package sandbox

/*
#include <sandbox.h>
*/
import "C"

import (
	"context"
	"time"
)

// PoolOptions say how a pool is filled. What has its zero value is left to the defaults; who only claims needs none.
type PoolOptions struct {
	// How many sandboxes are kept ready, up to 10,000; a negative number is none. If several processes fill the pool, the
	// largest size applies. After the size was lowered, surplus sandboxes stay until they are claimed or reach their idle
	// lifetime. Default: 4.
	Size int
	// How long a sandbox waits to be claimed before it is replaced; at least 10 seconds. It stops by itself then, even if
	// no process fills the pool. Default: one hour.
	IdleLifetime time.Duration
	// How many sandboxes the pool makes at the same time, up to 256. Default: 4.
	CreatesAtOnce int
	// How many sandboxes the pool begins to make in a second. Default: 10.
	CreatesPerSecond float64
	// Keeps the pool filled from a thread of its own until [Pool.Close].
	KeepFilled bool
}

func (o *PoolOptions) handle() (*C.sbx_pool_options, error) {
	if o == nil {
		return nil, nil
	}
	var (
		options *C.sbx_pool_options
		set     settings
	)
	set.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_pool_options_new(&options, err) })
	set.flag(o.Size != 0, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_pool_options_set_size(options, C.size_t(max(o.Size, 0)), err)
	})
	set.flag(o.IdleLifetime != 0, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_pool_options_set_idle_lifetime(options, C.double(o.IdleLifetime.Seconds()), err)
	})
	set.flag(o.CreatesAtOnce != 0, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_pool_options_set_creates_at_once(options, C.size_t(max(o.CreatesAtOnce, 0)), err)
	})
	set.flag(o.CreatesPerSecond != 0, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_pool_options_set_creates_per_second(options, C.double(o.CreatesPerSecond), err)
	})
	set.flag(o.KeepFilled, func(err **C.sbx_error) C.sbx_status {
		return C.sbx_pool_options_set_keep_filled(options, true, err)
	})
	if set.err != nil {
		C.sbx_pool_options_free(options)
		return nil, set.err
	}
	return options, nil
}

// OnMiss is what a claim does if the pool has nothing ready.
type OnMiss int32

// The ways out of an empty pool.
const (
	// Creates a sandbox, as [Client.Create] does.
	OnMissCreate OnMiss = C.SBX_ON_MISS_CREATE
	// Waits until the pool has one, up to the setting CreateTimeout.
	OnMissWait OnMiss = C.SBX_ON_MISS_WAIT
	// Fails at once with [ErrPoolEmpty].
	OnMissFail OnMiss = C.SBX_ON_MISS_FAIL
)

// A Claim says what the sandbox gets that a claim takes. What has its zero value is as the pool's spec has it.
type Claim struct {
	// Environment variables for all later commands in the sandbox. They override those of the spec.
	Env map[string]string
	// Kubernetes labels of the Pod.
	Labels map[string]string
	// Kubernetes annotations of the Pod.
	Annotations map[string]string
	// Time until the sandbox expires, from the claim on, or [NoLimit]. Default: that of the pool's spec, else the
	// configured one.
	Lifetime time.Duration
	// The new owner of the sandbox. Default: the configured owner of the client that claims.
	Owner string
	// Files to write before the sandbox is handed out, by path.
	Files map[string][]byte
	// What to do if nothing is ready.
	OnMiss OnMiss
}

func (c *Claim) handle() (*C.sbx_claim, error) {
	if c == nil {
		return nil, nil
	}
	var (
		claim *C.sbx_claim
		set   settings
	)
	set.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_claim_new(&claim, err) })
	set.pairs("env", c.Env, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_claim_set_env(claim, name, value, err)
	})
	set.pairs("label", c.Labels, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_claim_set_label(claim, name, value, err)
	})
	set.pairs("annotation", c.Annotations, func(name, value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_claim_set_annotation(claim, name, value, err)
	})
	set.seconds(c.Lifetime, func(value C.double, err **C.sbx_error) C.sbx_status {
		return C.sbx_claim_set_lifetime(claim, value, err)
	})
	set.text("owner", c.Owner, func(value *C.char, err **C.sbx_error) C.sbx_status {
		return C.sbx_claim_set_owner(claim, value, err)
	})
	for remote, contents := range c.Files {
		set.text("file", remote, func(remote *C.char, err **C.sbx_error) C.sbx_status {
			data, length := lent(contents)
			return C.sbx_claim_add_file(claim, remote, data, length, err)
		})
	}
	set.do(func(err **C.sbx_error) C.sbx_status { return C.sbx_claim_set_on_miss(claim, C.int32_t(c.OnMiss), err) })
	if set.err != nil {
		C.sbx_claim_free(claim)
		return nil, set.err
	}
	return claim, nil
}

// A Pool is a named pool of sandboxes of one spec that are created in advance. Its state is in the cluster only: any
// number of processes fill it and claim from it, each sandbox goes to exactly one claim, and what a killed process
// leaves behind is found by the others. It may be used from several goroutines.
type Pool struct {
	handle *handle[*C.sbx_pool]
	client *Client
	name   string
}

// Pool makes a handle for the pool of this name, for sandboxes of this spec. It makes no API call. The spec and the
// options may be nil for the defaults.
//
// [ErrInvalidArgument] if the name (at most 36 lower-case letters, digits and '-'), the spec (which must not have a
// name) or the options are invalid.
func (c *Client) Pool(name string, spec *Spec, options *PoolOptions) (*Pool, error) {
	op := operation{name: "open pool", texts: []string{name}}
	givenSpec, err := spec.handle()
	if err != nil {
		return nil, err
	}
	defer C.sbx_spec_free(givenSpec)
	givenOptions, err := options.handle()
	if err != nil {
		return nil, err
	}
	defer C.sbx_pool_options_free(givenOptions)
	pool, err := ask(context.Background(), op, c.handle, func(client *C.sbx_client) (pool *C.sbx_pool, err error) {
		err = invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_client_pool(client, text(name), givenSpec, givenOptions, &pool, err)
		})
		return pool, err
	}, nil)
	if err != nil {
		return nil, err
	}
	free := func(pool *C.sbx_pool) { C.sbx_pool_free(pool) }
	return &Pool{handle: newHandle(pool, free), client: c, name: C.GoString(C.sbx_pool_name(pool))}, nil
}

// Close frees the handle and stops its background work. It deletes sandboxes that are half created, for which it waits
// up to 10 seconds; all others stay. It always returns nil, and is there for io.Closer.
func (p *Pool) Close() error {
	p.handle.close()
	return nil
}

// Name is the name of the pool.
func (p *Pool) Name() string { return p.name }

// Filled is what [Pool.Fill] has done.
type Filled struct {
	// Sandboxes that it has made.
	Created int
	// Sandboxes whose deletion it has requested: they had ended, were too old, or of another spec.
	Retired int
}

// Fill creates the sandboxes that the pool lacks, and deletes those that have ended, are too old, or were made from an
// older spec. It returns when that is done. Once the context is done it returns at once, and the filling ends in the
// background.
//
// Fails as [Client.Create], with the first error; after that no further sandbox is begun. [ErrConflict] if another
// process fills the pool from a newer spec.
func (p *Pool) Fill(ctx context.Context) (Filled, error) {
	return ask(ctx, operation{name: "fill pool"}, p.handle, func(pool *C.sbx_pool) (Filled, error) {
		var created, retired C.size_t
		err := invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_pool_fill(pool, &created, &retired, err) })
		return Filled{int(created), int(retired)}, err
	}, nil)
}

// Claim takes a ready sandbox out of the pool, or does what the claim's OnMiss says if there is none; [Sandbox.Origin]
// says which it was. The claim may be nil for the defaults. A claim that fails leaves nothing, and neither does one
// whose context is done before it has returned.
//
// [ErrPoolEmpty] and [ErrTimedOut] by [OnMiss]; [ErrPermissionDenied] if the sandboxes were made with another SSH key
// and this client has no right to pods/exec; else as [Client.Create] and [Sandbox.WriteFile].
func (p *Pool) Claim(ctx context.Context, claim *Claim) (*Sandbox, error) {
	op := operation{name: "claim sandbox"}
	given, err := claim.handle()
	if err != nil {
		return nil, err
	}
	// The call may go on after this function.
	shared := newHandle(given, func(given *C.sbx_claim) { C.sbx_claim_free(given) })
	defer shared.close()
	return p.client.newSandbox(ask(ctx, op, p.handle, func(pool *C.sbx_pool) (sandbox *C.sbx_sandbox, err error) {
		given, isOpen := shared.borrow()
		if !isOpen {
			return nil, op.stopped(ctx)
		}
		defer shared.giveBack()
		err = invoke(func(err **C.sbx_error) C.sbx_status { return C.sbx_pool_claim(pool, given, &sandbox, err) })
		return sandbox, err
	}, func(sandbox *C.sbx_sandbox) {
		C.sbx_sandbox_delete(sandbox, nil)
		C.sbx_sandbox_free(sandbox)
	}))
}

// PoolStatus is what there is of a pool at one moment.
type PoolStatus struct {
	// Sandboxes that can be claimed.
	Ready int
	// Sandboxes that are being made.
	Filling int
	// Sandboxes that were claimed and still exist.
	Claimed int
	// Sandboxes that have ended or are being deleted, and were not claimed.
	Ending int
	// Sandboxes of other specs, not claimed.
	Foreign int
	// When the oldest one that can be claimed was made; the zero time if there is none.
	Oldest time.Time
	// Why the pool is not filled, as far as the Pods and this handle's own attempts tell; "" if nothing is known to
	// hinder it.
	Held string
}

// Status tells what there is of the pool now: one API call.
func (p *Pool) Status(ctx context.Context) (*PoolStatus, error) {
	return ask(ctx, operation{name: "look at pool"}, p.handle, func(pool *C.sbx_pool) (*PoolStatus, error) {
		var state *C.sbx_pool_state
		if err := invoke(func(err **C.sbx_error) C.sbx_status {
			return C.sbx_pool_status(pool, &state, err)
		}); err != nil {
			return nil, err
		}
		defer C.sbx_pool_state_free(state)
		status := &PoolStatus{
			Ready:   int(C.sbx_pool_state_ready(state)),
			Filling: int(C.sbx_pool_state_filling(state)),
			Claimed: int(C.sbx_pool_state_claimed(state)),
			Ending:  int(C.sbx_pool_state_ending(state)),
			Foreign: int(C.sbx_pool_state_foreign(state)),
			Held:    C.GoString(C.sbx_pool_state_held(state)),
		}
		var oldest C.int64_t
		if C.sbx_pool_state_oldest(state, &oldest) {
			status.Oldest = time.Unix(int64(oldest), 0)
		}
		return status, nil
	}, nil)
}

// PoolCounters are counts of a handle's work since it was made.
type PoolCounters struct {
	// Claims that got what was ready at once, and claims that found nothing ready.
	Hits, Misses uint64
	// Attempts to take a sandbox that another claim took first, or that had ended.
	Conflicts uint64
	// Claims that wait for a sandbox now.
	Waiting uint64
	// Sandboxes that were taken, could not be reached, and were deleted.
	Bad uint64
	// Sandboxes that this handle has made for the pool, and those whose deletion it has requested.
	Created, Retired uint64
}

// Counters are counts of this handle's work since it was made; zero after Close.
func (p *Pool) Counters() PoolCounters {
	return get(p.handle, func(pool *C.sbx_pool) PoolCounters {
		count := func(kind C.int32_t) uint64 { return uint64(C.sbx_pool_counter(pool, kind)) }
		return PoolCounters{
			Hits:      count(C.SBX_POOL_HITS),
			Misses:    count(C.SBX_POOL_MISSES),
			Conflicts: count(C.SBX_POOL_CONFLICTS),
			Waiting:   count(C.SBX_POOL_WAITING),
			Bad:       count(C.SBX_POOL_BAD),
			Created:   count(C.SBX_POOL_CREATED),
			Retired:   count(C.SBX_POOL_RETIRED),
		}
	})
}

// Drain deletes all unclaimed sandboxes of the pool, without waiting for their end, and returns how many. This handle
// stops filling the pool in the background; other processes that fill it will do so again.
func (p *Pool) Drain(ctx context.Context) (int, error) {
	return p.deleted(ctx, "drain pool", func(pool *C.sbx_pool, count *C.size_t, err **C.sbx_error) C.sbx_status {
		return C.sbx_pool_drain(pool, count, err)
	})
}

// Remove is [Pool.Drain], and waits until the sandboxes are gone. Claimed sandboxes stay. [ErrConflict] if sandboxes
// are still there after a minute, for example because another process fills the pool.
func (p *Pool) Remove(ctx context.Context) (int, error) {
	return p.deleted(ctx, "remove pool", func(pool *C.sbx_pool, count *C.size_t, err **C.sbx_error) C.sbx_status {
		return C.sbx_pool_remove(pool, count, err)
	})
}

func (p *Pool) deleted(
	ctx context.Context, name string, do func(*C.sbx_pool, *C.size_t, **C.sbx_error) C.sbx_status,
) (int, error) {
	return ask(ctx, operation{name: name}, p.handle, func(pool *C.sbx_pool) (int, error) {
		var count C.size_t
		err := invoke(func(err **C.sbx_error) C.sbx_status { return do(pool, &count, err) })
		return int(count), err
	}, nil)
}
