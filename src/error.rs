//! What can go wrong, as one opaque error with a kind to branch on.
//!
//! This file depends on nothing else of the crate, so every layer can use it.

mod kind;
mod names;

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;

pub use kind::ErrorKind;
pub(crate) use names::stable_names;

/// A result whose error is [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation failed.
///
/// It says what was tried, on which sandbox, and what happened; [`kind`](Error::kind) is there to branch on, and
/// [`verdict`](Error::verdict) tells what Kubernetes knew when the cause lies in the Pod. The message is one line,
/// lower case, without secrets. It is `Send`, `Sync`, and one pointer wide.
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
    errno: Option<i32>,
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

/// What Kubernetes knows about why a Pod can't start, or why it stopped.
///
/// ```
/// # fn show(error: &sandbox::Error) {
/// if let Some(verdict) = error.verdict() {
///     eprintln!("{}: {} ({})", verdict.cause, verdict.message, verdict.reason);
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Verdict {
    /// The cause as a value to branch on.
    pub cause: Cause,
    /// Kubernetes' own reason, such as `ErrImagePull` or `OOMKilled`; may be empty.
    pub reason: String,
    /// The explanation of Kubernetes, on one line; may be empty.
    pub message: String,
}

/// Why a Pod can't start or has stopped, in a [`Verdict`].
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
    /// Kubernetes reports no problem; the verdict is the last state seen.
    Pending,
}

stable_names!(Cause, "cause", {
    ImagePull => "image_pull",
    Unschedulable => "unschedulable",
    Quota => "quota",
    Rejected => "rejected",
    Configuration => "configuration",
    Exited => "exited",
    OutOfMemory => "out_of_memory",
    Evicted => "evicted",
    DeadlineExceeded => "deadline_exceeded",
    Expired => "expired",
    Deleted => "deleted",
    NodeLost => "node_lost",
    Pending => "pending",
});

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
            ("", "") => self.cause.fmt(f),
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
            errno: None,
            output: None,
            source: None,
        }))
    }

    /// The error by which a callback, such as that of [`Command::stream`](crate::Command::stream), asks to stop; its
    /// kind is [`ErrorKind::Cancelled`].
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

    /// libssh2's error number (negative), or the SFTP status code (positive) of a server that reports no errno.
    pub fn ssh_code(&self) -> Option<i32> {
        self.0.ssh_code
    }

    /// The error number of Linux, such as `ENOENT`, if a system call on a file failed in the sandbox or on this
    /// machine, or if one is why a command did not run.
    ///
    /// ```
    /// use sandbox::{Error, ErrorKind};
    ///
    /// # fn show(error: &Error) {
    /// const EXDEV: i32 = 18;
    /// if error.kind() == ErrorKind::Transfer && error.raw_os_error() == Some(EXDEV) {
    ///     println!("the two names are on different file systems");
    /// }
    /// # }
    /// ```
    pub fn raw_os_error(&self) -> Option<i32> {
        self.0.errno.or(self.0.kind.number())
    }

    /// What the command had written when its time ran out or its connection was lost.
    pub fn partial_output(&self) -> Option<&PartialOutput> {
        self.0.output.as_deref()
    }

    /// True if the same call may succeed later and is safe to repeat, because no request had been sent to the sandbox.
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
            ErrorKind::Unavailable
                | ErrorKind::Connect
                | ErrorKind::Disconnected
                | ErrorKind::Quota
                | ErrorKind::Refused
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

    /// Adds the system's error number. A sandbox may name any: what Linux has none of is left out.
    pub(crate) fn with_errno(mut self, errno: i32) -> Self {
        self.0.errno = Some(errno).filter(|errno| (1..=LARGEST_ERRNO).contains(errno));
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
            errno: inner.errno,
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
        let kind = match error.raw_os_error() {
            Some(errno) => Self::from_raw_os_error(errno).kind(),
            None => error.kind().as_io(),
        };
        Self::new(kind, error)
    }
}

/// Linux has no larger error number.
pub(crate) const LARGEST_ERRNO: i32 = 4095;

/// What the system calls one of its errors, without the number.
pub(crate) fn os_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

/// The error of a text that is none of these names.
pub(crate) fn unknown_name(text: &str, what: &str, names: &[&str]) -> Error {
    let text = text.escape_debug();
    Error::new(
        ErrorKind::InvalidArgument,
        format!("'{text}' is not a valid {what}; it must be one of {}", names.join(", ")),
    )
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
    fn as_an_io_error_it_has_the_kind_of_its_number() {
        let kind = |error: Error| io::Error::from(error).kind();
        let error = Error::new(ErrorKind::Transfer, "").with_errno(libc::EXDEV);
        assert_eq!((error.raw_os_error(), kind(error)), (Some(libc::EXDEV), io::ErrorKind::CrossesDevices));
        let error = Error::new(ErrorKind::IsADirectory, "");
        assert_eq!((error.raw_os_error(), kind(error)), (Some(libc::EISDIR), io::ErrorKind::IsADirectory));
        // A sandbox is no file.
        let error = Error::new(ErrorKind::NotFound, "");
        assert_eq!((error.raw_os_error(), kind(error)), (None, io::ErrorKind::NotConnected));
        assert_eq!(kind(Error::new(ErrorKind::PermissionDenied, "")), io::ErrorKind::PermissionDenied);
        assert_eq!(Error::new(ErrorKind::Command, "").with_errno(4096).raw_os_error(), None);
        assert_eq!(os_text(libc::ENOENT), "No such file or directory");
    }

    #[test]
    fn a_verdict_without_words_is_its_cause() {
        assert_eq!(Verdict::new(Cause::NodeLost, "", "").to_string(), "node_lost");
    }

    #[test]
    fn is_one_pointer_wide_and_crosses_threads() {
        fn crosses_threads<T: Send + Sync>() {}
        crosses_threads::<Error>();
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }
}
