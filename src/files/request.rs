//! How an operation on files makes its requests: on a leased session, repeated where that is harmless, and with the
//! removal of what a failed transfer has left.

use std::path::Path;
use std::time::Duration;

use sandbox_protocol::tree::{Bytes, Digest};
use sandbox_protocol::{Request, Response};

use super::Files;
use super::path::bytes_of;
use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::ssh::commands::{self, NoStreams};
use crate::ssh::pool::Lease;
use crate::ssh::session::Session;
use crate::ssh::sftp::{self, Client, Quoted};

/// How long the removal of what is left of a failed upload may take: many may have lost their connections at once. A
/// server that kept silent until the time was over is not given as much again.
pub(super) const CLEANUP_TIMEOUT: Duration = Duration::from_secs(10);
const CLEANUP_TIMEOUT_AFTER_SILENCE: Duration = Duration::from_secs(5);

/// Whether a request may be made again when the connection is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    Harmless,
    /// A session that may have died unnoticed is first asked something harmless.
    Never,
}

impl Files<'_> {
    pub(super) fn deadline(&self) -> Deadline {
        Deadline::after(self.link.transfer_timeout())
    }

    pub(super) fn lease(&self, deadline: Deadline) -> Result<Lease> {
        self.link.lease(deadline)
    }

    /// Asks about the file `name` what may be asked twice.
    pub(super) fn ask<T>(&self, name: &[u8], deadline: Deadline, ask: impl Fn(&Client<'_>) -> Result<T>) -> Result<T> {
        let (lease, answer) = self.start_request(deadline, name, Repeat::Harmless, |client| ask(client))?;
        lease.finish();
        Ok(answer)
    }

    /// Changes something at `path`, once.
    pub(super) fn change(
        &self,
        operation: &'static str,
        path: &Path,
        change: impl Fn(&Client<'_>, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.link.call(operation, || {
            let bytes = bytes_of(path)?;
            let (lease, ()) =
                self.start_request(self.deadline(), bytes, Repeat::Never, |client| change(client, bytes))?;
            lease.finish();
            Ok(())
        })
    }

    /// Makes requests about the file `name` on a session that stays with the caller; on another one if the first was
    /// idle and its peer had gone away.
    pub(super) fn start_request<T>(
        &self,
        deadline: Deadline,
        name: &[u8],
        repeat: Repeat,
        ask: impl Fn(&mut Client<'_>) -> Result<T>,
    ) -> Result<(Lease, T)> {
        let unreached = |e: Error| e.context(Quoted(name));
        loop {
            let mut lease = self.lease(deadline).map_err(unreached)?;
            let (is_reused, mut is_asked) = (lease.is_reused(), false);
            let result = Client::new(&mut lease, deadline).map_err(unreached).and_then(|mut client| {
                if repeat == Repeat::Never {
                    if is_reused
                        && let Err(e) = client.lstat(name)
                        && !sftp::is_refusal(&e)
                    {
                        return Err(e);
                    }
                    is_asked = true;
                }
                ask(&mut client)
            });
            match result {
                Ok(value) => return Ok((lease, value)),
                Err(e) if is_asked && !sftp::is_refusal(&e) => return Err(may_be_done(e)),
                Err(e) if e.kind() == ErrorKind::Disconnected && is_reused => {}
                Err(e) => {
                    if sftp::is_refusal(&e) {
                        lease.finish();
                    }
                    return Err(e);
                }
            }
        }
    }

    /// Removes what is left of a transfer that failed with `e`, as far as the sandbox can be reached.
    pub(super) fn remove_part(&self, part: &[u8], e: &Error) {
        match self.start_request(cleanup_deadline(e), part, Repeat::Harmless, |client| client.remove_file(part)) {
            Ok((lease, ())) => lease.finish(),
            Err(e) if e.kind() == ErrorKind::FileNotFound => {}
            Err(e) => log::warn!("a partial file is left in sandbox {}: {e}", self.link.name()),
        }
    }
}

pub(super) fn cleanup_deadline(e: &Error) -> Deadline {
    let was_silent = matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::Cancelled);
    Deadline::after(Some(if was_silent { CLEANUP_TIMEOUT_AFTER_SILENCE } else { CLEANUP_TIMEOUT }))
}

/// A lost connection, a timeout or an interruption after a change was asked for.
pub(super) fn may_be_done(e: Error) -> Error {
    let kind = match e.kind() {
        ErrorKind::Connect | ErrorKind::Disconnected => ErrorKind::OutcomeUnknown,
        kind @ (ErrorKind::TimedOut | ErrorKind::Cancelled) => kind,
        _ => return e,
    };
    e.with_kind(kind).context("the change may have been made")
}

/// The sum of what has passed through a file that was opened by this path with [`flags::DIGEST`](sftp::flags), if the
/// guest has one of so many bytes from the beginning on. Nothing is changed by asking.
pub(super) fn passed_digest(
    session: &mut Session,
    path: &[u8],
    size: u64,
    deadline: Deadline,
) -> Result<Option<[u8; 32]>> {
    let unknown = |e: Error| match e.kind() {
        ErrorKind::OutcomeUnknown => e.with_kind(ErrorKind::Disconnected).context(Quoted(path)),
        _ => e.context(Quoted(path)),
    };
    let answer = commands::request(session, &Request::Digests, &mut NoStreams, deadline).map_err(unknown)?;
    if let Some(e) = answer.cancelled {
        return Err(unknown(e));
    }
    let Response::Digests { digests } = answer.response else { return Ok(None) };
    // The last one, if it was opened more than once.
    let passed = digests.into_iter().rev().find(|digest| digest.path.as_ref() == path);
    let passed = passed.filter(|digest| digest.offset == 0 && digest.length == size);
    let sum = passed.and_then(|digest| digest.sha256);
    Ok(sum.and_then(|sha256| Digest { path: Bytes(path.to_vec()), sha256, size }.bytes()))
}
