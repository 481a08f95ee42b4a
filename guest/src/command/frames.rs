//! Frames that the guest sends.

use std::convert::Infallible;

use sandbox_protocol::{FrameKind, HEADER_LENGTH, header};
use serde::Serialize;

use crate::server::channel::Link;
use crate::ssh::DataStream;

/// Frames that wait for room, in their order. They are few and small: streams are not kept here.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    pub(super) fn add(&mut self, kind: FrameKind, payload: &[u8]) {
        self.bytes.extend_from_slice(&header(kind, u32::try_from(payload.len()).unwrap_or(u32::MAX)));
        self.bytes.extend_from_slice(payload);
    }

    pub(super) fn add_json(&mut self, kind: FrameKind, message: &impl Serialize) {
        // These types have no way to fail.
        let payload = serde_json::to_vec(message).unwrap_or_default();
        self.add(kind, &payload);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sends what there is room for.
    pub(super) fn flush(&mut self, link: &mut Link<'_>) {
        while self.sent < self.bytes.len() {
            match link.connection.send(link.id, DataStream::Data, &self.bytes[self.sent..]) {
                0 => return,
                count => self.sent += count,
            }
        }
        self.bytes = Vec::new();
        self.sent = 0;
    }
}

/// Sends one frame of a stream with what `fill` puts into it, straight into the packet. Returns how many bytes that
/// were.
pub(super) fn send_stream(link: &mut Link<'_>, kind: FrameKind, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
    if link.connection.room(link.id) <= HEADER_LENGTH {
        return 0;
    }
    let mut count = 0;
    let sent = link.connection.send_with(link.id, DataStream::Data, |buffer| {
        let Some((head, body)) = buffer.split_first_chunk_mut::<HEADER_LENGTH>() else { return Ok::<_, Infallible>(0) };
        count = fill(body);
        if count == 0 {
            return Ok(0);
        }
        *head = header(kind, u32::try_from(count).unwrap_or(u32::MAX));
        Ok(HEADER_LENGTH + count)
    });
    let Ok(_) = sent;
    count
}
