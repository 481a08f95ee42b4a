//! What can go wrong, as one opaque error with a kind to branch on.
//!
//! This file depends on nothing else of the crate, so every layer can use it.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed.
///
/// It says what was tried, on which sandbox, and what happened; [`kind`](Error::kind) is there to branch on, and
/// [`verdict`](Error::verdict) tells what Kubernetes knew when the cause lies in the Pod. The message is one line, lower
/// case, without secrets. It is `Send`, `Sync`, and one pointer wide.
///
/// ```
/// use sandbox::{Config, ErrorKind};
///
/// let error = Config::new().set("ssh_port", "seventy").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(error.to_string().contains("seventy"));
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    operation: Option<Cow<'static, str>>,
    sandbox: Option<String>,
    message: Cow<'static, str>,
    verdict: Option<Verdict>,
    http_status: Option<u16>,
    ssh_code: Option<i32>,
    output: Option<Box<PartialOutput>>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What a command had written when it was stopped; see [`Error::partial_output`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartialOutput {
    /// Bytes of the standard output that arrived.
    pub stdout: Vec<u8>,
    /// Bytes of the standard error that arrived.
    pub stderr: Vec<u8>,
}

/// The kinds of [`Error`], the same in every language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument can't be meant as given; nothing was tried.
    InvalidArgument,
    /// A setting, the kubeconfig or the service account can't be used; the message names it and what is allowed.
    Config,
    /// A blocking call was made from async code, where it would stall the executor. Use the executor's way to run
    /// blocking code, such as `tokio::task::spawn_blocking`.
    AsyncContext,
    /// The client was made before `fork`; its threads don't exist in the child. Make a new client there.
    Forked,
    /// The handle was closed, or its sandbox deleted through it.
    Closed,
    /// No such sandbox, or no such file in it.
    NotFound,
    /// A sandbox or a file of that name exists already, or somebody else changed the same object at the same time.
    Conflict,
    /// Kubernetes, or the file system of the sandbox, does not allow it.
    PermissionDenied,
    /// A quota of the namespace, or the API server's limit of requests, is used up.
    Quota,
    /// A disk is full, or its quota used up: in the sandbox or, as the message says then, on this machine.
    StorageFull,
    /// The API server can't be reached or can't answer now. Trying later may help.
    Unavailable,
    /// No connection to the sandbox's SSH server could be made.
    Connect,
    /// The sandbox's SSH server refused this client's key or user name.
    Authentication,
    /// The SSH server showed another host key than the one pinned for this sandbox. Nothing was sent to it.
    HostKeyMismatch,
    /// An established connection was lost before anything was asked of the sandbox, or where asking again is harmless.
    Disconnected,
    /// The sandbox could not be created; [`Error::verdict`] has the cluster's reason. Its Pod is deleted again.
    Create,
    /// The sandbox could not be deleted, or its end could not be confirmed.
    Delete,
    /// The command could not be started: it did not run.
    Command,
    /// The command ran and did not succeed. Only `Output::check` makes this error; by itself an exit code is data.
    CommandFailed,
    /// The connection was lost after a command was requested, or a change of a file that is not to be made twice: it may have
    /// happened, in part or whole. It is never asked twice.
    OutcomeUnknown,
    /// The operation's time ran out. For a command, its processes were killed; see [`Error::partial_output`].
    TimedOut,
    /// A file could not be moved, or something else could not be done to it, for a reason that has no kind of its own. The target
    /// of a transfer is as it was before.
    Transfer,
    /// The caller's own callback, or the question of [`interruptible`](crate::interruptible), asked to stop.
    Cancelled,
    /// A bug in this library: a panic was caught at its border. The handle stays usable.
    Panic,
}

/// What Kubernetes knows about why a Pod can't start, or why it stopped.
///
/// ```
/// # fn show(error: &sandbox::Error) {
/// if let Some(verdict) = error.verdict() {
///     eprintln!("{:?}: {} ({})", verdict.cause, verdict.message, verdict.reason);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// The cause as a value to branch on.
    pub cause: Cause,
    /// The word that Kubernetes itself uses, such as `ErrImagePull` or `OOMKilled`; may be empty.
    pub reason: String,
    /// The explanation of Kubernetes, on one line; may be empty.
    pub message: String,
}

/// The causes that a [`Verdict`] tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The image does not exist, can't be reached, or needs credentials.
    ImagePull,
    /// No node can take the Pod.
    Unschedulable,
    /// A quota of the namespace forbids it.
    Quota,
    /// Admission (Pod security, a policy, a webhook) or validation rejected the Pod.
    Rejected,
    /// The container can't be set up: a missing Secret or ConfigMap, a bad command, a failed volume.
    Configuration,
    /// The container's main process ended by itself.
    Exited,
    /// The container used more memory than its limit and was killed.
    OutOfMemory,
    /// The node evicted the Pod.
    Evicted,
    /// The Pod reached its hard time limit (`activeDeadlineSeconds`).
    DeadlineExceeded,
    /// The sandbox reached its own expiry.
    Expired,
    /// The Pod was deleted, or is being deleted.
    Deleted,
    /// The node is gone or does not answer.
    NodeLost,
    /// Nothing is wrong that Kubernetes knows of: this is the last state that was seen.
    Pending,
}

impl Verdict {
    pub(crate) fn new(cause: Cause, reason: impl Into<String>, message: impl AsRef<str>) -> Self {
        let message = message.as_ref().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { cause, reason: reason.into(), message }
    }
}

impl Cause {
    /// Whether it is the end of a sandbox that ran.
    pub(crate) fn is_final(self) -> bool {
        match self {
            Self::Exited
            | Self::OutOfMemory
            | Self::Evicted
            | Self::DeadlineExceeded
            | Self::Expired
            | Self::Deleted
            | Self::NodeLost => true,
            Self::ImagePull
            | Self::Unschedulable
            | Self::Quota
            | Self::Rejected
            | Self::Configuration
            | Self::Pending => false,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.reason.as_str(), self.message.as_str()) {
            ("", "") => write!(f, "{:?}", self.cause),
            ("", message) => f.write_str(message),
            (reason, "") => f.write_str(reason),
            (reason, message) => write!(f, "{reason}: {message}"),
        }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            operation: None,
            sandbox: None,
            message: message.into(),
            verdict: None,
            http_status: None,
            ssh_code: None,
            output: None,
            source: None,
        }))
    }

    /// The error by which a callback, such as that of [`Command::stream`](crate::Command::stream), asks to stop; its kind is
    /// [`ErrorKind::Cancelled`].
    pub fn cancelled(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Cancelled, message)
    }

    /// The kind to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// What was tried, such as `create sandbox`; empty where the error has no operation.
    pub fn operation(&self) -> &str {
        self.0.operation.as_deref().unwrap_or_default()
    }

    /// The name of the sandbox that it was tried on.
    pub fn sandbox(&self) -> Option<&str> {
        self.0.sandbox.as_deref()
    }

    /// What happened, without the operation and the sandbox.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What Kubernetes says about the Pod, where the failure has its cause there.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.0.verdict.as_ref()
    }

    /// The HTTP status of the API server's answer, if it was one that failed.
    pub fn http_status(&self) -> Option<u16> {
        self.0.http_status
    }

    /// libssh2's error number, or the SFTP status, if one of them failed.
    pub fn ssh_code(&self) -> Option<i32> {
        self.0.ssh_code
    }

    /// What the command had written when its time ran out or its connection was lost.
    pub fn partial_output(&self) -> Option<&PartialOutput> {
        self.0.output.as_deref()
    }

    /// True if trying the same call again later may succeed and can't do harm: nothing had been asked of the sandbox.
    ///
    /// ```no_run
    /// # fn show(sandbox: &sandbox::Sandbox) -> sandbox::Result<()> {
    /// let result = sandbox.execute("date");
    /// let again = match result {
    ///     Err(e) if e.is_retryable() => sandbox.execute("date"),
    ///     result => result,
    /// };
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_retryable(&self) -> bool {
        // A sandbox that has ended does not come back.
        let has_ended = self.verdict().is_some_and(|verdict| verdict.cause.is_final());
        let may_pass = matches!(
            self.0.kind,
            ErrorKind::Unavailable | ErrorKind::Connect | ErrorKind::Disconnected | ErrorKind::Quota
        );
        may_pass && !has_ended
    }

    /// Names the operation, unless a deeper layer has done so.
    pub(crate) fn during(mut self, operation: impl Into<Cow<'static, str>>) -> Self {
        self.0.operation.get_or_insert(operation.into());
        self
    }

    /// Leaves it to the caller to name the operation, of which what failed is only a part.
    pub(crate) fn within_operation(mut self) -> Self {
        self.0.operation = None;
        self
    }

    /// Names the sandbox, unless a deeper layer has done so.
    pub(crate) fn on(mut self, sandbox: &str) -> Self {
        self.0.sandbox.get_or_insert_with(|| sandbox.to_owned());
        self
    }

    pub(crate) fn with_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    pub(crate) fn with_verdict(mut self, verdict: Verdict) -> Self {
        self.0.verdict = Some(verdict);
        self
    }

    pub(crate) fn with_http_status(mut self, status: u16) -> Self {
        self.0.http_status = Some(status);
        self
    }

    pub(crate) fn with_ssh_code(mut self, code: i32) -> Self {
        self.0.ssh_code = Some(code);
        self
    }

    pub(crate) fn with_output(mut self, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        self.0.output = Some(Box::new(PartialOutput { stdout, stderr }));
        self
    }

    pub(crate) fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error for a second reader, without its source.
    pub(crate) fn again(&self) -> Self {
        let inner = &self.0;
        Self(Box::new(Inner {
            kind: inner.kind,
            operation: inner.operation.clone(),
            sandbox: inner.sandbox.clone(),
            message: inner.message.clone(),
            verdict: inner.verdict.clone(),
            http_status: inner.http_status,
            ssh_code: inner.ssh_code,
            output: inner.output.clone(),
            source: None,
        }))
    }

    /// Puts the message behind a clause that says what it hindered.
    pub(crate) fn context(mut self, clause: impl fmt::Display) -> Self {
        self.0.message = format!("{clause}: {}", self.0.message).into();
        self
    }
}

/// For what implements `std::io`'s traits; [`io::Error::get_ref`] gives the error back.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::InvalidArgument => io::ErrorKind::InvalidInput,
            ErrorKind::NotFound => io::ErrorKind::NotFound,
            ErrorKind::Conflict => io::ErrorKind::AlreadyExists,
            ErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
            ErrorKind::StorageFull => io::ErrorKind::StorageFull,
            ErrorKind::TimedOut => io::ErrorKind::TimedOut,
            ErrorKind::Disconnected | ErrorKind::OutcomeUnknown => io::ErrorKind::ConnectionAborted,
            ErrorKind::Closed => io::ErrorKind::NotConnected,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.0.operation, &self.0.sandbox) {
            (Some(operation), Some(sandbox)) => write!(f, "{operation} ({sandbox}): ")?,
            (Some(operation), None) => write!(f, "{operation}: ")?,
            (None, Some(sandbox)) => write!(f, "{sandbox}: ")?,
            (None, None) => {}
        }
        f.write_str(&self.0.message)?;
        match &self.0.verdict {
            Some(verdict) => write!(f, "; Kubernetes says: {verdict}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.to_string())
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_operation_sandbox_message_and_verdict() {
        let error = Error::new(ErrorKind::Create, "the image can't be pulled")
            .with_verdict(Verdict::new(Cause::ImagePull, "ErrImagePull", "no such\n  image"))
            .on("box-1")
            .on("never: the deepest layer knows best")
            .during("create sandbox");
        assert_eq!(
            error.to_string(),
            "create sandbox (box-1): the image can't be pulled; Kubernetes says: ErrImagePull: no such image"
        );
    }

    #[test]
    fn is_one_pointer_wide_and_crosses_threads() {
        fn crosses_threads<T: Send + Sync>() {}
        crosses_threads::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
