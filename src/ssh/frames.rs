//! The frames of a session's command channel: what is to be sent, and what was read and is not decoded yet.

use sandbox_protocol::{Decoder, FrameKind, header};

use super::raw::Channel;
use crate::error::{Error, ErrorKind, Result};

/// The longest result that is taken: what a text of JSON becomes may take a hundred times its length. The guest's are
/// shorter.
const LONGEST_RESULT: usize = 4 << 20;

/// The command channel of a session.
#[derive(Debug)]
pub(super) struct CommandChannel {
    pub(super) channel: Channel,
    pub(super) decoder: Decoder,
    /// What was read and not decoded yet: `buffer[start..end]`.
    pub(super) buffer: Vec<u8>,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Frames to send, of which `written` bytes have been handed over.
    pub(super) outgoing: Vec<u8>,
    pub(super) written: usize,
    /// What the guest may send before it is read.
    pub(super) window: u32,
}

impl CommandChannel {
    pub(super) fn new(channel: Channel, window: u32) -> Self {
        let (decoder, buffer, outgoing) = (Decoder::up_to(LONGEST_RESULT), Vec::new(), Vec::new());
        Self { channel, decoder, buffer, start: 0, end: 0, outgoing, written: 0, window }
    }

    /// Adds a frame to those to be sent.
    pub(super) fn push(&mut self, kind: FrameKind, payload: &[u8]) -> Result<()> {
        let length = u32::try_from(payload.len())
            .map_err(|_| Error::new(ErrorKind::InvalidArgument, "the request is longer than 4 GiB"))?;
        self.outgoing.extend_from_slice(&header(kind, length));
        self.outgoing.extend_from_slice(payload);
        Ok(())
    }
}
