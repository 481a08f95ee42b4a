//! What the library and the guest say to each other beyond SSH: names, numbers and messages. Depends on nothing of
//! ours.
//!
//! The whole is written down in `docs/guest-protocol.md`, so that somebody could write another guest or another client.

mod bytes;
mod control;
mod exit;
mod frame;
mod request;
mod response;
mod signal;
mod target;

pub use bytes::Bytes;
pub use control::{Authorized, ControlAnswer, ControlRequest, control_socket};
pub use exit::ExitCode;
pub use frame::{
    Decoder, FrameError, FrameKind, HEADER_LENGTH, MAX_CONTROL_PAYLOAD, Piece, Resize, STDIN_WINDOW, header,
};
pub use request::{
    AuthorizeKey, Claim, DetachedFollow, DetachedKey, DetachedRead, DetachedSignal, DetachedStart, DetachedWait, Input,
    Limit, Output, Renew, Request, RevokeKey, Run, SignalCommand, Stream, Terminal, User, WaitForPort,
};
pub use response::{
    AuthorizedKey, Cause, CommandInfo, DetachedInfo, Digest, Ended, Expiry, Failure, FailureKind, Followed, Hello,
    NeverRan, Promises, Response, Stage, Started, Status, StreamInfo, Usage,
};
pub use signal::{signal_name, signal_number};
pub use target::{CONNECT_CHANNEL, Target};

pub mod sftp;
pub mod tar;
pub mod time;
pub mod tree;

/// The protocol's number. Library and guest work together if theirs are equal; within one number, fields are only
/// added, unknown ones are ignored and absent ones have defaults.
pub const PROTOCOL: u32 = 1;

/// The SSH subsystem in which commands run: one channel per connection, for one request after another.
pub const COMMAND_SUBSYSTEM: &str = "command@sandbox";

/// What the SSH version string of the library begins with. To such a client, the guest's SFTP server gives error
/// numbers.
pub const CLIENT_VERSION: &str = "SSH-2.0-sandbox_";

/// An SFTP status code of the guest is this plus the error number of Linux, if the client is the library.
pub const SFTP_ERRNO_BASE: u32 = 0x1_0000;

/// A flag of SFTP's `open` beyond the standard ones: what passes through the handle in sequence is hashed.
pub const SFTP_OPEN_DIGEST: u32 = 0x0100_0000;

/// A flag of SFTP's `open` beyond the standard ones, together with those to write and create: what is written is a new
/// file, which takes the place of the one that the path leads to when its handle is closed, and goes away without a
/// close. Links are followed. A file that is there keeps its mode and, as far as the guest may, its owner; one that may
/// not be written is refused, and so is a directory. What is no regular file is written into, with nothing new beside
/// it.
pub const SFTP_OPEN_REPLACE: u32 = 0x0200_0000;

/// The TCP port on which a guest listens if nothing else is said.
pub const DEFAULT_PORT: u16 = 2222;
