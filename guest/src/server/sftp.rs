//! The subsystem `sftp`.

use rustix::event::PollFlags;

use super::channel::{Channel, Context, Link, Slots};
use crate::log::log;
use crate::sftp::{Digest, Options, Sftp, Wait};
use crate::ssh::DataStream;

/// A channel with an SFTP server.
#[derive(Debug)]
pub(crate) struct SftpChannel {
    sftp: Sftp,
    /// What the server has not taken yet; at most the channel's window.
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of the beginning of `output` has been sent.
    sent: usize,
    ended: bool,
    broken: bool,
    is_closed: bool,
    /// What the server waits for has come.
    ready: bool,
}

const OUTPUT_LIMIT: usize = 1 << 20;
const MOST_HANDLES: usize = 1024;

impl SftpChannel {
    pub(crate) fn new(context: &Context) -> Self {
        let environment = &context.shared.environment;
        let sftp = Sftp::new(Options {
            directory: environment.directory().to_path_buf(),
            home: environment.home().to_path_buf(),
            user: environment.user().to_vec(),
            detailed_status: context.is_library,
            max_handles: MOST_HANDLES,
            output_limit: OUTPUT_LIMIT,
            wait_timeout: std::time::Duration::from_secs(10),
        });
        Self {
            sftp,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            ended: false,
            broken: false,
            is_closed: false,
            ready: false,
        }
    }

    /// How many bytes of `input` were taken.
    fn handle(&mut self, input: &[u8]) -> usize {
        self.ready = false;
        match self.sftp.handle(input, &mut self.output) {
            Ok(taken) => taken,
            Err(e) => {
                log!("sftp: {e:?}");
                self.broken = true;
                input.len()
            }
        }
    }

    fn has_room(&self) -> bool {
        self.output.len() - self.sent < OUTPUT_LIMIT
    }

    /// Whether the server is to be asked again though no data has come.
    fn is_busy(&self) -> bool {
        match self.sftp.wait() {
            Wait::Input => !self.input.is_empty(),
            Wait::Now => true,
            Wait::Descriptor { until, .. } => {
                self.ready || until.is_some_and(|until| until <= std::time::Instant::now())
            }
        }
    }
}

impl Channel for SftpChannel {
    fn data(&mut self, _context: &Context, bytes: &[u8]) -> usize {
        if self.broken {
            return bytes.len();
        }
        let may_handle = self.input.is_empty() && self.has_room() && matches!(self.sftp.wait(), Wait::Input);
        let taken = if may_handle { self.handle(bytes) } else { 0 };
        self.input.extend_from_slice(&bytes[taken..]);
        taken
    }

    fn eof(&mut self) {
        self.ended = true;
    }

    fn register<'a>(&'a self, room: usize, slots: &mut Slots<'_, 'a>) {
        if self.is_closed {
            return;
        }
        if room > 0 && self.sent < self.output.len() {
            slots.at_once();
        }
        if !self.has_room() {
            return;
        }
        match self.sftp.wait() {
            Wait::Descriptor { descriptor, events, until } => {
                slots.add(0, descriptor, events);
                slots.until(until);
            }
            _ if self.is_busy() => slots.at_once(),
            _ => {}
        }
    }

    fn ready(&mut self, _slot: u8, _events: PollFlags) {
        self.ready = true;
    }

    fn progress(&mut self, link: &mut Link<'_>) {
        if self.is_closed {
            return;
        }
        // One step only where the server works in steps: the other channels have their turn in between.
        if !self.broken && self.has_room() && self.is_busy() {
            let input = std::mem::take(&mut self.input);
            let taken = self.handle(&input);
            link.connection.consumed(link.id, taken);
            self.input = input;
            self.input.drain(..taken);
            if self.input.is_empty() {
                self.input = Vec::new();
            }
        }
        while self.sent < self.output.len() {
            let count = link.connection.send(link.id, DataStream::Data, &self.output[self.sent..]);
            if count == 0 {
                return;
            }
            self.sent += count;
        }
        self.output.clear();
        self.sent = 0;
        if self.broken || self.ended && self.input.is_empty() && matches!(self.sftp.wait(), Wait::Input) {
            self.is_closed = true;
            link.connection.exit_status(link.id, u32::from(self.broken));
            link.connection.eof(link.id);
            link.connection.close(link.id);
        }
    }

    fn take_digests(&mut self) -> Vec<Digest> {
        self.sftp.take_digests()
    }

    fn has_something_open(&self) -> bool {
        self.sftp.has_something_open()
    }

    fn release_memory(&mut self) {
        self.sftp.release_memory();
        if self.output.is_empty() {
            self.output = Vec::new();
        }
    }
}
