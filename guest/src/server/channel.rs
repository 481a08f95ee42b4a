//! What all kinds of channels have in common.

use std::sync::Arc;
use std::time::Instant;

use rustix::event::PollFlags;

use super::Shared;
use super::poll::{Polls, Waker};
use crate::sftp::Digest;
use crate::ssh::{ChannelId, Connection, Request};

/// A descriptor of a channel among those that a connection polls.
pub(crate) type Key = (ChannelId, u8);

/// What a channel works with: its connection, and what the connection knows.
#[derive(Debug)]
pub(crate) struct Link<'a> {
    pub(crate) connection: &'a mut Connection,
    pub(crate) id: ChannelId,
    pub(crate) context: &'a Context,
    /// Set by a channel that was never opened: its number is free again.
    pub(crate) is_refused: bool,
}

/// What the channels of a connection share.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) shared: Arc<Shared>,
    /// Makes the connection's thread look at all its channels.
    pub(crate) waker: Arc<Waker>,
    /// The fingerprint of the client's key.
    pub(crate) client: Arc<str>,
    /// `SSH_CONNECTION` as sshd has it.
    pub(crate) addresses: String,
    /// Whether the client is the library.
    pub(crate) is_library: bool,
}

/// The channels' descriptors among those that are polled.
pub(crate) struct Slots<'p, 'a> {
    pub(crate) polls: &'p mut Polls<'a, Key>,
    pub(crate) id: ChannelId,
}

impl<'a> Slots<'_, 'a> {
    pub(crate) fn add(&mut self, slot: u8, descriptor: std::os::fd::BorrowedFd<'a>, events: PollFlags) {
        self.polls.add((self.id, slot), descriptor, events);
    }

    pub(crate) fn until(&mut self, time: Option<Instant>) {
        if let Some(time) = time {
            self.polls.until(time);
        }
    }

    pub(crate) fn at_once(&mut self) {
        self.polls.at_once();
    }
}

/// A channel. None of its methods may block.
pub(crate) trait Channel: std::fmt::Debug {
    /// Takes data, and says of how many bytes it is rid. The others are credited by [`Connection::consumed`] later.
    fn data(&mut self, context: &Context, bytes: &[u8]) -> usize;

    /// No more data comes.
    fn eof(&mut self);

    /// What to wait for, if `room` bytes can be sent.
    fn register<'a>(&'a self, room: usize, slots: &mut Slots<'_, 'a>);

    /// Something happened to a descriptor.
    fn ready(&mut self, slot: u8, events: PollFlags);

    /// Does what can be done now. It is called after each of the above and whenever anything happened on the
    /// connection.
    fn progress(&mut self, link: &mut Link<'_>);

    /// A request of the client, and whether it was granted.
    fn request(&mut self, request: &Request<'_>) -> bool {
        let _ = request;
        false
    }

    /// The client has accepted the channel.
    fn confirmed(&mut self) {}

    /// The digests of files that were closed.
    fn take_digests(&mut self) -> Vec<Digest> {
        Vec::new()
    }

    /// Whether it asks for the digests of the connection, and then [`Channel::digests`] brings them.
    fn wants_digests(&self) -> bool {
        false
    }

    /// The digests that it asked for.
    fn digests(&mut self, digests: Vec<Digest>) {
        let _ = digests;
    }

    /// The channel is closed. Whether it has something to write nevertheless: then it is kept a while, and this is
    /// called until it has not.
    fn linger(&mut self) -> bool {
        false
    }

    /// Whether it has something open in the sandbox that uses it though nothing passes: a file, a connection.
    fn has_something_open(&self) -> bool {
        false
    }

    /// Gives back memory that is not needed while nothing happens.
    fn release_memory(&mut self) {}
}
