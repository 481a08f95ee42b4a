//! What is printed: results on standard output, failures on standard error.

use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::SystemTime;

use sandbox::Error;
use serde_json::{Value, json};
use signal_hook::consts::SIGPIPE;
use signal_hook::low_level::emulate_default_handler;

use crate::stream::write_all;

/// Why this program ends without having done what it was told.
pub(crate) struct Failure {
    cause: Cause,
    code: u8,
}

enum Cause {
    Library(Error),
    Here(String),
    /// Nobody reads the output any more.
    Unread,
}

impl Failure {
    pub(crate) fn here(message: impl Into<String>) -> Self {
        Self { cause: Cause::Here(message.into()), code: 1 }
    }

    pub(crate) fn with_code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Says it in one line, and gives the exit code.
    pub(crate) fn tell(self, is_json: bool) -> ExitCode {
        let (kind, message, verdict) = match &self.cause {
            Cause::Library(e) => (Some(e.kind().as_str()), e.to_string(), e.verdict()),
            Cause::Here(message) => (None, message.clone(), None),
            Cause::Unread => {
                // As every program ends that writes to a pipe without a reader.
                let _ = emulate_default_handler(SIGPIPE);
                return ExitCode::FAILURE;
            }
        };
        if is_json {
            let verdict = verdict.map(verdict_as_json);
            complain(json!({ "kind": kind, "message": message, "verdict": verdict }));
        } else {
            complain(format_args!("sandbox: {}", plain(&message)));
        }
        ExitCode::from(self.code)
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Self {
        Self { cause: Cause::Library(e), code: 1 }
    }
}

/// Of the standard output.
impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        match e.kind() {
            io::ErrorKind::BrokenPipe => Self { cause: Cause::Unread, code: 1 },
            _ => Self::here(format!("the output can't be written: {e}")),
        }
    }
}

/// A line on standard output.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    write_all(io::stdout().lock().as_fd(), bytes).map_err(Failure::from)
}

/// A line on standard error; there is nobody to tell if that can't be written.
pub(crate) fn complain(text: impl Display) {
    let _ = write_all(io::stderr().lock().as_fd(), format!("{text}\n").as_bytes());
}

/// Text that does nothing to a terminal: names and messages may come from a sandbox.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => plain.extend(character.escape_default()),
            false => plain.push(character),
        }
    }
    plain
}

/// A table as kubectl prints it.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; COLUMNS] = std::array::from_fn(width);
    let mut table = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        table.push_str(cells.join("   ").trim_end());
        table.push('\n');
    }
    table
}

/// As RFC 3339 has it.
pub(crate) fn time(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "?".into(), |time| time.to_string())
}

pub(crate) fn verdict_as_json(verdict: &sandbox::Verdict) -> Value {
    json!({ "cause": verdict.cause.as_str(), "reason": verdict.reason, "message": verdict.message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_but_text() {
        assert_eq!(plain("ü \u{1b}[2J\r\n\u{9b}1m"), "ü \\u{1b}[2J\\r\\n\\u{9b}1m");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["NAME", "AGE"], ["a", "1m"], ["longer", "2h"]].map(|row| row.map(str::to_owned));
        assert_eq!(table(&rows), "NAME     AGE\na        1m\nlonger   2h\n");
    }
}
