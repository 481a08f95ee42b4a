//! A tool in the sandbox whose streams are worked on here, and how both sides ended.

use std::io::{self, Read};
use std::thread;

use super::TreeProgress;
use crate::command::Child;
use crate::error::{Error, ErrorKind, Result};
use crate::exit_status::ExitStatus;
use crate::files::request::tool_failure;
use crate::ssh::sftp::Quoted;

/// How much of what tar says is kept.
const SAID: u64 = 256 << 10;

/// What ends a stream early.
pub(super) enum StreamError {
    /// The cause is on this side.
    Local(Error),
    /// The stream is at fault; whoever is at its other end knows why.
    Remote(io::Error),
}

impl From<io::Error> for StreamError {
    fn from(e: io::Error) -> Self {
        // This library's own is not from the stream.
        e.downcast().map_or_else(Self::Remote, Self::Local)
    }
}

impl From<Error> for StreamError {
    fn from(e: Error) -> Self {
        Self::Local(e)
    }
}

impl StreamError {
    fn into_error(self, so_far: String) -> Error {
        match self {
            Self::Local(e) => e,
            Self::Remote(e) => Error::new(ErrorKind::Transfer, format!("{so_far}: {e}")).with_source(e),
        }
    }

    /// Whatever the tool has to say makes no difference: it may have no end.
    fn is_final(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Remote(e) => e.kind() == io::ErrorKind::InvalidData,
        }
    }
}

pub(super) type Streamed<T> = std::result::Result<T, StreamError>;

/// How both sides of a stream ended, and what the tool said.
pub(super) struct ToolOutcome {
    pub(super) local: Streamed<()>,
    pub(super) remote: Result<ExitStatus>,
    pub(super) stderr: String,
}

/// Works on a tool's streams and waits for its end.
pub(super) fn stream(child: Child, work: impl FnOnce(&mut Child) -> Streamed<()>) -> ToolOutcome {
    thread::scope(|scope| {
        // Gone when `work` panics, so that the listener's stream ends.
        let mut child = child;
        let stderr = child.stderr.take();
        let listener = scope.spawn(move || {
            let mut said = Vec::new();
            if let Some(mut stderr) = stderr {
                // A lost connection ends the stream; the reason comes from `wait`.
                let _ = (&mut stderr).take(SAID).read_to_end(&mut said);
                let _ = io::copy(&mut stderr, &mut io::sink());
            }
            String::from_utf8_lossy(&said).into_owned()
        });
        let local = work(&mut child);
        if local.as_ref().is_err_and(StreamError::is_final) {
            let _ = child.kill();
        }
        let remote = child.wait().map_err(Error::within_operation);
        if remote.as_ref().is_err_and(|e| e.kind() == ErrorKind::Cancelled) {
            let _ = child.kill().and_then(|()| child.wait());
        }
        ToolOutcome { local, remote, stderr: listener.join().unwrap_or_default() }
    })
}

/// What GNU tar says of files that others are at work on; its exit code is 1 then.
const TOLERATED: [&str; 3] = ["file changed as we read it", "File removed before we read it", "socket ignored"];

impl ToolOutcome {
    pub(super) fn into_result(self, progress: &TreeProgress<'_, '_>, name: &[u8], done: &str) -> Result<()> {
        let so_far = || {
            let (path, bytes) = (progress.path.display(), progress.report.bytes);
            format!("{} can't be {done} beyond '{path}' and {bytes} bytes", Quoted(name))
        };
        let is_tolerable = |line: &str| {
            TOLERATED.iter().any(|words| line.ends_with(words)) || line.contains("Exiting with failure status")
        };
        let is_content = |status: &ExitStatus| {
            status.success() || (status.code() == Some(1) && self.stderr.lines().all(is_tolerable))
        };
        match (self.local, self.remote) {
            (Err(StreamError::Local(e)), _) if e.kind() == ErrorKind::Cancelled => Err(e.context(so_far())),
            (Err(StreamError::Local(e)), _) => Err(e),
            (Err(error @ StreamError::Remote(_)), _) if error.is_final() => Err(error.into_error(so_far())),
            // Nothing has its name yet, so doing it again is harmless.
            (_, Err(e)) if e.kind() == ErrorKind::OutcomeUnknown => {
                Err(e.with_kind(ErrorKind::Disconnected).context(so_far()))
            }
            (_, Err(e)) => Err(e.context(so_far())),
            (_, Ok(status)) if !is_content(&status) => Err(tool_failure(&self.stderr, &status, name, done)),
            (Err(error), Ok(_)) => Err(error.into_error(so_far())),
            (Ok(()), Ok(_)) => Ok(()),
        }
    }
}
