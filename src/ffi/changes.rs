//! The changes of sandboxes.

use std::mem::MaybeUninit;
use std::ptr;

use super::boundary::{self, require};
use super::client::sbx_client;
use super::error::{sbx_error, sbx_status};
use super::filter::sbx_filter;
use super::info::sbx_info;
use crate::{ChangeKind, Changes, Filter};

/// The changes of sandboxes, made by sbx_client_watch(). May be used from several threads, of which each change goes to
/// one. Freed with sbx_changes_free().
#[derive(Debug)]
pub struct sbx_changes(Changes);

/// What has become of a sandbox. A later version may have more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_change_kind {
    /// It is there, which was not known before.
    SBX_CHANGE_ADDED = 0,
    /// Something about it is not as it was.
    SBX_CHANGE_CHANGED = 1,
    /// It is gone, or does not fit any more.
    SBX_CHANGE_REMOVED = 2,
}

impl From<ChangeKind> for sbx_change_kind {
    fn from(kind: ChangeKind) -> Self {
        match kind {
            ChangeKind::Added => Self::SBX_CHANGE_ADDED,
            ChangeKind::Changed => Self::SBX_CHANGE_CHANGED,
            ChangeKind::Removed => Self::SBX_CHANGE_REMOVED,
        }
    }
}

/// Watches the sandboxes of the namespace that fit; `filter` may be NULL for all of them. Nothing is asked before
/// sbx_changes_next(). The caller frees `*changes` with sbx_changes_free().
///
/// SBX_ERR_INVALID_ARGUMENT if no Pod can have the filter's owner or a label, or if the filter asks for an age, which
/// changes by itself.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_client_watch(
    client: Option<&sbx_client>,
    filter: Option<&sbx_filter>,
    changes: Option<&mut MaybeUninit<*mut sbx_changes>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (client, place) = (require(client, "client")?, require(changes, "changes")?);
        let filter = filter.map_or_else(Filter::new, |filter| filter.get().clone());
        boundary::write_handle(place, sbx_changes(client.get().watch(&filter)?));
        Ok(())
    })
}

/// Waits for the next change, at most so many seconds; a negative number for ever. `*info` gets the sandbox as it is
/// now, or as it was last, and the caller frees it with sbx_info_free(); it is NULL if the time is over. `*kind`, which
/// may be NULL, is written only with an info. First all that fit are told as added, the oldest first, then each change.
/// After a lost connection or a restart of the API server it goes on, and tells what has changed meanwhile; what came
/// and went in between is not told.
///
/// SBX_ERR_PERMISSION_DENIED if this client may not list and watch Pods; SBX_ERR_CLOSED after sbx_changes_close().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_changes_next(
    changes: Option<&sbx_changes>,
    seconds: f64,
    kind: Option<&mut MaybeUninit<sbx_change_kind>>,
    info: Option<&mut MaybeUninit<*mut sbx_info>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (changes, place) = (require(changes, "changes")?, require(info, "info")?);
        match changes.0.next_within(boundary::optional_seconds(seconds, "seconds")?)? {
            Some(change) => {
                boundary::write_out(kind, change.kind.into());
                boundary::write_handle(place, sbx_info::new(change.info));
            }
            None => boundary::write_out(Some(place), ptr::null_mut()),
        }
        Ok(())
    })
}

/// Ends the watch: where other threads wait in sbx_changes_next(), and later, it fails with SBX_ERR_CLOSED.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_changes_close(changes: Option<&sbx_changes>) {
    boundary::get(changes, (), |changes| changes.0.close());
}

/// Ends a watch and frees it.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_changes_free(changes: Option<Box<sbx_changes>>) {
    boundary::free(changes);
}
