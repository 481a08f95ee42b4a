//! The streams of a child, on the side of the thread that runs the command.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use sandbox_protocol::Started;

use super::child::Shared;
use super::input::FdReader;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::exit_status::ExitStatus;
use crate::fd::Awaited;
use crate::ssh::commands::{ControlRequest, Input, StreamId, Streams};

/// Output that is kept for a slow reader, of each stream, beside what the sockets hold: so much a command may write and
/// end, though nobody reads it yet.
const AHEAD: usize = 2 << 20;

/// The thread's side of a child's streams.
pub(super) struct Pipes {
    shared: Arc<Shared>,
    wake_rx: UnixStream,
    /// `None` once it has ended.
    input: Option<FdReader>,
    outputs: [OutputPipe; 2],
}

/// One output stream: what its reader has not taken yet.
struct OutputPipe {
    /// `None` once nobody reads it.
    socket: Option<UnixStream>,
    pending: Vec<u8>,
}

impl OutputPipe {
    fn new(socket: UnixStream) -> Self {
        Self { socket: Some(socket), pending: Vec::new() }
    }

    /// Hands over what the reader has room for; true if nothing is left.
    fn flush(&mut self) -> bool {
        while !self.pending.is_empty() {
            let Some(socket) = &mut self.socket else {
                self.pending.clear();
                break;
            };
            match socket.write(&self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.socket = None,
            }
        }
        true
    }

    fn awaited(&self) -> Option<Awaited<'_>> {
        let socket = self.socket.as_ref().filter(|_| !self.pending.is_empty())?;
        Some(Awaited::to_write(socket.as_fd()))
    }
}

impl Pipes {
    pub(super) fn new(shared: Arc<Shared>, wake_rx: UnixStream, input: UnixStream, outputs: [UnixStream; 2]) -> Self {
        Self { shared, wake_rx, input: Some(FdReader::new(input)), outputs: outputs.map(OutputPipe::new) }
    }

    /// Makes the result known, then hands the rest of the output to whoever still reads.
    pub(super) fn end(mut self, result: Result<ExitStatus>) {
        self.shared.end(result);
        self.input = None;
        loop {
            for output in &mut self.outputs {
                if output.flush() {
                    output.socket = None;
                }
            }
            let awaited: Vec<_> = self.outputs.iter().filter_map(OutputPipe::awaited).collect();
            if awaited.is_empty() {
                return;
            }
            // Nobody can interrupt this thread.
            let _ = Awaited::wait(&awaited, Deadline::after(None), "the reader");
        }
    }
}

impl Streams for Pipes {
    fn started(&mut self, started: &Started) {
        self.shared.change(|state| state.id = Some(started.id));
    }

    fn input(&mut self) -> Result<Input<'_>> {
        if let Some(input) = &mut self.input
            && !input.fill().unwrap_or(false)
        {
            self.input = None;
        }
        Ok(self.input.as_ref().map_or(Input::End, FdReader::input))
    }

    fn sent(&mut self, length: usize) {
        if let Some(input) = &mut self.input {
            input.sent(length);
        }
    }

    fn has_room(&mut self, stream: StreamId) -> Result<bool> {
        let output = &mut self.outputs[stream as usize];
        Ok(output.flush() || output.pending.len() < AHEAD)
    }

    fn output(&mut self, stream: StreamId, bytes: &[u8]) -> Result<()> {
        self.outputs[stream as usize].pending.extend_from_slice(bytes);
        Ok(())
    }

    fn control_request(&mut self) -> Option<ControlRequest> {
        // First the wake-up bytes: a request that is added in between writes another one.
        let mut bytes = [0; 64];
        while matches!(self.wake_rx.read(&mut bytes), Ok(1..)) {}
        self.shared.next_request()
    }

    fn descriptors(&self, takes_input: bool) -> Vec<Awaited<'_>> {
        let wake = Some(Awaited::to_read(self.wake_rx.as_fd()));
        let input = self.input.as_ref().filter(|_| takes_input).and_then(FdReader::awaited);
        let outputs = self.outputs.iter().map(OutputPipe::awaited);
        [wake, input].into_iter().chain(outputs).flatten().collect()
    }
}
