//! Keys with which somebody else may log in.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;

use super::boundary::{self, Text, c_text, require};
use super::error::{sbx_error, sbx_status};
use super::sandbox::sbx_sandbox;

/// Keys with which somebody else may log in, from sbx_sandbox_authorized_keys(). Freed with sbx_key_list_free(). May be
/// read from several threads.
#[derive(Debug)]
pub struct sbx_key_list(Vec<(CString, Option<f64>)>);

/// Lets somebody else log in to the sandbox with OpenSSH's programs, who has the private key of `key`: a line as in
/// `authorized_keys`, without options. It is good for `seconds` from now; a negative number is as long as the sandbox
/// lives. The same key once more is good for that time from then on. Whoever logs in with it can do there what this
/// client can, but let nobody else in.
///
/// SBX_ERR_INVALID_ARGUMENT if this is no public key, of the kinds ed25519, ECDSA P-256 and RSA; SBX_ERR_CONFLICT if it
/// is the key of a client of this library; SBX_ERR_PERMISSION_DENIED if this client itself was let in so. Else as
/// sbx_sandbox_execute().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_authorize_key(
    sandbox: Option<&sbx_sandbox>,
    key: Text,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, key) = (require(sandbox, "sandbox")?, key.utf8("key")?);
        sandbox.sandbox.authorize_key(key, boundary::optional_seconds(seconds, "seconds")?)
    })
}

/// The keys that sbx_sandbox_authorize_key() let in, by whichever client, and that may log in now. The caller frees
/// them with sbx_key_list_free().
///
/// As sbx_sandbox_execute().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_authorized_keys(
    sandbox: Option<&sbx_sandbox>,
    keys: Option<&mut MaybeUninit<*mut sbx_key_list>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, place) = (require(sandbox, "sandbox")?, require(keys, "keys")?);
        let keys = sandbox.sandbox.authorized_keys()?.into_iter();
        let keys = keys.map(|key| (c_text(&key.key), key.remaining.map(|time| time.as_secs_f64())));
        boundary::write_handle(place, sbx_key_list(keys.collect()));
        Ok(())
    })
}

/// Lets such a key log in no longer, and closes the connections that were made with it. `*was_there`, which may be
/// NULL, says whether it could log in. The comment of `key` does not matter.
///
/// As sbx_sandbox_authorize_key().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_sandbox_revoke_key(
    sandbox: Option<&sbx_sandbox>,
    key: Text,
    was_there: Option<&mut MaybeUninit<bool>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (sandbox, key) = (require(sandbox, "sandbox")?, key.utf8("key")?);
        boundary::write_out(was_there, sandbox.sandbox.revoke_key(key)?);
        Ok(())
    })
}

/// How many keys there are; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_key_list_count(keys: Option<&sbx_key_list>) -> usize {
    boundary::get(keys, 0, |keys| keys.0.len())
}

/// A key as a line of `authorized_keys`, with its comment; `index` counts from 0. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_key_list_key_at(keys: Option<&sbx_key_list>, index: usize) -> *const c_char {
    boundary::get_text(keys, |keys| keys.0.get(index).map(|(key, _)| &**key))
}

/// True, and for how long it may log in yet in `*seconds`, if a key does not stay as long as the sandbox. `seconds` may
/// be NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_key_list_remaining_at(
    keys: Option<&sbx_key_list>,
    index: usize,
    seconds: Option<&mut MaybeUninit<f64>>,
) -> bool {
    boundary::get(keys, false, |keys| {
        boundary::write_some(seconds, keys.0.get(index).and_then(|(_, remaining)| *remaining))
    })
}

/// Frees what sbx_sandbox_authorized_keys() gave out.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_key_list_free(keys: Option<Box<sbx_key_list>>) {
    boundary::free(keys);
}
