//! The program `sandbox-guest`.

use std::process::ExitCode;

fn main() -> ExitCode {
    sandbox_guest::applet::run(std::env::args_os()).unwrap_or(ExitCode::SUCCESS)
}
