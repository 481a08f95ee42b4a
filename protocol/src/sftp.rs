//! SFTP beyond version 3 of its protocol: our own extensions, which the guest's server names in its answer to `INIT`.
//!
//! Numbers are big-endian and strings have their length before them, as everywhere in SFTP.

pub use crate::time::Time;

/// An extended request that sets both times of a file, with nanoseconds; its contents are a [`Times`]. The answer is a
/// status.
pub const TIMES: &str = "times@sandbox";

/// An extended request for all that is known about a file; its contents are a [`Target`]. The answer is a status or an
/// extended reply with a [`Stat`].
pub const STAT: &str = "stat@sandbox";

/// In the place of nanoseconds: the time at which the request is done.
pub const NOW: u32 = (1 << 30) - 1;
/// In the place of nanoseconds: the time that the file has already.
pub const OMIT: u32 = (1 << 30) - 2;

/// The file that a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A path; links are followed.
    Path(&'a [u8]),
    /// A path; of a link itself.
    Link(&'a [u8]),
    /// A handle of an open file.
    Handle(&'a [u8]),
}

/// The contents of [`TIMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times<'a> {
    /// Whose times.
    pub target: Target<'a>,
    /// Of the last access; its nanoseconds may be [`NOW`] or [`OMIT`].
    pub accessed: Time,
    /// Of the last change of the contents, likewise.
    pub modified: Time,
}

/// What is known about a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in stat(2)")]
pub struct Stat {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub links: u64,
    pub size: u64,
    /// In units of 512 bytes.
    pub blocks: u64,
    pub device: u64,
    pub inode: u64,
    pub accessed: Time,
    pub modified: Time,
    pub changed: Time,
}

impl<'a> Target<'a> {
    /// Appends its encoding.
    pub fn encode(&self, to: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Self::Path(path) => (0, path),
            Self::Link(path) => (1, path),
            Self::Handle(handle) => (2, handle),
        };
        to.push(kind);
        to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        to.extend_from_slice(bytes);
    }

    /// Decodes it and advances `from` behind it.
    pub fn decode(from: &mut &'a [u8]) -> Option<Self> {
        let [kind] = take(from)?;
        let length = u32::from_be_bytes(take(from)?);
        let (bytes, rest) = from.split_at_checked(usize::try_from(length).ok()?)?;
        *from = rest;
        match kind {
            0 => Some(Self::Path(bytes)),
            1 => Some(Self::Link(bytes)),
            2 => Some(Self::Handle(bytes)),
            _ => None,
        }
    }
}

fn put_time(to: &mut Vec<u8>, time: Time) {
    to.extend_from_slice(&time.seconds.to_be_bytes());
    to.extend_from_slice(&time.nanoseconds.to_be_bytes());
}

fn take_time(from: &mut &[u8]) -> Option<Time> {
    Some(Time { seconds: i64::from_be_bytes(take(from)?), nanoseconds: u32::from_be_bytes(take(from)?) })
}

impl<'a> Times<'a> {
    /// Appends its encoding.
    pub fn encode(&self, to: &mut Vec<u8>) {
        self.target.encode(to);
        put_time(to, self.accessed);
        put_time(to, self.modified);
    }

    /// Decodes it and advances `from` behind it.
    pub fn decode(from: &mut &'a [u8]) -> Option<Self> {
        Some(Self { target: Target::decode(from)?, accessed: take_time(from)?, modified: take_time(from)? })
    }
}

impl Stat {
    /// Appends its encoding.
    pub fn encode(&self, to: &mut Vec<u8>) {
        for number in [self.mode, self.uid, self.gid] {
            to.extend_from_slice(&number.to_be_bytes());
        }
        for number in [self.links, self.size, self.blocks, self.device, self.inode] {
            to.extend_from_slice(&number.to_be_bytes());
        }
        for time in [self.accessed, self.modified, self.changed] {
            put_time(to, time);
        }
    }

    /// Decodes it. What follows, of later versions, is ignored.
    pub fn decode(mut from: &[u8]) -> Option<Self> {
        let from = &mut from;
        Some(Self {
            mode: u32::from_be_bytes(take(from)?),
            uid: u32::from_be_bytes(take(from)?),
            gid: u32::from_be_bytes(take(from)?),
            links: u64::from_be_bytes(take(from)?),
            size: u64::from_be_bytes(take(from)?),
            blocks: u64::from_be_bytes(take(from)?),
            device: u64::from_be_bytes(take(from)?),
            inode: u64::from_be_bytes(take(from)?),
            accessed: take_time(from)?,
            modified: take_time(from)?,
            changed: take_time(from)?,
        })
    }
}

fn take<const LENGTH: usize>(from: &mut &[u8]) -> Option<[u8; LENGTH]> {
    let (bytes, rest) = from.split_first_chunk()?;
    *from = rest;
    Some(*bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_and_nothing_shorter() {
        let time = |seconds| Time { seconds, nanoseconds: 999_999_999 };
        for target in [Target::Path(b"a/b"), Target::Link(b""), Target::Handle(&[0, 255])] {
            let times = Times { target, accessed: time(-1), modified: Time { seconds: 0, nanoseconds: OMIT } };
            let mut bytes = Vec::new();
            times.encode(&mut bytes);
            for length in 0..bytes.len() {
                assert_eq!(Times::decode(&mut &bytes[..length]), None);
            }
            bytes.push(7);
            let mut rest = &bytes[..];
            assert_eq!((Times::decode(&mut rest), rest), (Some(times), &[7][..]));
        }
        let stat = Stat {
            mode: 1,
            uid: 2,
            gid: 3,
            links: 4,
            size: 5,
            blocks: 6,
            device: 7,
            inode: u64::MAX,
            accessed: time(8),
            modified: time(9),
            changed: time(10),
        };
        let mut bytes = Vec::new();
        stat.encode(&mut bytes);
        assert_eq!(Stat::decode(&bytes), Some(stat));
        assert_eq!(Stat::decode(&bytes[1..]), None);
    }
}
