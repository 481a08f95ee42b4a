//! The SSH transport, authentication and connection protocols of a server (RFC 4250 to 4254), without input and output
//! of its own.
//!
//! A [`Connection`] is fed with the bytes of a socket, gives [`Event`]s, and holds the bytes to be written to the
//! socket. It never blocks, has no thread, knows no clock and queues nothing without a limit. Only modern algorithms
//! are there, and only public keys log in.
//!
//! # The loop around it
//!
//! ```no_run
//! # use std::io::{Read, Write};
//! # use std::sync::Arc;
//! use sandbox_guest::ssh::{Connection, Event, HostKey, OpenKind, ServerConfig};
//!
//! # fn serve(mut socket: std::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//! let config = Arc::new(ServerConfig::new(HostKey::generate()?));
//! let mut connection = Connection::new(config);
//! loop {
//!     while let Some(event) = connection.next_event()? {
//!         match event {
//!             Event::Auth { .. } => connection.accept_auth(),
//!             Event::Open { id, kind: OpenKind::Session } => connection.accept_open(id),
//!             Event::Data { id, bytes } => {
//!                 let length = bytes.len();
//!                 // … use the bytes, and only then:
//!                 connection.consumed(id, length);
//!             }
//!             Event::Disconnected { .. } => return Ok(()),
//!             _ => {}
//!         }
//!     }
//!     while !connection.output().is_empty() {
//!         let length = socket.write(connection.output())?;
//!         connection.written(length);
//!     }
//!     let length = socket.read(connection.read_buffer())?;
//!     if length == 0 {
//!         return Ok(());
//!     }
//!     connection.received(length);
//! }
//! # }
//! ```
//!
//! With a socket that does not block, poll it for reading while [`Connection::wants_input`], for writing while
//! [`Connection::output`] is not empty. Nothing wakes such a loop for data that had no [`Connection::room`] and then
//! got some: after each write, and after each round of events, data that waits is to be offered again before the next
//! poll. (Room comes by writing, by events, or not at all.)
//!
//! After an error from [`Connection::next_event`] the output still holds the reason for the peer: write it, then close.
//! A connection that was quiet for a second gives its buffers back by [`Connection::release_memory`].
//!
//! # Flow control
//!
//! A channel's window is enlarged only when the application says that it has taken data ([`Connection::consumed`]), so
//! what a peer can have in flight for a channel, and what the application must be able to hold, is
//! [`ServerConfig::window`]. Data of one channel never waits for another channel.

mod auth;
mod channel;
mod connection;
mod core;
mod event;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod kex;
mod key;
mod packet;
mod parse;
#[cfg(test)]
mod tests;
mod wire;

pub use connection::{Connection, ServerConfig};
pub use event::{
    ChannelId, DataStream, Error, Event, Forwarded, GlobalRequest, OpenFailure, OpenKind, Request, disconnect_reason,
};
pub use key::{HostKey, InvalidKey, KeyAlgorithm, PublicKey, PublicKeyRef};
