//! The terminal that this program was started on.

use std::io;
use std::io::IsTerminal;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::output::Failure;

/// Hands every key to the command as it is typed; dropping it gives the terminal its modes back.
pub(crate) struct Raw(Termios);

impl Raw {
    pub(crate) fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no modes.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

pub(crate) fn check() -> Result<(), Failure> {
    match io::stdin().is_terminal() {
        true => Ok(()),
        false => Err(Failure::here("--tty: the input is not a terminal")),
    }
}

/// Columns and rows.
pub(crate) fn size() -> (u16, u16) {
    match tcgetwinsize(io::stdin()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => (80, 24),
    }
}

/// What it understands.
pub(crate) fn kind() -> String {
    std::env::var("TERM").ok().filter(|kind| !kind.is_empty()).unwrap_or_else(|| "xterm".into())
}
