//! Warm pools.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;

use super::boundary::{self, Text, c_text, require};
use super::client::sbx_client;
use super::error::{sbx_error, sbx_status};
use super::sandbox::sbx_sandbox;
use super::spec::sbx_spec;
use crate::{Claim, OnMiss, Pool, PoolOptions, PoolStatus, SandboxSpec};

/// How a pool is filled. Made by sbx_pool_options_new(), changed by setters, used by sbx_client_pool() any number of
/// times. A program that only claims needs no options. Freed with sbx_pool_options_free().
#[derive(Debug)]
pub struct sbx_pool_options(PoolOptions);

/// What a claimed sandbox gets. Made by sbx_claim_new(), changed by setters, used by sbx_pool_claim() any number of
/// times. Freed with sbx_claim_free(). Setters copy their arguments.
#[derive(Debug)]
pub struct sbx_claim(Claim);

/// A named pool of sandboxes of one spec that are created in advance. The state of a pool is in the cluster only: any
/// number of processes fill it and claim from it, each sandbox goes to exactly one claim, and what a killed process
/// leaves behind is found by the others. May be used from several threads at once. Freed with sbx_pool_free(), which
/// stops its background work; the sandboxes stay.
#[derive(Debug)]
pub struct sbx_pool {
    pool: Pool,
    name: CString,
}

/// The state of a pool at one moment, from sbx_pool_status(). Freed with sbx_pool_state_free(). May be read from
/// several threads.
#[derive(Debug)]
pub struct sbx_pool_state {
    status: PoolStatus,
    held: Option<CString>,
}

/// What a claim does if the pool has nothing ready, for sbx_claim_set_on_miss().
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_on_miss {
    /// Creates a sandbox, as sbx_client_create() does.
    SBX_ON_MISS_CREATE = 0,
    /// Waits until the pool has one, up to the setting "create_timeout".
    SBX_ON_MISS_WAIT = 1,
    /// Fails at once with SBX_ERR_POOL_EMPTY.
    SBX_ON_MISS_FAIL = 2,
}

const WAYS: &[(i32, OnMiss)] = &[
    (sbx_on_miss::SBX_ON_MISS_CREATE as i32, OnMiss::Create),
    (sbx_on_miss::SBX_ON_MISS_WAIT as i32, OnMiss::Wait),
    (sbx_on_miss::SBX_ON_MISS_FAIL as i32, OnMiss::Fail),
];

/// What sbx_pool_counter() counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_pool_counter_kind {
    /// Claims that were served by a ready sandbox at once.
    SBX_POOL_HITS = 0,
    /// Claims that found nothing ready.
    SBX_POOL_MISSES = 1,
    /// Attempts to take a sandbox that another claim took first, or that had ended.
    SBX_POOL_CONFLICTS = 2,
    /// Claims that wait for a sandbox now.
    SBX_POOL_WAITING = 3,
    /// Sandboxes that were taken, could not be reached, and were deleted.
    SBX_POOL_BAD = 4,
    /// Sandboxes that this handle has made for the pool.
    SBX_POOL_CREATED = 5,
    /// Sandboxes whose deletion it has requested.
    SBX_POOL_RETIRED = 6,
}

/// Makes options with the defaults: 4 sandboxes, an idle lifetime of one hour, filled by sbx_pool_fill() only. The
/// caller frees them with sbx_pool_options_free().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_options_new(
    options: Option<&mut MaybeUninit<*mut sbx_pool_options>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        boundary::write_handle(require(options, "options")?, sbx_pool_options(PoolOptions::new()));
        Ok(())
    })
}

impl sbx_pool_options {
    /// By way of a copy, so that a failure leaves everything as it was.
    fn change(&mut self, change: impl FnOnce(PoolOptions) -> PoolOptions) {
        self.0 = change(self.0.clone());
    }
}

/// How many sandboxes are kept ready, 0 to 10,000. If several processes fill the pool, the largest size applies. After
/// the size was lowered, surplus sandboxes stay until they are claimed or reach their idle lifetime. Default: 4.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_options_set_size(
    options: Option<&mut sbx_pool_options>,
    size: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(options, "options")?.change(|options| options.size(size));
        Ok(())
    })
}

/// How many seconds a sandbox waits to be claimed before it is replaced; at least 10. It stops by itself then, even if
/// no process fills the pool. Default: 3600.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_options_set_idle_lifetime(
    options: Option<&mut sbx_pool_options>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let lifetime = boundary::exact_seconds(seconds, "seconds")?;
        require(options, "options")?.change(|options| options.idle_lifetime(lifetime));
        Ok(())
    })
}

/// How many sandboxes the handle makes at the same time, 1 to 256. Default: 4.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_options_set_creates_at_once(
    options: Option<&mut sbx_pool_options>,
    creates: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(options, "options")?.change(|options| options.creates_at_once(creates));
        Ok(())
    })
}

/// How many sandboxes the handle begins to make in a second, more than 0. Default: 10.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_options_set_creates_per_second(
    options: Option<&mut sbx_pool_options>,
    creates: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(options, "options")?.change(|options| options.creates_per_second(creates));
        Ok(())
    })
}

/// Whether the pool is kept filled by a thread of its own for as long as the handle lives. Default: false, only
/// sbx_pool_fill() fills it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_options_set_keep_filled(
    options: Option<&mut sbx_pool_options>,
    keep: bool,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        require(options, "options")?.change(|options| options.keep_filled(keep));
        Ok(())
    })
}

/// Frees options.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_options_free(options: Option<Box<sbx_pool_options>>) {
    boundary::free(options);
}

/// Makes a claim for a sandbox as the pool's spec has it. The caller frees it with sbx_claim_free().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_claim_new(
    claim: Option<&mut MaybeUninit<*mut sbx_claim>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        boundary::write_handle(require(claim, "claim")?, sbx_claim(Claim::new()));
        Ok(())
    })
}

impl sbx_claim {
    fn change(&mut self, change: impl FnOnce(Claim) -> Claim) {
        // It may hold large files, so this is no copy.
        self.0 = change(std::mem::take(&mut self.0));
    }
}

/// An environment variable for all later commands in the sandbox, whoever runs them. It overrides one of the spec.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_claim_set_env(
    claim: Option<&mut sbx_claim>,
    name: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (name, value) = (name.utf8("name")?, value.utf8("value")?);
        require(claim, "claim")?.change(|claim| claim.env(name, value));
        Ok(())
    })
}

/// A Kubernetes label on the Pod.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_claim_set_label(
    claim: Option<&mut sbx_claim>,
    name: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (name, value) = (name.utf8("name")?, value.utf8("value")?);
        require(claim, "claim")?.change(|claim| claim.label(name, value));
        Ok(())
    })
}

/// A Kubernetes annotation on the Pod.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_claim_set_annotation(
    claim: Option<&mut sbx_claim>,
    name: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (name, value) = (name.utf8("name")?, value.utf8("value")?);
        require(claim, "claim")?.change(|claim| claim.annotation(name, value));
        Ok(())
    })
}

/// Seconds until the sandbox expires, from the claim on; a negative number for never. Default: that of the pool's spec,
/// else the configured one.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_claim_set_lifetime(
    claim: Option<&mut sbx_claim>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let lifetime = boundary::optional_seconds(seconds, "seconds")?;
        require(claim, "claim")?.change(|claim| claim.lifetime(lifetime));
        Ok(())
    })
}

/// The new owner of the sandbox. Default: the configured owner of the client that claims.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_claim_set_owner(
    claim: Option<&mut sbx_claim>,
    owner: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let owner = owner.utf8("owner")?;
        require(claim, "claim")?.change(|claim| claim.owner(owner));
        Ok(())
    })
}

/// A file to write before sbx_pool_claim() returns, with `len` bytes at `data`, which may be NULL if `len` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sbx_claim_add_file(
    claim: Option<&mut sbx_claim>,
    remote: Text,
    data: *const u8,
    len: usize,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let remote = remote.bytes("remote")?;
        // SAFETY: the C caller promises `len` bytes at `data` during the call.
        let data = unsafe { boundary::bytes(data, len, "data") }?;
        require(claim, "claim")?.change(|claim| claim.file(remote, data));
        Ok(())
    })
}

/// What to do if nothing is ready: an sbx_on_miss. Default: SBX_ON_MISS_CREATE.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_claim_set_on_miss(
    claim: Option<&mut sbx_claim>,
    on_miss: i32,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let on_miss = boundary::enum_from_i32(on_miss, "on_miss", WAYS)?;
        require(claim, "claim")?.change(|claim| claim.on_miss(on_miss));
        Ok(())
    })
}

/// Frees a claim.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_claim_free(claim: Option<Box<sbx_claim>>) {
    boundary::free(claim);
}

/// Makes a handle for the pool of this name, for sandboxes of this spec. It makes no API call. `spec` and `options` may
/// be NULL for the defaults. The caller frees it with sbx_pool_free().
///
/// SBX_ERR_INVALID_ARGUMENT if the name (at most 36 lower-case letters, digits and '-'), the spec (which must not have
/// a name) or the options are invalid.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_pool(
    client: Option<&sbx_client>,
    name: Text,
    spec: Option<&sbx_spec>,
    options: Option<&sbx_pool_options>,
    pool: Option<&mut MaybeUninit<*mut sbx_pool>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (client, name) = (require(client, "client")?, name.utf8("name")?);
        let place = require(pool, "pool")?;
        let spec = spec.map_or_else(SandboxSpec::new, |spec| spec.get().clone());
        let options = options.map_or_else(PoolOptions::new, |options| options.0.clone());
        let pool = client.get().pool(name, &spec, &options)?;
        boundary::write_handle(place, sbx_pool { name: c_text(pool.name()), pool });
        Ok(())
    })
}

/// The name of the pool.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_name(pool: Option<&sbx_pool>) -> *const c_char {
    boundary::get_text(pool, |pool| Some(&pool.name))
}

/// Creates the sandboxes that the pool lacks, and deletes those that have ended, are too old, or were made from an
/// older spec. Returns when that is done. Sets `*created` and `*retired`, which may be NULL, to how many were created
/// and deleted.
///
/// Fails as sbx_client_create(), with the first error; after that no further sandbox is begun. SBX_ERR_CONFLICT if
/// another process fills the pool from a newer spec.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_fill(
    pool: Option<&sbx_pool>,
    created: Option<&mut MaybeUninit<usize>>,
    retired: Option<&mut MaybeUninit<usize>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let filled = require(pool, "pool")?.pool.fill()?;
        boundary::write_out(created, filled.created);
        boundary::write_out(retired, filled.retired);
        Ok(())
    })
}

/// Takes a ready sandbox out of the pool, or does what sbx_claim_set_on_miss() says if there is none;
/// sbx_sandbox_origin() tells which. `claim` may be NULL for the defaults. A claim that fails leaves no sandbox behind.
/// The caller frees the handle with sbx_sandbox_free(), and deletes the sandbox with sbx_sandbox_delete().
///
/// SBX_ERR_POOL_EMPTY and SBX_ERR_TIMED_OUT as sbx_on_miss says; SBX_ERR_PERMISSION_DENIED if the sandboxes were made
/// with another SSH key and this client has no right to pods/exec; otherwise as sbx_client_create() and
/// sbx_sandbox_write_file().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_claim(
    pool: Option<&sbx_pool>,
    claim: Option<&sbx_claim>,
    sandbox: Option<&mut MaybeUninit<*mut sbx_sandbox>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (pool, place) = (require(pool, "pool")?, require(sandbox, "sandbox")?);
        let sandbox = match claim {
            Some(claim) => pool.pool.claim(&claim.0)?,
            None => pool.pool.claim(&Claim::new())?,
        };
        boundary::write_handle(place, sbx_sandbox::new(sandbox));
        Ok(())
    })
}

/// Gets the state of the pool: one API call. The caller frees it with sbx_pool_state_free().
///
/// SBX_ERR_PERMISSION_DENIED and SBX_ERR_UNAVAILABLE from the API server.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_status(
    pool: Option<&sbx_pool>,
    state: Option<&mut MaybeUninit<*mut sbx_pool_state>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (pool, place) = (require(pool, "pool")?, require(state, "state")?);
        let status = pool.pool.status()?;
        boundary::write_handle(place, sbx_pool_state { held: status.held.as_deref().map(c_text), status });
        Ok(())
    })
}

/// The value of one of this handle's counters, an sbx_pool_counter_kind; 0 for NULL and for an unknown number.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_counter(pool: Option<&sbx_pool>, kind: i32) -> u64 {
    boundary::get(pool, 0, |pool| {
        use sbx_pool_counter_kind as of;
        let counters = pool.pool.counters();
        let known = [
            (of::SBX_POOL_HITS, counters.hits),
            (of::SBX_POOL_MISSES, counters.misses),
            (of::SBX_POOL_CONFLICTS, counters.conflicts),
            (of::SBX_POOL_WAITING, counters.waiting),
            (of::SBX_POOL_BAD, counters.bad),
            (of::SBX_POOL_CREATED, counters.created),
            (of::SBX_POOL_RETIRED, counters.retired),
        ];
        known.into_iter().find(|(of, _)| *of as i32 == kind).map_or(0, |(_, count)| count)
    })
}

/// Deletes all unclaimed sandboxes of the pool without waiting until they are gone, and sets `*deleted`, which may be
/// NULL, to their number. This handle stops filling the pool in the background; other processes that fill it will do so
/// again.
///
/// Fails with the first error of the API server; the other sandboxes are deleted all the same.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_drain(
    pool: Option<&sbx_pool>,
    deleted: Option<&mut MaybeUninit<usize>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        boundary::write_out(deleted, require(pool, "pool")?.pool.drain()?);
        Ok(())
    })
}

/// As sbx_pool_drain(), and waits until the sandboxes are gone. Claimed sandboxes stay.
///
/// SBX_ERR_CONFLICT if sandboxes are still there after a minute, for example because another process fills the pool;
/// otherwise as sbx_pool_drain().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_remove(
    pool: Option<&sbx_pool>,
    deleted: Option<&mut MaybeUninit<usize>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        boundary::write_out(deleted, require(pool, "pool")?.pool.remove()?);
        Ok(())
    })
}

/// Frees a pool's handle. If the handle keeps the pool filled, that ends, and sandboxes that are half created are
/// deleted, which takes up to 10 seconds if the API server does not answer.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_free(pool: Option<Box<sbx_pool>>) {
    boundary::free(pool);
}

/// Sandboxes that can be claimed; 0 for NULL, as in the next ones.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_state_ready(state: Option<&sbx_pool_state>) -> usize {
    boundary::get(state, 0, |state| state.status.ready)
}

/// Sandboxes that are being made.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_state_filling(state: Option<&sbx_pool_state>) -> usize {
    boundary::get(state, 0, |state| state.status.filling)
}

/// Sandboxes that were claimed and still exist.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_state_claimed(state: Option<&sbx_pool_state>) -> usize {
    boundary::get(state, 0, |state| state.status.claimed)
}

/// Sandboxes that have ended or are being deleted, and were not claimed.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_state_ending(state: Option<&sbx_pool_state>) -> usize {
    boundary::get(state, 0, |state| state.status.ending)
}

/// Sandboxes of other specs, not claimed.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_state_foreign(state: Option<&sbx_pool_state>) -> usize {
    boundary::get(state, 0, |state| state.status.foreign)
}

/// True, and when the oldest one that can be claimed was made, if there is one. `time` may be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_state_oldest(state: Option<&sbx_pool_state>, time: Option<&mut MaybeUninit<i64>>) -> bool {
    boundary::get(state, false, |state| boundary::write_some(time, state.status.oldest.map(boundary::unix_time)))
}

/// Why the pool is not full, as far as the Pods and this handle's own attempts show; NULL if no reason is known.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_state_held(state: Option<&sbx_pool_state>) -> *const c_char {
    boundary::get_text(state, |state| state.held.as_deref())
}

/// Frees what sbx_pool_status() gave out.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_pool_state_free(state: Option<Box<sbx_pool_state>>) {
    boundary::free(state);
}
