//! Where the streams of a running command come from and go to.

use sandbox_protocol::Started;

use super::input::RunInput;
use super::output::OutputStream;
use crate::error::Result;
use crate::fd::Awaited;
use crate::ssh::commands::{ControlRequest, Input, StreamId, Streams};

/// Keeps output up to a limit and counts the rest.
#[derive(Debug, Default)]
pub(super) struct Collector {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    limit: usize,
    pub(super) dropped: u64,
}

impl Collector {
    /// Keeps this many bytes of each stream.
    pub(super) fn up_to(limit: usize) -> Self {
        Self { limit, ..Self::default() }
    }

    fn keep(kept: &mut Vec<u8>, limit: usize, bytes: &[u8]) -> u64 {
        let room = limit.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        (bytes.len() - room) as u64
    }
}

impl Streams for Collector {
    fn input(&mut self) -> Result<Input<'_>> {
        Ok(Input::End)
    }

    fn sent(&mut self, _: usize) {}

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        let kept = match stream {
            StreamId::Stdout => &mut self.stdout,
            StreamId::Stderr => &mut self.stderr,
        };
        self.dropped += Self::keep(kept, self.limit, bytes);
        Ok(())
    }
}

/// Hands output over until the caller wants no more.
pub(super) struct Receiver<F> {
    receive: F,
    is_stopped: bool,
}

impl<F> Receiver<F> {
    pub(super) fn new(receive: F) -> Self {
        Self { receive, is_stopped: false }
    }
}

impl<F: FnMut(OutputStream, &[u8]) -> Result<()>> Streams for Receiver<F> {
    fn input(&mut self) -> Result<Input<'_>> {
        Ok(Input::End)
    }

    fn sent(&mut self, _: usize) {}

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        let stream = match stream {
            StreamId::Stdout => OutputStream::Stdout,
            StreamId::Stderr => OutputStream::Stderr,
        };
        let result = (self.receive)(stream, bytes);
        self.is_stopped = result.is_err();
        result
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped
    }
}

/// Streams with input before their own: what the command was given.
pub(super) struct PrefixedStreams<'a, S> {
    pub(super) input: RunInput<'a>,
    pub(super) streams: &'a mut S,
    is_stopped: bool,
}

impl<'a, S> PrefixedStreams<'a, S> {
    pub(super) fn new(input: RunInput<'a>, streams: &'a mut S) -> Self {
        Self { input, streams, is_stopped: false }
    }
}

impl<S: Streams> Streams for PrefixedStreams<'_, S> {
    fn started(&mut self, started: &Started) {
        self.streams.started(started);
    }

    fn input(&mut self) -> Result<Input<'_>> {
        match self.input.next() {
            Ok(Some(input)) => Ok(input),
            Ok(None) => self.streams.input(),
            Err(e) => {
                self.is_stopped = true;
                Err(e)
            }
        }
    }

    fn sent(&mut self, length: usize) {
        if self.input.is_at_end() {
            self.streams.sent(length);
        } else {
            self.input.sent(length);
        }
    }

    fn has_room(&mut self, stream: StreamId) -> Result<bool> {
        self.streams.has_room(stream)
    }

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        self.streams.output(stream, bytes)
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped || self.streams.is_stopped()
    }

    fn control_request(&mut self) -> Option<ControlRequest> {
        self.streams.control_request()
    }

    fn descriptors(&self, takes_input: bool) -> Vec<Awaited<'_>> {
        // What is not read yet must not be waited for: it may be ready all the time.
        let mut all = self.streams.descriptors(takes_input && self.input.is_at_end());
        all.extend(self.input.awaited().filter(|_| takes_input));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_up_to_the_limit_and_counts_the_rest() {
        let mut collector = Collector::up_to(4);
        collector.output(StreamId::Stdout, b"abc").unwrap();
        collector.output(StreamId::Stdout, b"def").unwrap();
        collector.output(StreamId::Stderr, b"123456").unwrap();
        assert_eq!((&collector.stdout[..], &collector.stderr[..], collector.dropped), (&b"abcd"[..], &b"1234"[..], 4));
    }
}
