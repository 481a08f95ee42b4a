//! A child of `fork` has the memory of its parent, but not the threads behind it: handles of the parent refuse to work
//! there.

use parking_lot::{Mutex, MutexGuard};

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

/// A mutex that a forked child never waits for.
#[derive(Debug)]
pub(crate) struct ForkMutex<T> {
    process: ForkGuard,
    mutex: Mutex<T>,
}

impl<T: Default> Default for ForkMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> ForkMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { process: ForkGuard::current(), mutex: Mutex::new(value) }
    }

    /// Takes the lock; `Forked` in a forked child.
    pub(crate) fn lock(&self) -> Result<MutexGuard<'_, T>> {
        self.process.check()?;
        Ok(self.mutex.lock())
    }

    /// Pretends that a parent process made it.
    #[cfg(test)]
    pub(crate) fn inherit(&mut self) {
        self.process = ForkGuard::of_parent();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_the_parent_held_is_refused_and_not_waited_for() {
        let mut mutex = ForkMutex::new(1);
        assert_eq!(*mutex.lock().unwrap(), 1);
        std::mem::forget(mutex.lock());
        mutex.inherit();
        assert_eq!(mutex.lock().unwrap_err().kind(), ErrorKind::Forked);
    }
}
