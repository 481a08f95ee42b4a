//! Requests about detached commands.

use std::fmt;
use std::sync::Arc;

use ring::digest::{Context as Sha256, SHA256};
use sandbox_protocol::{
    Bytes, DetachedFollow, DetachedRead, DetachedStart, Failure, FailureKind, Followed, FrameKind, Input, Response,
    STDIN_WINDOW, Stream as Which,
};

use super::Active;
use super::frames::{Outbox, send_stream};
use super::run::{excess, spec};
use crate::detached::{DEFAULT_OUTPUT_LIMIT, Entry, NewEntry, Phase, Start};
use crate::process::{Spec, Stdio, Stream};
use crate::server::channel::{Context, Link};
use crate::store::{Store, directories};

/// A detached command that waits for its input.
pub(super) struct Upload {
    request: DetachedStart,
    spec: Spec,
    input: Store,
    digest: Sha256,
    credit: usize,
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("request", &self.request)
            .field("input", &self.input.info())
            .finish_non_exhaustive()
    }
}

/// Bytes of arguments that are kept for lists.
const MOST_ARGUMENTS: usize = 4096;

impl Upload {
    pub(super) fn new(context: &Context, request: DetachedStart) -> Result<Self, Box<Response>> {
        if request.run.terminal.is_some() {
            let message = "a detached command has no terminal".to_owned();
            return Err(Box::new(Response::Failed(Failure { kind: FailureKind::Invalid, message, errno: None })));
        }
        let mut spec = spec(&context.shared, &request.run)?;
        spec.kill_on_close = false;
        let mut digest = Sha256::new(&SHA256);
        // The same request gives the same text.
        let text = serde_json::to_vec(&(&request.run, request.output_limit)).unwrap_or_default();
        digest.update(&(text.len() as u64).to_be_bytes());
        digest.update(&text);
        let input = Store::new(&directories(context.shared.environment.temporary()), u64::MAX);
        Ok(Self { request, spec, input, digest, credit: 0 })
    }

    pub(super) fn has_input(&self) -> bool {
        self.request.run.stdin == Input::Frames
    }

    pub(super) fn input(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.input.append(bytes);
        self.credit += bytes.len();
    }

    pub(super) fn credit(&mut self, outbox: &mut Outbox) {
        if self.credit >= STDIN_WINDOW / 4 {
            let credit = u32::try_from(std::mem::take(&mut self.credit)).unwrap_or(u32::MAX);
            outbox.add(FrameKind::StdinCredit, &credit.to_be_bytes());
        }
    }

    /// All of the input is there.
    pub(super) fn start(self, context: &Context) -> Result<Active, Box<Response>> {
        let has_input = self.has_input();
        let Self { request, mut spec, input, digest, .. } = self;
        let failed = |message: String, errno: Option<i32>| {
            Box::new(Response::Failed(Failure { kind: FailureKind::Other, message, errno }))
        };
        let kept = input.info();
        if kept.dropped > 0 {
            return Err(failed("there is no space for the command's input".to_owned(), kept.errno));
        }
        if has_input {
            let file = input
                .into_file()
                .map_err(|e| failed(format!("the command's input can't be kept: {e}"), Some(e.raw_os_error())))?;
            if let Stdio::Streams { stdin, .. } = &mut spec.stdio {
                *stdin = Stream::File(file.into());
            }
        }
        let limit = request.output_limit.unwrap_or(DEFAULT_OUTPUT_LIMIT);
        let directories = directories(context.shared.environment.temporary());
        let mut digested = [0; 32];
        digested.copy_from_slice(digest.finish().as_ref());
        let new = NewEntry {
            key: request.key,
            digest: digested,
            argv: cut(&spec.argv),
            excess: excess(&spec),
            client: Arc::clone(&context.client),
            stdout: Store::new(&directories, limit),
            stderr: Store::new(&directories, limit),
        };
        let start = context
            .shared
            .detached
            .start(new, || context.shared.begin(spec))
            .map_err(|failure| Box::new(Response::Failed(failure)))?;
        let (entry, started) = match start {
            Start::New(entry) => (entry, true),
            Start::Known(entry) => (entry, false),
        };
        entry.watch(&context.waker);
        Ok(Active::Start(entry, started))
    }
}

/// The first arguments.
fn cut(argv: &[Vec<u8>]) -> Vec<Bytes> {
    let mut left = MOST_ARGUMENTS;
    let mut kept = Vec::new();
    for argument in argv {
        let length = argument.len().min(left);
        kept.push(Bytes(argument[..length].to_vec()));
        left -= length;
        if left == 0 {
            break;
        }
    }
    kept
}

/// The answer to a start, once it is known whether it runs.
pub(super) fn start_response(entry: &Entry, started: bool) -> Option<Response> {
    match entry.phase() {
        Phase::Starting => None,
        Phase::NeverRan(reason) => Some(Response::NeverRan(reason)),
        Phase::Running { .. } | Phase::Ended { .. } => Some(Response::Detached(Box::new(entry.info(started)))),
    }
}

/// Output that is being handed over.
#[derive(Debug)]
pub(super) struct Follow {
    entry: Arc<Entry>,
    /// Where in each stream to go on.
    at: [u64; 2],
    /// Where to stop.
    until: [u64; 2],
    /// Waits for what is still to come.
    waits: bool,
    failed: Option<Response>,
}

impl Follow {
    pub(super) fn new(entry: Arc<Entry>, request: &DetachedFollow) -> Self {
        Self { entry, at: [request.stdout, request.stderr], until: [u64::MAX; 2], waits: true, failed: None }
    }

    pub(super) fn read(entry: Arc<Entry>, request: &DetachedRead) -> Self {
        let end = request.limit.map_or(u64::MAX, |limit| request.offset.saturating_add(limit));
        let (at, until) = match request.stream {
            Which::Stdout => ([request.offset, 0], [end, 0]),
            Which::Stderr => ([0, request.offset], [0, end]),
        };
        Self { entry, at, until, waits: false, failed: None }
    }

    /// What there is to send in each stream.
    fn left(&self) -> [u64; 2] {
        let lengths = [self.entry.stdout.length(), self.entry.stderr.length()];
        std::array::from_fn(|index| lengths[index].min(self.until[index]).saturating_sub(self.at[index]))
    }

    pub(super) fn has_more(&self) -> bool {
        self.left() != [0; 2]
    }

    pub(super) fn response(&self) -> Response {
        let [stdout, stderr] = self.at;
        Response::Followed(Followed { stdout, stderr, command: self.entry.info(false) })
    }

    pub(super) fn progress(&mut self, link: &mut Link<'_>) -> Option<Response> {
        // Asked before the lengths, so that the end has all of the output.
        let is_last = !self.waits || self.entry.has_ended();
        let left = self.left();
        let stores = [(&self.entry.stdout, FrameKind::Stdout), (&self.entry.stderr, FrameKind::Stderr)];
        for (index, (store, kind)) in stores.into_iter().enumerate() {
            if left[index] == 0 {
                continue;
            }
            let (at, failed) = (self.at[index], &mut self.failed);
            let sent = send_stream(link, kind, |buffer| {
                let most = usize::try_from(left[index]).unwrap_or(usize::MAX).min(buffer.len());
                store.read(at, &mut buffer[..most]).unwrap_or_else(|e| {
                    let message = format!("the output can't be read: {e}");
                    let errno = Some(e.raw_os_error());
                    *failed = Some(Response::Failed(Failure { kind: FailureKind::Other, message, errno }));
                    0
                })
            });
            self.at[index] += sent as u64;
        }
        if self.failed.is_some() {
            return self.failed.take();
        }
        (is_last && !self.has_more()).then(|| self.response())
    }
}
