//! Frames of the command channel: a byte for the kind, four for the payload's length (big endian), the payload.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bytes of a frame before its payload.
pub const HEADER_LENGTH: usize = 5;

/// The longest payload of a frame whose payload is read as a whole: a request, a response and the like. More than Linux
/// takes for arguments and environment together, in any encoding.
pub const MAX_CONTROL_PAYLOAD: usize = 32 << 20;

/// Bytes of standard input that a client may have sent beyond what the guest has credited with
/// [`FrameKind::StdinCredit`]. The SSH window is larger, so that a signal gets through to a command that does not read
/// its input.
pub const STDIN_WINDOW: usize = 2 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// To the guest: a [`Request`](crate::Request) as JSON. Only when the one before has its result.
    Request = 1,
    /// To the guest: bytes of standard input.
    Stdin = 2,
    /// To the guest: the standard input is complete.
    StdinEof = 3,
    /// To the guest: the name of a signal, without `SIG`, for the command's process group.
    Signal = 4,
    /// To the guest: [`Resize`] as JSON.
    Resize = 5,
    /// To the guest: end the request now. A command is killed with its descendants, a wait ends. The result follows all
    /// the same.
    Cancel = 6,
    /// To the client: [`Started`](crate::Started) as JSON; the program has been executed.
    Started = 65,
    /// To the client: bytes of standard output.
    Stdout = 66,
    /// To the client: bytes of standard error.
    Stderr = 67,
    /// To the client: [`Response`](crate::Response) as JSON; ends the request.
    Result = 68,
    /// To the client: four bytes, big endian: so many more bytes of standard input may be sent.
    StdinCredit = 69,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Request,
            2 => Self::Stdin,
            3 => Self::StdinEof,
            4 => Self::Signal,
            5 => Self::Resize,
            6 => Self::Cancel,
            65 => Self::Started,
            66 => Self::Stdout,
            67 => Self::Stderr,
            68 => Self::Result,
            69 => Self::StdinCredit,
            _ => return None,
        })
    }

    /// Whether its payload is handed on piece by piece, as it comes.
    fn is_stream(self) -> bool {
        matches!(self, Self::Stdin | Self::Stdout | Self::Stderr)
    }
}

/// A terminal's new size, in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// The first bytes of a frame with a payload of `length` bytes.
pub fn header(kind: FrameKind, length: u32) -> [u8; HEADER_LENGTH] {
    let [a, b, c, d] = length.to_be_bytes();
    [kind as u8, a, b, c, d]
}

/// A stream that is none of frames. The channel is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// A frame whose payload is longer than the decoder takes.
    TooLong(FrameKind, u32),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(kind, length) => write!(f, "a frame {kind:?} of {length} bytes"),
        }
    }
}

impl std::error::Error for FrameError {}

/// What a [`Decoder`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame with its whole payload.
    Frame(FrameKind, &'a [u8]),
    /// The next bytes of a stream: all of a frame of [`FrameKind::Stdin`], [`FrameKind::Stdout`] or
    /// [`FrameKind::Stderr`], or a part.
    Bytes(FrameKind, &'a [u8]),
}

#[derive(Debug)]
enum State {
    /// So many bytes of the header are there.
    Header([u8; HEADER_LENGTH], usize),
    /// So many bytes of a stream's frame are still to come.
    Stream(FrameKind, usize),
    /// The frame's payload has this length and is collected in the buffer.
    Payload(FrameKind, usize),
    /// A frame of a kind that is not known: so many bytes to skip.
    Skip(usize),
}

/// Takes a stream of frames apart, however it was cut into pieces. Frames of unknown kinds are skipped.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    buffer: Vec<u8>,
    limit: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::up_to(MAX_CONTROL_PAYLOAD)
    }
}

const START: State = State::Header([0; HEADER_LENGTH], 0);

impl Decoder {
    /// A decoder that refuses a payload of more bytes than this, where it is to be read as a whole.
    pub fn up_to(limit: usize) -> Self {
        Self { state: START, buffer: Vec::new(), limit }
    }

    /// The next piece in `input`, which is shortened by what was used; `None` if it is used up.
    ///
    /// # Errors
    /// [`FrameError`], and then the rest can't be read any more.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Piece<'a>>, FrameError> {
        loop {
            match &mut self.state {
                State::Header(header, have) => {
                    // What the piece before was about is over; a large request's memory is not kept.
                    if *have == 0 && self.buffer.capacity() > 0 {
                        self.buffer = Vec::new();
                    }
                    let bytes = take(input, HEADER_LENGTH - *have);
                    header[*have..*have + bytes.len()].copy_from_slice(bytes);
                    *have += bytes.len();
                    if *have < HEADER_LENGTH {
                        return Ok(None);
                    }
                    let [kind, length @ ..] = *header;
                    let (kind, length) = (FrameKind::from_byte(kind), u32::from_be_bytes(length));
                    self.state = match kind {
                        None => State::Skip(length as usize),
                        Some(kind) if kind.is_stream() => State::Stream(kind, length as usize),
                        Some(kind) if length as usize > self.limit => {
                            return Err(FrameError::TooLong(kind, length));
                        }
                        Some(kind) => State::Payload(kind, length as usize),
                    };
                }
                State::Stream(kind, left) => {
                    let kind = *kind;
                    let bytes = take(input, *left);
                    *left -= bytes.len();
                    if *left == 0 {
                        self.state = START;
                    }
                    if !bytes.is_empty() {
                        return Ok(Some(Piece::Bytes(kind, bytes)));
                    }
                    if matches!(self.state, State::Stream(..)) {
                        return Ok(None);
                    }
                }
                State::Payload(kind, length) => {
                    let (kind, length) = (*kind, *length);
                    if self.buffer.is_empty() && input.len() >= length {
                        self.state = START;
                        return Ok(Some(Piece::Frame(kind, take(input, length))));
                    }
                    let missing = length - self.buffer.len();
                    self.buffer.extend_from_slice(take(input, missing));
                    if self.buffer.len() < length {
                        return Ok(None);
                    }
                    self.state = START;
                    return Ok(Some(Piece::Frame(kind, &self.buffer)));
                }
                State::Skip(left) => {
                    *left -= take(input, *left).len();
                    if *left > 0 {
                        return Ok(None);
                    }
                    self.state = START;
                }
            }
        }
    }

    /// Whether the stream is between two frames.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Header(_, 0))
    }
}

fn take<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(length.min(input.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = header(FrameKind::Request, payload.len() as u32).to_vec();
        bytes[0] = kind;
        bytes.extend_from_slice(payload);
        bytes
    }

    /// All pieces of a stream that comes in parts of `size` bytes, with those of one frame joined.
    fn decode(stream: &[u8], size: usize) -> Vec<(FrameKind, Vec<u8>)> {
        let mut decoder = Decoder::default();
        let mut found: Vec<(FrameKind, Vec<u8>)> = Vec::new();
        for mut part in stream.chunks(size) {
            while let Some(piece) = decoder.next(&mut part).unwrap() {
                match piece {
                    Piece::Frame(kind, payload) => found.push((kind, payload.to_vec())),
                    Piece::Bytes(kind, bytes) => match found.last_mut() {
                        Some((last, collected)) if *last == kind => collected.extend_from_slice(bytes),
                        _ => found.push((kind, bytes.to_vec())),
                    },
                }
            }
        }
        assert!(decoder.is_at_boundary());
        found
    }

    #[test]
    fn any_cut_gives_the_same_frames() {
        let stream = [
            frame(1, b"{\"op\":\"run\"}"),
            frame(2, b"input"),
            frame(2, b""),
            frame(200, b"unknown"),
            frame(200, b""),
            frame(3, b""),
            frame(6, b""),
            frame(4, b"TERM"),
        ]
        .concat();
        let expected = [
            (FrameKind::Request, &b"{\"op\":\"run\"}"[..]),
            (FrameKind::Stdin, b"input"),
            (FrameKind::StdinEof, b""),
            (FrameKind::Cancel, b""),
            (FrameKind::Signal, b"TERM"),
        ]
        .map(|(kind, payload)| (kind, payload.to_vec()));
        for size in 1..=stream.len() {
            assert_eq!(decode(&stream, size), expected, "in parts of {size}");
        }
    }

    #[test]
    fn half_a_frame_is_none() {
        let stream = frame(1, b"{}");
        let mut decoder = Decoder::default();
        let mut part = &stream[..stream.len() - 1];
        assert_eq!(decoder.next(&mut part), Ok(None));
        assert!(part.is_empty() && !decoder.is_at_boundary());
    }

    #[test]
    fn a_payload_has_a_limit_except_a_stream() {
        let long = u32::MAX;
        let mut decoder = Decoder::default();
        assert_eq!(
            decoder.next(&mut &header(FrameKind::Request, long)[..]),
            Err(FrameError::TooLong(FrameKind::Request, long))
        );
        let mut decoder = Decoder::default();
        assert_eq!(decoder.next(&mut &header(FrameKind::Stdin, long)[..]), Ok(None));
        let mut decoder = Decoder::up_to(2);
        assert_eq!(decoder.next(&mut &frame(1, b"{}")[..]), Ok(Some(Piece::Frame(FrameKind::Request, b"{}"))));
        assert_eq!(decoder.next(&mut &frame(1, b"{ }")[..]), Err(FrameError::TooLong(FrameKind::Request, 3)));
    }
}
