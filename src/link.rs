//! What commands and files hold of a sandbox: the way to its SSH sessions and the client's timeouts, and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use sandbox_protocol::{Expiry, Hello, PROTOCOL, Promises, Request, Response};

use crate::context::Context;
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::{Cause, Error, ErrorKind, Result, Verdict};
use crate::ssh::commands::{self, Answer, NoStreams, Streams};
use crate::ssh::pool::Lease;
use crate::ssh::session::Session;
use crate::text;

/// How long after a lost connection Kubernetes may take to know that the Pod has ended: the kubelet reports the end of
/// a container up to a second late.
const VERDICT_DELAY: Duration = Duration::from_millis(1500);
const VERDICT_RETRY: Duration = Duration::from_millis(250);
/// Connections that may be lost soon after they were made before a question is given up.
const LOSSES: u32 = 3;
const SOON: Duration = Duration::from_secs(10);

/// A client's way to one sandbox. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    endpoint: Arc<Endpoint>,
}

impl Link {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint }
    }

    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub(crate) fn ctx(&self) -> &Arc<Context> {
        self.endpoint.ctx()
    }

    /// The name of the sandbox.
    pub(crate) fn name(&self) -> &str {
        self.endpoint.name()
    }

    pub(crate) fn command_timeout(&self) -> Option<Duration> {
        self.ctx().config.command_timeout
    }

    pub(crate) fn transfer_timeout(&self) -> Option<Duration> {
        self.ctx().config.transfer_timeout
    }

    /// Fails if this thread must not block, or belongs to a forked child.
    pub(crate) fn check_caller(&self) -> Result<()> {
        self.ctx().check_caller()
    }

    /// A logged-in session for one operation.
    pub(crate) fn lease(&self, deadline: Deadline) -> Result<Lease> {
        self.endpoint.lease(deadline)
    }

    /// A logged-in session that the pool does not know.
    pub(crate) fn new_session(&self, deadline: Deadline) -> Result<Session> {
        self.endpoint.new_session(deadline)
    }

    /// Asks the guest for something, on a session of the pool; see [`commands::request`].
    pub(crate) fn request(&self, request: &Request, streams: &mut impl Streams, deadline: Deadline) -> Result<Answer> {
        loop {
            let mut lease = self.lease(deadline)?;
            match commands::request(&mut lease, request, streams, deadline) {
                // An idle session whose peer went away unnoticed: nothing was begun.
                Err(e) if e.kind() == ErrorKind::Disconnected && lease.is_reused() => {}
                answer => {
                    let answer = answer?;
                    lease.finish();
                    return Ok(answer);
                }
            }
        }
    }

    /// Asks the guest who it is. The error of another protocol says both versions; promises that do not hold here are
    /// logged.
    pub(crate) fn greet(&self, deadline: Deadline) -> Result<()> {
        let answer = self.request(&Request::Hello, &mut NoStreams, deadline)?;
        if let Some(e) = answer.cancelled {
            return Err(e);
        }
        let Response::Hello(hello) = answer.response else { return Err(commands::not_an_answer()) };
        check_protocol(&hello)?;
        for promise in broken(hello.promises) {
            log::warn!("sandbox {}: {promise}", self.name());
        }
        Ok(())
    }

    /// What the guest answers to a question for the expiry: the time that is left, `None` for ever.
    pub(crate) fn remaining(&self, request: &Request, deadline: Deadline) -> Result<Option<Duration>> {
        // Not only on the pool's sessions: a sandbox must not expire because all of them are busy.
        match self.request_aside(request, deadline)? {
            Response::Expiry(Expiry { remaining_ms, .. }) => Ok(remaining_ms.map(Duration::from_millis)),
            _ => Err(commands::not_an_answer()),
        }
    }

    /// Repeats a question that lost its connection: to ask again does no harm. It gives up where that goes on
    /// happening, and where the sandbox has ended.
    pub(crate) fn repeatedly<T>(
        &self,
        timeout: Option<Duration>,
        mut ask: impl FnMut(Deadline) -> Result<T>,
    ) -> Result<T> {
        let (deadline, mut losses) = (Deadline::after(timeout), 0);
        loop {
            let began = Instant::now();
            let error = match ask(deadline) {
                Err(e) if matches!(e.kind(), ErrorKind::OutcomeUnknown | ErrorKind::Disconnected) => {
                    self.diagnose(e.with_kind(ErrorKind::Disconnected).on(self.name()))
                }
                result => return result,
            };
            let has_ended = error.verdict().is_some_and(|verdict| verdict.cause != Cause::Pending);
            losses = if began.elapsed() < SOON { losses + 1 } else { 1 };
            if has_ended || losses >= LOSSES || deadline.has_passed() {
                return Err(error);
            }
            log::debug!("asking sandbox {} again: {error}", self.name());
        }
    }

    /// Asks the guest for something on an idle session, or on a new one if all are busy and no more may be opened.
    pub(crate) fn request_aside(&self, request: &Request, deadline: Deadline) -> Result<Response> {
        let answer = match self.endpoint.is_busy() {
            true => commands::request(&mut self.new_session(deadline)?, request, &mut NoStreams, deadline)?,
            false => self.request(request, &mut NoStreams, deadline)?,
        };
        match answer.cancelled {
            Some(e) => Err(e),
            None => Ok(answer.response),
        }
    }

    /// Waits for the turn of this thread.
    pub(crate) fn lock<'m, T>(&self, mutex: &'m Mutex<T>) -> Result<MutexGuard<'m, T>> {
        // In a forked child the thread that holds the lock does not exist.
        self.check_caller()?;
        Deadline::after(None).lock(mutex, "a call of another thread")
    }

    /// Does the work of one public function. Its error gets the operation's name and the sandbox's, and what Kubernetes
    /// knows if the connection failed.
    pub(crate) fn call<T>(&self, operation: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.check_caller().and_then(|()| work()).map_err(|e| self.report(e, operation))
    }

    /// The error of a public function: named, and diagnosed unless a function below it has done that.
    pub(crate) fn report(&self, error: Error, operation: &'static str) -> Error {
        let error = error.during(operation);
        if error.sandbox().is_some() {
            return error;
        }
        self.diagnose(error.on(self.name()))
    }

    /// Says why a connection failed, for which Kubernetes is asked unless that was done on the way. If the Pod has
    /// ended, the endpoint is closed.
    pub(crate) fn diagnose(&self, error: Error) -> Error {
        let is_connection = matches!(
            error.kind(),
            ErrorKind::Connect
                | ErrorKind::Disconnected
                | ErrorKind::OutcomeUnknown
                | ErrorKind::HostKeyMismatch
                // The tunnel has asked for a Pod that is gone.
                | ErrorKind::NotFound
        );
        if !is_connection {
            return error;
        }
        let known = error.verdict().cloned().or_else(|| self.endpoint.ended());
        let verdict = match known.map_or_else(|| self.verdict(), |known| Ok(Some(known))) {
            Ok(Some(verdict)) => verdict,
            Ok(None) => return unknown_to_its_node(error),
            Err(e) => {
                log::debug!("no verdict on sandbox {}: {e}", self.name());
                return error;
            }
        };
        if verdict.cause == Cause::Pending {
            return unknown_to_its_node(error).with_verdict(verdict);
        }
        // A Pod that has ended never comes back under this uid.
        self.endpoint.end(&verdict);
        let verdict = self.endpoint.ended().unwrap_or(verdict);
        let error = match (verdict.cause, error.kind()) {
            (_, ErrorKind::OutcomeUnknown) => error,
            (Cause::Deleted, _) => error.with_kind(ErrorKind::NotFound),
            _ => unknown_to_its_node(error),
        };
        error.with_verdict(verdict)
    }

    /// What Kubernetes knows of the sandbox's end, asked for up to twice [`VERDICT_DELAY`] and whatever the caller's
    /// deadline is.
    fn verdict(&self) -> Result<Option<Verdict>> {
        let (ctx, endpoint) = (self.ctx(), &self.endpoint);
        let ask = async {
            let end = tokio::time::Instant::now() + VERDICT_DELAY;
            loop {
                let verdict = ctx.cluster.verdict(endpoint.name(), endpoint.uid()).await?;
                if verdict.is_some() || tokio::time::Instant::now() >= end {
                    return Ok(verdict);
                }
                tokio::time::sleep(VERDICT_RETRY).await;
            }
        };
        ctx.runtime.block_on(Deadline::after(Some(2 * VERDICT_DELAY)), "the Kubernetes API server", ask)
    }
}

/// The error of a Pod that exists. Where it has just come or has ended, the tunnel may not find it.
fn unknown_to_its_node(e: Error) -> Error {
    if e.kind() == ErrorKind::NotFound { e.with_kind(ErrorKind::Connect) } else { e }
}

fn check_protocol(hello: &Hello) -> Result<()> {
    if hello.protocol == PROTOCOL {
        return Ok(());
    }
    let message = format!(
        "the sandbox's guest is version {} with protocol {}, this library is version {} with protocol {PROTOCOL}: take a guest image \
         of the library's version (guest_image)",
        text::shown(&hello.version),
        hello.protocol,
        env!("CARGO_PKG_VERSION")
    );
    Err(Error::new(ErrorKind::Create, message))
}

/// What does not hold of the promises about a sandbox.
fn broken(promises: Promises) -> impl Iterator<Item = &'static str> {
    [
        (promises.first_process, "code in it can end its guest, and with it the sandbox"),
        (promises.execute_only, "code in it may take over the program that lets another client in"),
        (promises.not_dumpable, "code in it can read and change its guest's memory"),
        (promises.fenced, "code in it can change its guest's resource limits"),
        (promises.descent, "processes of a command that left it may survive a kill"),
        (promises.untampered, "the resource limits of its guest were changed"),
    ]
    .into_iter()
    .filter_map(|(holds, text)| (!holds).then_some(text))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;
    use crate::config::Config;
    use crate::ssh::identity::Identity;
    use crate::testing;

    /// A link to a server that hangs up.
    fn link() -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || listener.incoming().for_each(drop));
        testing::link_to(address, Identity::generate().unwrap().public().as_str(), Config::new())
    }

    #[test]
    fn a_failed_connection_is_named_and_diagnosed_in_time() {
        let (link, began) = (link(), Instant::now());
        let error = link.call("test", || link.lease(Deadline::after(None)).map(drop)).unwrap_err();
        assert_eq!((error.kind(), error.operation(), error.sandbox()), (ErrorKind::Connect, "test", Some("test")));
        assert!(error.verdict().is_none(), "the API server does not answer");
        assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < 10 * VERDICT_DELAY);
        // A function above it asks no second time.
        let began = Instant::now();
        let again = link.call("outer", || Err::<(), _>(error)).unwrap_err();
        assert_eq!(again.operation(), "test");
        assert!(began.elapsed() < VERDICT_DELAY);
    }

    #[test]
    fn a_guest_of_another_protocol_is_refused_with_both_versions() {
        let hello = |protocol| Hello { protocol, version: "9.9\u{1b}[2J".to_owned(), ..Hello::default() };
        assert!(check_protocol(&hello(PROTOCOL)).is_ok());
        for other in [0, PROTOCOL + 1, u32::MAX] {
            let error = check_protocol(&hello(other)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Create);
            for text in ["version 9.9", &format!("protocol {other},"), env!("CARGO_PKG_VERSION"), "guest_image"] {
                assert!(error.message().contains(text), "{error}");
            }
            assert!(!error.message().contains('\u{1b}'));
        }
    }

    #[test]
    fn other_failures_are_only_named() {
        let (link, began) = (link(), Instant::now());
        let refuse = || Err::<(), _>(Error::new(ErrorKind::InvalidArgument, "no"));
        let error = link.call("test", refuse).unwrap_err();
        assert_eq!(error.to_string(), "test (test): no");
        assert!(began.elapsed() < VERDICT_DELAY);
    }

    #[test]
    fn an_ended_sandbox_says_each_time_why() {
        let link = link();
        link.endpoint().end(&Verdict::new(Cause::Expired, "Error", "exit code 82"));
        for _ in 0..2 {
            let error = link.call("test", || link.lease(Deadline::after(None)).map(drop)).unwrap_err();
            assert_eq!(error.verdict().map(|verdict| verdict.cause), Some(Cause::Expired));
            assert!(error.kind() == ErrorKind::Disconnected && !error.is_retryable(), "{error}");
            assert!(link.new_session(Deadline::after(None)).unwrap_err().verdict().is_some());
        }
    }

    #[test]
    fn a_closed_endpoint_lends_nothing() {
        let link = link();
        link.endpoint().close();
        assert_eq!(link.lease(Deadline::after(None)).unwrap_err().kind(), ErrorKind::Closed);
    }
}
