//! Which sandboxes are meant.

use std::mem::MaybeUninit;

use super::boundary::{self, Text, require};
use super::error::{sbx_error, sbx_status};
use super::info::PHASES;
use crate::Filter;

/// Which sandboxes sbx_client_list() finds: those that fit everything that is set. Made by sbx_filter_new(), changed by
/// setters, used any number of times. Freed with sbx_filter_free(). Setters copy their arguments.
#[derive(Debug)]
pub struct sbx_filter(Filter);

impl sbx_filter {
    pub(super) fn get(&self) -> &Filter {
        &self.0
    }

    /// By way of a copy, so that a failure leaves everything as it was.
    fn change(&mut self, change: impl FnOnce(Filter) -> Filter) {
        self.0 = change(self.0.clone());
    }
}

/// Makes a filter for all sandboxes of the namespace, whoever owns them. The caller frees it with sbx_filter_free().
#[unsafe(no_mangle)]
pub extern "C" fn sbx_filter_new(
    filter: Option<&mut MaybeUninit<*mut sbx_filter>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        boundary::write_handle(require(filter, "filter")?, sbx_filter(Filter::new()));
        Ok(())
    })
}

/// Only those of this owner.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_filter_set_owner(
    filter: Option<&mut sbx_filter>,
    owner: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let owner = owner.utf8("owner")?;
        require(filter, "filter")?.change(|filter| filter.owner(owner));
        Ok(())
    })
}

/// Only those whose Pod has this Kubernetes label with this value. Of several labels, all must be there.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_filter_set_label(
    filter: Option<&mut sbx_filter>,
    name: Text,
    value: Text,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (name, value) = (name.utf8("name")?, value.utf8("value")?);
        require(filter, "filter")?.change(|filter| filter.label(name, value));
        Ok(())
    })
}

/// Only those in this phase, an sbx_phase; called several times, in one of these.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_filter_add_phase(
    filter: Option<&mut sbx_filter>,
    phase: i32,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let phase = boundary::enum_from_i32(phase, "phase", PHASES)?;
        require(filter, "filter")?.change(|filter| filter.phase(phase));
        Ok(())
    })
}

/// Only those that were created more than so many seconds ago. Kubernetes tells that time in whole seconds, and the API
/// server's clock tells how long ago it was.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_filter_set_older_than(
    filter: Option<&mut sbx_filter>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let age = boundary::exact_seconds(seconds, "seconds")?;
        require(filter, "filter")?.change(|filter| filter.older_than(age));
        Ok(())
    })
}

/// Only those that were created at most so many seconds ago, which is all that sbx_filter_set_older_than() with the
/// same number leaves out.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_filter_set_younger_than(
    filter: Option<&mut sbx_filter>,
    seconds: f64,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let age = boundary::exact_seconds(seconds, "seconds")?;
        require(filter, "filter")?.change(|filter| filter.younger_than(age));
        Ok(())
    })
}

/// Frees a filter.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_filter_free(filter: Option<Box<sbx_filter>>) {
    boundary::free(filter);
}
