//! `sandbox doctor`.

use std::process::ExitCode;

use sandbox::{CheckState, Config, ErrorKind, Result, diagnose};
use serde_json::{Value, json};

use crate::output::{self, Failure, plain};

pub(crate) fn doctor(
    config: Result<Config>,
    checks: &[String],
    is_json: bool,
) -> std::result::Result<ExitCode, Failure> {
    let checks: Vec<_> = checks.iter().map(String::as_str).collect();
    let report = diagnose(config, &checks).map_err(|e| match e.kind() {
        ErrorKind::InvalidArgument => Failure::from(e).with_code(2),
        _ => e.into(),
    })?;
    if is_json {
        let checks = report.checks.iter().map(|check| {
            json!({ "name": check.name, "state": check.state.as_str(), "found": check.found, "fix": check.fix })
        });
        let (state, summary) = (report.state().as_str(), report.summary());
        output::line(json!({ "state": state, "summary": summary, "checks": Value::from_iter(checks) }))?;
    } else {
        report.to_string().lines().try_for_each(|line| output::line(plain(line)))?;
    }
    Ok(ExitCode::from(u8::from(report.state() == CheckState::Failure)))
}
