//! What guest, zygote and keepers say to each other, in packets over socket pairs of type SOCK_SEQPACKET.
//!
//! - Guest to zygote: one byte and the keeper's end of a socket pair.
//! - Guest to keeper: a request with the command's descriptors, then orders. What is long goes in a memory file.
//! - Keeper to guest: records of a fixed size, one or more in a packet.

use super::{Exit, Limit, NeverRan, Stage, User, Whom};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::ffi::CStr;
use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// A request that is longer goes in a memory file. Well below what a socket holds.
pub(super) const LONGEST_INLINE: usize = 32 * 1024;

/// Linux executes nothing with more than 6 MiB of arguments and environment; a request that is longer than this is
/// refused at once.
pub(super) const LONGEST_REQUEST: usize = 16 * 1024 * 1024;

/// The longest packet: a request in line and its header.
pub(super) const LONGEST_PACKET: usize = LONGEST_INLINE + 64;

/// Three standard descriptors, a script and a memory file.
const MOST_DESCRIPTORS: usize = 5;

const START: u32 = 1;
const START_IN_FILE: u32 = 2;
const SIGNAL: u32 = 3;
const KILL: u32 = 4;

/// Sends a packet with descriptors, without waiting.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)).map(drop)
}

/// Receives a packet and its descriptors; 0 bytes are the end.
pub(super) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    flags: RecvFlags,
) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)
    })?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok(received.bytes)
}

/// A request that the guest has put into bytes.
#[derive(Debug)]
pub(super) struct Encoded {
    packet: Vec<u8>,
    file: Option<File>,
}

impl Encoded {
    /// Sends it with the command's descriptors.
    pub(super) fn send(&self, socket: BorrowedFd<'_>, stdio: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut descriptors = stdio.to_vec();
        if let Some(file) = &self.file {
            descriptors.push(std::os::fd::AsFd::as_fd(file));
        }
        send(socket, &self.packet, &descriptors)
    }
}

/// What a keeper needs to know to start a command. Strings end with a zero byte.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) program: Option<&'a CStr>,
    pub(super) argv: Vec<&'a CStr>,
    pub(super) env: Vec<&'a CStr>,
    pub(super) directory: Option<&'a CStr>,
    pub(super) user: Option<User>,
    pub(super) umask: Option<u32>,
    pub(super) limits: Vec<Limit>,
    pub(super) terminal: bool,
    pub(super) kill_on_close: bool,
    /// In nanoseconds.
    pub(super) time_limit: Option<u64>,
    /// In microseconds: how long the start need not be reported.
    pub(super) report_delay: Option<u32>,
    /// Which of the descriptors that came along are the command's 0, 1 and 2.
    pub(super) stdio: [u8; 3],
    /// Which of them is its 3, if it has one.
    pub(super) script: Option<u8>,
}

/// Writes a request; what it takes apart is read by [`Request::decode`].
#[derive(Debug)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new() -> Self {
        let mut bytes = Vec::with_capacity(1024);
        bytes.extend(START.to_le_bytes());
        Self { bytes }
    }

    pub(super) fn number(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn long(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    /// A string of several parts. Fails if one has a zero byte.
    pub(super) fn string(&mut self, parts: &[&[u8]]) -> Result<(), Errno> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.number(u32::try_from(length).map_err(|_| Errno::TOOBIG)?);
        for part in parts {
            if part.contains(&0) {
                return Err(Errno::INVAL);
            }
            if self.bytes.len() + part.len() > LONGEST_REQUEST {
                return Err(Errno::TOOBIG);
            }
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(0);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Encoded, Errno> {
        if self.bytes.len() <= LONGEST_INLINE {
            return Ok(Encoded { packet: self.bytes, file: None });
        }
        let file = File::from(rustix::fs::memfd_create(c"request", rustix::fs::MemfdFlags::CLOEXEC)?);
        file.write_all_at(&self.bytes, 0).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::NOMEM))?;
        let mut packet = START_IN_FILE.to_le_bytes().to_vec();
        packet.extend((self.bytes.len() as u64).to_le_bytes());
        Ok(Encoded { packet, file: Some(file) })
    }
}

/// Reads what a [`Writer`] wrote. None: it is cut short or malformed.
#[derive(Debug)]
struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn string(&mut self) -> Option<&'a CStr> {
        let length = self.number()? as usize;
        CStr::from_bytes_with_nul(self.take(length.checked_add(1)?)?).ok()
    }

    /// A list: its length, then each element. The length is not trusted for an allocation.
    fn list<T>(&mut self, mut element: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.number()?;
        (0..count).map(|_| element(self)).collect()
    }
}

/// Flags of a request.
pub(super) mod flags {
    pub(in super::super) const PROGRAM: u32 = 1;
    pub(in super::super) const DIRECTORY: u32 = 2;
    pub(in super::super) const USER: u32 = 4;
    pub(in super::super) const UMASK: u32 = 8;
    pub(in super::super) const TERMINAL: u32 = 16;
    pub(in super::super) const KILL_ON_CLOSE: u32 = 32;
    pub(in super::super) const TIME_LIMIT: u32 = 64;
    pub(in super::super) const REPORT_DELAY: u32 = 128;
}

impl<'a> Request<'a> {
    /// Reads a request. `bytes` is what [`KeeperMessage::decode`] said to be one.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader { bytes };
        reader.number()?;
        let flags = reader.number()?;
        let stdio = reader.number()?.to_le_bytes();
        let has = |flag: u32| flags & flag != 0;
        let time_limit = if has(flags::TIME_LIMIT) { Some(reader.long()?) } else { None };
        let report_delay = if has(flags::REPORT_DELAY) { Some(reader.number()?) } else { None };
        let umask = if has(flags::UMASK) { Some(reader.number()?) } else { None };
        let user = if has(flags::USER) {
            Some(User { uid: reader.number()?, gid: reader.number()?, groups: reader.list(Reader::number)? })
        } else {
            None
        };
        let limits = reader
            .list(|reader| Some(Limit { resource: reader.number()?, soft: reader.long()?, hard: reader.long()? }))?;
        let directory = if has(flags::DIRECTORY) { Some(reader.string()?) } else { None };
        let program = if has(flags::PROGRAM) { Some(reader.string()?) } else { None };
        Some(Self {
            program,
            directory,
            argv: reader.list(Reader::string)?,
            env: reader.list(Reader::string)?,
            user,
            umask,
            limits,
            terminal: has(flags::TERMINAL),
            kill_on_close: has(flags::KILL_ON_CLOSE),
            time_limit,
            report_delay,
            stdio: [stdio[0], stdio[1], stdio[2]],
            script: (stdio[3] > 0).then_some(stdio[3]),
        })
    }
}

/// A packet from the guest to a keeper.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeeperMessage {
    /// A request; the packet is to be decoded.
    Start,
    /// A request of this length, in the last of the descriptors.
    StartInFile(u64),
    /// Send a signal.
    Signal(i32, Whom),
    /// Kill everything.
    Kill,
}

impl KeeperMessage {
    pub(super) fn decode(packet: &[u8]) -> Option<Self> {
        let mut reader = Reader { bytes: packet };
        match reader.number()? {
            START => Some(Self::Start),
            START_IN_FILE => Some(Self::StartInFile(reader.long()?)),
            SIGNAL => {
                let signal = reader.number()?.cast_signed();
                let whom = match reader.number()? {
                    0 => Whom::Main,
                    1 => Whom::Group,
                    2 => Whom::All,
                    _ => return None,
                };
                Some(Self::Signal(signal, whom))
            }
            KILL => Some(Self::Kill),
            _ => None,
        }
    }

    /// Sends a message that is no request.
    pub(super) fn send(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut packet = [0; 12];
        match self {
            Self::Signal(signal, whom) => {
                packet[..4].copy_from_slice(&SIGNAL.to_le_bytes());
                packet[4..8].copy_from_slice(&signal.to_le_bytes());
                packet[8..].copy_from_slice(&(*whom as u32).to_le_bytes());
            }
            Self::Kill => packet[..4].copy_from_slice(&KILL.to_le_bytes()),
            Self::Start | Self::StartInFile(_) => return Err(Errno::INVAL),
        }
        send(socket, &packet, &[])
    }
}

/// What a keeper says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// The program runs.
    Started { keeper: i32, main: i32 },
    /// It never ran. The keeper is ready for the next command.
    NeverRan { keeper: i32, reason: NeverRan },
    /// There is no keeper: the zygote could not fork one, with this error number.
    NoKeeper(i32),
    /// The time limit has passed.
    TimedOut,
    /// The main process has ended.
    Exited(Exit),
    /// The answer to a kill.
    Killed { proved: bool, left: u32 },
    /// Nothing is left. The keeper is ready for the next command.
    Gone,
}

const RECORD: usize = 20;

/// How much of a path is reported. A longer one can't be a file's.
const LONGEST_PATH: usize = 4096;

/// The longest packet from a keeper.
pub(super) const LONGEST_REPORT: usize = RECORD + LONGEST_PATH;

fn stage_number(stage: Stage) -> i32 {
    stage as i32
}

fn stage_of(number: i32) -> Stage {
    const STAGES: [Stage; 9] = [
        Stage::Directory,
        Stage::Program,
        Stage::Interpreter,
        Stage::Arguments,
        Stage::User,
        Stage::Limits,
        Stage::Terminal,
        Stage::Stdio,
        Stage::Resources,
    ];
    STAGES.into_iter().find(|stage| stage_number(*stage) == number).unwrap_or(Stage::Resources)
}

impl Record {
    /// Appends it to a packet. `NeverRan` must be the last: its path fills the rest.
    pub(super) fn encode(&self, packet: &mut Vec<u8>) {
        let (kind, numbers, path): (i32, [i32; 4], Option<&[u8]>) = match self {
            Self::Started { keeper, main } => (1, [*keeper, *main, 0, 0], None),
            Self::NeverRan { keeper, reason } => {
                let has_path = i32::from(reason.path.is_some());
                (2, [stage_number(reason.stage), reason.errno, has_path, *keeper], reason.path.as_deref())
            }
            Self::NoKeeper(errno) => (3, [*errno, 0, 0, 0], None),
            Self::TimedOut => (4, [0; 4], None),
            Self::Exited(Exit::Code(code)) => (5, [*code, 0, 0, 0], None),
            Self::Exited(Exit::Signal { number, core_dumped }) => (6, [*number, i32::from(*core_dumped), 0, 0], None),
            Self::Killed { proved, left } => (7, [i32::from(*proved), left.cast_signed(), 0, 0], None),
            Self::Gone => (8, [0; 4], None),
        };
        packet.extend(kind.to_le_bytes());
        for number in numbers {
            packet.extend(number.to_le_bytes());
        }
        packet.extend(path.map_or(&[][..], |path| &path[..path.len().min(LONGEST_PATH)]));
    }

    /// Takes one off the front of a packet.
    pub(super) fn decode(packet: &mut &[u8]) -> Option<Self> {
        let (record, rest) = packet.split_at_checked(RECORD)?;
        *packet = rest;
        let number = |at: usize| {
            let bytes = record[4 * at..4 * at + 4].try_into().unwrap_or_default();
            i32::from_le_bytes(bytes)
        };
        Some(match number(0) {
            1 => Self::Started { keeper: number(1), main: number(2) },
            2 => {
                let path = (number(3) != 0).then(|| std::mem::take(packet).to_vec());
                let reason = NeverRan { stage: stage_of(number(1)), errno: number(2), path };
                Self::NeverRan { keeper: number(4), reason }
            }
            3 => Self::NoKeeper(number(1)),
            4 => Self::TimedOut,
            5 => Self::Exited(Exit::Code(number(1))),
            6 => Self::Exited(Exit::Signal { number: number(1), core_dumped: number(2) != 0 }),
            7 => Self::Killed { proved: number(1) != 0, left: number(2).cast_unsigned() },
            8 => Self::Gone,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_way() {
        let never_ran =
            |stage, path| Record::NeverRan { keeper: 9, reason: NeverRan { stage, errno: libc::ENOENT, path } };
        let packets = [
            vec![Record::Started { keeper: 7, main: i32::MAX }],
            vec![never_ran(Stage::Program, Some(b"/bin/\xff".to_vec()))],
            vec![never_ran(Stage::Resources, None)],
            vec![never_ran(Stage::Directory, Some(Vec::new()))],
            vec![Record::NoKeeper(libc::EAGAIN)],
            vec![
                Record::TimedOut,
                Record::Exited(Exit::Signal { number: 9, core_dumped: true }),
                Record::Killed { proved: false, left: u32::MAX },
                Record::Exited(Exit::Code(255)),
                Record::Gone,
            ],
        ];
        for records in packets {
            let mut packet = Vec::new();
            records.iter().for_each(|record| record.encode(&mut packet));
            let mut rest = &packet[..];
            let decoded: Vec<_> = std::iter::from_fn(|| Record::decode(&mut rest)).collect();
            assert_eq!(decoded, records);
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn changed_packets_break_nothing() {
        let mut writer = Writer::new();
        writer.number(flags::DIRECTORY | flags::TIME_LIMIT | flags::REPORT_DELAY | flags::UMASK);
        for number in [0, 0, 1, 2, 3, 4] {
            writer.number(number);
        }
        writer.string(&[b"/tmp"]).unwrap();
        for _ in 0..2 {
            writer.number(2);
            writer.string(&[b"a"]).unwrap();
            writer.string(&[b"b=", b"c"]).unwrap();
        }
        let mut records = Vec::new();
        Record::Started { keeper: 7, main: 8 }.encode(&mut records);
        Record::Killed { proved: true, left: 0 }.encode(&mut records);
        let reason = NeverRan { stage: Stage::Program, errno: libc::ENOENT, path: Some(b"/bin".to_vec()) };
        Record::NeverRan { keeper: 9, reason }.encode(&mut records);
        let seeds = [writer.finish().unwrap().packet, records, SIGNAL.to_le_bytes().repeat(3)];
        let mut mutator = crate::mutation::Mutator::new(0x2545_f491_4f6c_dd1d);
        for _ in 0..20_000 {
            let packet = mutator.change(&seeds);
            let _ = (Request::decode(&packet), KeeperMessage::decode(&packet));
            let mut rest = &packet[..];
            let decoded = std::iter::from_fn(|| Record::decode(&mut rest)).count();
            assert!(decoded <= packet.len());
        }
    }

    #[test]
    fn a_request_that_is_cut_short_is_refused() {
        let mut writer = Writer::new();
        writer.number(flags::DIRECTORY);
        writer.number(0);
        writer.number(0);
        writer.string(&[b"/tmp"]).unwrap();
        for _ in 0..2 {
            writer.number(2);
            writer.string(&[b"a"]).unwrap();
            writer.string(&[b"b=", b"c"]).unwrap();
        }
        let encoded = writer.finish().unwrap();
        let request = Request::decode(&encoded.packet).unwrap();
        assert_eq!(request.directory, Some(c"/tmp"));
        assert_eq!(request.argv, [c"a", c"b=c"]);
        assert_eq!(request.env, [c"a", c"b=c"]);
        for length in 0..encoded.packet.len() {
            assert!(Request::decode(&encoded.packet[..length]).is_none());
        }
    }

    #[test]
    fn zero_bytes_and_endless_strings_are_refused() {
        let mut writer = Writer::new();
        assert_eq!(writer.string(&[b"a\0b"]), Err(Errno::INVAL));
        let long = vec![b'x'; LONGEST_REQUEST];
        assert_eq!(writer.string(&[&long]), Err(Errno::TOOBIG));
    }

    #[test]
    fn every_stage_has_its_number() {
        for stage in
            [Stage::Directory, Stage::Interpreter, Stage::User, Stage::Terminal, Stage::Stdio, Stage::Resources]
        {
            assert_eq!(stage_of(stage_number(stage)), stage);
        }
    }
}
