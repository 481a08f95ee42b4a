//! The channels of a connection (RFC 4254, section 5).

use std::collections::BTreeMap;

use super::event::ChannelId;

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) state: State,
    /// The peer's number for it.
    pub(super) peer: u32,
    /// How much data the peer still takes.
    pub(super) peer_window: u32,
    /// How much data the peer takes in a packet.
    pub(super) peer_packet: u32,
    /// How much data the peer may still send.
    window: u32,
    /// Data that the application has not yet taken.
    held: u32,
    /// Data that the application has taken, which the peer has not yet been told.
    credit: u32,
    /// Requests that the peer waits for an answer to.
    pub(super) replies: u32,
    pub(super) eof_sent: bool,
    pub(super) close_sent: bool,
    pub(super) eof_received: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The peer has asked for it.
    Requested,
    /// We have asked for it.
    Offered,
    Open,
}

/// The peer has sent more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BeyondWindow;

impl Channel {
    pub(super) fn new(state: State, peer: u32, peer_window: u32, peer_packet: u32, window: u32) -> Self {
        Self {
            state,
            peer,
            peer_window,
            peer_packet,
            window,
            held: 0,
            credit: 0,
            replies: 0,
            eof_sent: false,
            close_sent: false,
            eof_received: false,
        }
    }

    /// Data may be sent, as far as the windows allow.
    pub(super) fn takes_data(&self) -> bool {
        self.state == State::Open && !self.eof_sent && !self.close_sent
    }

    /// The peer has sent so much data.
    pub(super) fn debit(&mut self, length: usize) -> Result<(), BeyondWindow> {
        let length = u32::try_from(length).map_err(|_| BeyondWindow)?;
        self.window = self.window.checked_sub(length).ok_or(BeyondWindow)?;
        self.held += length;
        Ok(())
    }

    /// The application has taken so much data. Returns by how much the peer's window is to be enlarged now, if at all.
    pub(super) fn consumed(&mut self, length: usize, full: u32) -> Option<u32> {
        let length = u32::try_from(length).unwrap_or(u32::MAX).min(self.held);
        self.held -= length;
        self.credit += length;
        if self.credit == 0 || self.credit < full / 4 || self.eof_received || self.close_sent {
            return None;
        }
        let credit = std::mem::take(&mut self.credit);
        self.window += credit;
        Some(credit)
    }
}

/// All channels. A number is not given again: some clients send a last message after they have closed a channel, which
/// must not meet another one.
#[derive(Debug, Default)]
pub(super) struct Channels {
    open: BTreeMap<ChannelId, Channel>,
    next: ChannelId,
}

impl Channels {
    pub(super) fn get(&self, id: ChannelId) -> Option<&Channel> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.open.get_mut(&id)
    }

    /// Whether there was such a channel, which has been closed.
    pub(super) fn was_closed(&self, id: ChannelId) -> bool {
        id < self.next && !self.open.contains_key(&id)
    }

    /// None, if there are `limit` channels already.
    pub(super) fn add(&mut self, channel: Channel, limit: usize) -> Option<ChannelId> {
        if self.open.len() >= limit {
            return None;
        }
        // Only after four thousand million channels can a number be one that is still open.
        while self.open.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.open.insert(id, channel);
        Some(id)
    }

    pub(super) fn remove(&mut self, id: ChannelId) {
        self.open.remove(&id);
    }
}
