//! What stands in the way of a sandbox.

use std::ffi::{CString, c_char};
use std::mem::MaybeUninit;

use super::boundary::{self, Text, c_text, require};
use super::config::sbx_config;
use super::error::{sbx_error, sbx_status};
use crate::{CheckState, Config, Report, diagnose};

/// What sbx_diagnose() found. Freed with sbx_report_free(). May be read from several threads.
#[derive(Debug)]
pub struct sbx_report {
    state: sbx_check_state,
    summary: CString,
    checks: Vec<Check>,
}

#[derive(Debug)]
struct Check {
    name: CString,
    state: sbx_check_state,
    found: CString,
    fix: CString,
}

/// What a check found, the better before the worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum sbx_check_state {
    /// All is well.
    SBX_CHECK_OK = 0,
    /// It could not be checked, because of the failure of another check or because this client may not look.
    SBX_CHECK_SKIPPED = 1,
    /// Sandboxes work, but something is missing or unusual.
    SBX_CHECK_WARNING = 2,
    /// Sandboxes can't be made or used.
    SBX_CHECK_FAILURE = 3,
}

impl From<CheckState> for sbx_check_state {
    fn from(state: CheckState) -> Self {
        match state {
            CheckState::Ok => Self::SBX_CHECK_OK,
            CheckState::Skipped => Self::SBX_CHECK_SKIPPED,
            CheckState::Warning => Self::SBX_CHECK_WARNING,
            CheckState::Failure => Self::SBX_CHECK_FAILURE,
        }
    }
}

impl sbx_report {
    fn new(report: &Report) -> Self {
        let checks = report.checks.iter().map(|check| Check {
            name: c_text(check.name),
            state: check.state.into(),
            found: c_text(&check.found),
            fix: c_text(&check.fix),
        });
        Self { state: report.state().into(), summary: c_text(&report.summary()), checks: checks.collect() }
    }
}

/// Finds out what stands in the way of a sandbox. `config` may be NULL for what sbx_config_from_env() makes, whose
/// error is what the check "config" says then.
///
/// `checks` has the names of the checks to make, separated by spaces: "config", "process", "api-server", "clock",
/// "identity", "rights-pods", "rights-portforward", "rights-exec", "rights-events", "namespace", "quota",
/// "network-policy", "guest", "pod", and "sandbox", the life of a real sandbox. An empty text is all but the last one,
/// which takes at most 5 seconds unless somebody has to log in by hand. What a check needs is in the report if it
/// failed. Nothing is changed in the cluster but by "sandbox".
///
/// What was found is no error; the caller frees it with sbx_report_free(). SBX_ERR_INVALID_ARGUMENT for a name that is
/// no check's.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_diagnose(
    config: Option<&sbx_config>,
    checks: Text,
    report: Option<&mut MaybeUninit<*mut sbx_report>>,
    err: Option<&mut MaybeUninit<*mut sbx_error>>,
) -> sbx_status {
    boundary::call(err, || {
        let (checks, place) = (checks.utf8("checks")?, require(report, "report")?);
        let config = config.map_or_else(Config::from_env, |config| Ok(config.get().clone()));
        let checks: Vec<_> = checks.split_whitespace().collect();
        let found = diagnose(config, &checks)?;
        boundary::write_handle(place, sbx_report::new(&found));
        Ok(())
    })
}

/// The worst state of all checks; SBX_CHECK_OK for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_report_state(report: Option<&sbx_report>) -> sbx_check_state {
    boundary::get(report, sbx_check_state::SBX_CHECK_OK, |report| report.state)
}

/// One line that says whether all is well, borrowed from the report.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_report_summary(report: Option<&sbx_report>) -> *const c_char {
    boundary::get_text(report, |report| Some(&report.summary))
}

/// How many checks there are; 0 for NULL.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_report_count(report: Option<&sbx_report>) -> usize {
    boundary::get(report, 0, |report| report.checks.len())
}

/// The stable name of a check, borrowed from the report; `index` counts from 0. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_report_name_at(report: Option<&sbx_report>, index: usize) -> *const c_char {
    boundary::get_text(report, |report| report.checks.get(index).map(|check| &*check.name))
}

/// The state of a check; SBX_CHECK_SKIPPED beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_report_state_at(report: Option<&sbx_report>, index: usize) -> sbx_check_state {
    boundary::get(report, sbx_check_state::SBX_CHECK_SKIPPED, |report| {
        report.checks.get(index).map_or(sbx_check_state::SBX_CHECK_SKIPPED, |check| check.state)
    })
}

/// What a check found, on one line, borrowed from the report. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_report_found_at(report: Option<&sbx_report>, index: usize) -> *const c_char {
    boundary::get_text(report, |report| report.checks.get(index).map(|check| &*check.found))
}

/// What may be done about what a check found, to be pasted into a shell as far as it is a command, borrowed from the
/// report; empty if nothing is to be done. NULL beyond the last.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_report_fix_at(report: Option<&sbx_report>, index: usize) -> *const c_char {
    boundary::get_text(report, |report| report.checks.get(index).map(|check| &*check.fix))
}

/// Frees a report.
#[unsafe(no_mangle)]
pub extern "C" fn sbx_report_free(report: Option<Box<sbx_report>>) {
    boundary::free(report);
}
