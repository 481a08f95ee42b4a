//! What the program does besides serving: small tools that work on their standard streams.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::{sftp, tree};

/// Runs the tool that the program's arguments name; `None` if they name none.
pub fn run(mut args: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    match args.nth(1)?.to_str()? {
        "sftp" => Some(sftp::run(args)),
        sandbox_protocol::tree::TOOL => Some(tree::run(args)),
        _ => None,
    }
}
