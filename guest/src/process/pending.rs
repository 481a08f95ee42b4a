//! What a command is told while it is being started.

use super::{Running, Whom};

/// Signals and the size of a terminal, for a command that does not run yet.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// A bit each: as with the system's own, a signal that is pending twice comes once.
    signals: u64,
    size: Option<[u16; 4]>,
}

impl Pending {
    /// `number` is one of 1 to 64.
    pub(crate) fn signal(&mut self, number: i32) {
        self.signals |= 1 << (number - 1);
    }

    pub(crate) fn resize(&mut self, columns: u16, rows: u16, width: u16, height: u16) {
        self.size = Some([columns, rows, width, height]);
    }

    /// Tells the command, now that it runs.
    pub(crate) fn hand_over(&mut self, running: &Running) {
        let Self { signals, size } = std::mem::take(self);
        if let Some([columns, rows, width, height]) = size {
            // It may have closed its terminal.
            let _ = running.resize(columns, rows, width, height);
        }
        for number in (1..=64).filter(|number| signals & (1 << (number - 1)) != 0) {
            running.signal(number, Whom::Group);
        }
    }
}
