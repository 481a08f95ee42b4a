//! A child of `fork` has the memory of its parent, but not the threads behind it: handles of the parent refuse to work there.

use crate::error::{Error, ErrorKind, Result};

/// The process that made a handle. Asked before any lock is taken: in a forked child its owner may not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ForkGuard(u32);

impl ForkGuard {
    pub(crate) fn current() -> Self {
        Self(std::process::id())
    }

    pub(crate) fn is_current(self) -> bool {
        self == Self::current()
    }

    pub(crate) fn check(self) -> Result<()> {
        if self.is_current() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forked,
            "this client was made before fork(); its threads don't exist in the child, so make a new client there",
        ))
    }

    /// A guard of a process that has ended or is another one, as a forked child finds it.
    #[cfg(test)]
    pub(crate) fn of_parent() -> Self {
        Self(0)
    }
}
