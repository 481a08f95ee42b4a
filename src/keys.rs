//! Keys with which somebody else than the client may log in to a sandbox.

use std::time::Duration;

use sandbox_protocol::{self as protocol, AuthorizeKey, Failure, FailureKind, Request, Response, RevokeKey};

use crate::deadline::Deadline;
use crate::error::{Error, ErrorKind, Result};
use crate::link::Link;
use crate::ssh::commands;
use crate::text;

/// A key with which somebody else than the clients may log in, from
/// [`Sandbox::authorized_keys`](crate::Sandbox::authorized_keys).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct AuthorizedKey {
    /// The public key as in a line of OpenSSH's `authorized_keys`, with its comment.
    pub key: String,
    /// How long it may log in yet; `None` is as long as the sandbox lives.
    pub remaining: Option<Duration>,
}

pub(crate) fn authorize(link: &Link, key: &str, lifetime: Option<Duration>) -> Result<()> {
    let lifetime_ms = lifetime.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let request = Request::AuthorizeKey(AuthorizeKey { key: key.to_owned(), lifetime_ms });
    match ask(link, &request)? {
        Response::Done => Ok(()),
        Response::Failed(failure) => Err(failed(&failure)),
        _ => Err(commands::not_an_answer()),
    }
}

pub(crate) fn authorized(link: &Link) -> Result<Vec<AuthorizedKey>> {
    let told = |key: protocol::AuthorizedKey| AuthorizedKey {
        key: key.key.chars().filter(|character| !character.is_control()).collect(),
        remaining: key.remaining_ms.map(Duration::from_millis),
    };
    match ask(link, &Request::AuthorizedKeys)? {
        Response::Keys { keys } => Ok(keys.into_iter().map(told).collect()),
        Response::Failed(failure) => Err(failed(&failure)),
        _ => Err(commands::not_an_answer()),
    }
}

/// False if no such key could log in.
pub(crate) fn revoke(link: &Link, key: &str) -> Result<bool> {
    match ask(link, &Request::RevokeKey(RevokeKey { key: key.to_owned() }))? {
        Response::Done => Ok(true),
        Response::Failed(failure) if failure.kind == FailureKind::NotFound => Ok(false),
        Response::Failed(failure) => Err(failed(&failure)),
        _ => Err(commands::not_an_answer()),
    }
}

fn ask(link: &Link, request: &Request) -> Result<Response> {
    link.request_aside(request, Deadline::after(link.command_timeout()))
}

fn failed(failure: &Failure) -> Error {
    let kind = match failure.kind {
        FailureKind::Conflict => ErrorKind::Conflict,
        FailureKind::Invalid => ErrorKind::InvalidArgument,
        _ if failure.errno == Some(libc::EPERM) => ErrorKind::PermissionDenied,
        _ => ErrorKind::Command,
    };
    Error::new(kind, text::shown(&failure.message))
}
