//! Attributes of files: as a client sends them, as it is told them, and how they are set.

use std::fmt::Write;
use std::os::fd::BorrowedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use sandbox_protocol::sftp::{NOW, OMIT, Time};

use super::errors::Failure;
use super::wire::{Reader, Short, put_u32, put_u64};

const SIZE: u32 = 1;
const OWNER: u32 = 2;
const PERMISSIONS: u32 = 4;
const TIMES: u32 = 8;
const EXTENDED: u32 = 0x8000_0000;

/// What a client wants a file to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    pub(super) owner: Option<(u32, u32)>,
    pub(super) mode: Option<u32>,
    /// Of access and of modification.
    pub(super) times: Option<(u32, u32)>,
}

/// What attributes are set of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Subject<'s> {
    Path { base: BorrowedFd<'s>, path: &'s [u8], follow: bool },
    Open(BorrowedFd<'s>),
}

impl Attributes {
    pub(super) fn read(request: &mut Reader<'_>) -> Result<Self, Short> {
        let flags = request.u32()?;
        let mut attributes = Self::default();
        if flags & SIZE != 0 {
            attributes.size = Some(request.u64()?);
        }
        if flags & OWNER != 0 {
            attributes.owner = Some((request.u32()?, request.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            attributes.mode = Some(request.u32()?);
        }
        if flags & TIMES != 0 {
            attributes.times = Some((request.u32()?, request.u32()?));
        }
        if flags & EXTENDED != 0 {
            for _ in 0..request.u32()? {
                request.string()?;
                request.string()?;
            }
        }
        Ok(attributes)
    }

    /// Sets all that is given, in OpenSSH's order: also what comes behind something that could not be set. The last
    /// failure counts.
    pub(super) fn set(&self, subject: Subject<'_>) -> Result<(), Failure> {
        let mut result = Ok(());
        let mut note = |done: Result<(), Failure>| {
            if done.is_err() {
                result = done;
            }
        };
        if let Some(size) = self.size {
            note(subject.set_size(size));
        }
        if let Some(mode) = self.mode {
            note(subject.set_mode(Mode::from_raw_mode(mode & 0o7777)).map_err(Failure::from));
        }
        if let Some((accessed, modified)) = self.times {
            let time = |seconds: u32| Timespec { tv_sec: seconds.into(), tv_nsec: 0 };
            let times = Timestamps { last_access: time(accessed), last_modification: time(modified) };
            note(subject.set_times(&times).map_err(Failure::from));
        }
        if let Some((user, group)) = self.owner {
            note(subject.set_owner(user, group).map_err(Failure::from));
        }
        result
    }
}

impl Subject<'_> {
    fn set_size(self, size: u64) -> Result<(), Failure> {
        match self {
            Self::Open(file) => Ok(fs::ftruncate(file, size)?),
            Self::Path { follow: false, .. } => Err(Failure::Explained(Errno::INVAL, "A link has no size to set")),
            Self::Path { base, path, follow: true } => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                Ok(fs::ftruncate(fs::openat(base, path, flags, Mode::empty())?, size)?)
            }
        }
    }

    fn set_mode(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Self::Open(file) => fs::fchmod(file, mode),
            Self::Path { base, path, follow: true } => fs::chmodat(base, path, mode, AtFlags::empty()),
            // Linux before 6.6 can't do that by itself.
            Self::Path { base, path, follow: false } => {
                let file = fs::openat(base, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
                if FileType::from_raw_mode(fs::fstat(&file)?.st_mode) == FileType::Symlink {
                    return Err(Errno::OPNOTSUPP);
                }
                let name = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
                match fs::chmodat(fs::CWD, name, mode, AtFlags::empty()) {
                    // There is no /proc.
                    Err(Errno::NOENT) => fs::chmodat(base, path, mode, AtFlags::empty()),
                    result => result,
                }
            }
        }
    }

    pub(super) fn set_times(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Self::Open(file) => fs::futimens(file, times),
            Self::Path { base, path, follow } => {
                let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                fs::utimensat(base, path, times, flags)
            }
        }
    }

    fn set_owner(self, user: u32, group: u32) -> Result<(), Errno> {
        // All ones stand for what it has.
        let user = (user != u32::MAX).then(|| Uid::from_raw(user));
        let group = (group != u32::MAX).then(|| Gid::from_raw(group));
        match self {
            Self::Open(file) => fs::fchown(file, user, group),
            Self::Path { base, path, follow } => {
                let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                fs::chownat(base, path, user, group, flags)
            }
        }
    }
}

/// Times of a request of ours, if they are some.
pub(super) fn timestamps(accessed: Time, modified: Time) -> Result<Timestamps, Errno> {
    let time = |time: Time| match time.nanoseconds {
        0..1_000_000_000 => Ok(Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }),
        NOW => Ok(Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW }),
        OMIT => Ok(Timespec { tv_sec: 0, tv_nsec: fs::UTIME_OMIT }),
        _ => Err(Errno::INVAL),
    };
    Ok(Timestamps { last_access: time(accessed)?, last_modification: time(modified)? })
}

/// Appends what version 3 can say about a file.
pub(super) fn put(to: &mut Vec<u8>, stat: &Stat) {
    put_u32(to, SIZE | OWNER | PERMISSIONS | TIMES);
    put_u64(to, stat.st_size.unsigned_abs());
    put_u32(to, stat.st_uid);
    put_u32(to, stat.st_gid);
    put_u32(to, stat.st_mode);
    put_u32(to, seconds(stat.st_atime));
    put_u32(to, seconds(stat.st_mtime));
}

/// Appends that nothing is said about a file.
pub(super) fn put_none(to: &mut Vec<u8>) {
    put_u32(to, 0);
}

/// Times before 1970 and after 2106 can't be told.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}

/// What is known about a file, for a request of ours.
pub(super) fn in_detail(stat: &Stat) -> sandbox_protocol::sftp::Stat {
    let time = |seconds, nanoseconds| Time { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
    sandbox_protocol::sftp::Stat {
        mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        #[allow(clippy::useless_conversion, reason = "32 bits on some machines")]
        links: stat.st_nlink.into(),
        size: stat.st_size.unsigned_abs(),
        blocks: stat.st_blocks.unsigned_abs(),
        device: stat.st_dev,
        inode: stat.st_ino,
        accessed: time(stat.st_atime, stat.st_atime_nsec),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
    }
}

const HALF_A_YEAR: i64 = 365 * 24 * 60 * 60 / 2;
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A line as `ls -n` prints it, without the name: users and groups are numbers, and the time is UTC.
pub(super) fn line(to: &mut String, stat: &Stat, now: i64) {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => '-',
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        FileType::Unknown => '?',
    };
    to.push(kind);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = stat.st_mode >> shift;
        to.push(if bits & 4 != 0 { 'r' } else { '-' });
        to.push(if bits & 2 != 0 { 'w' } else { '-' });
        to.push(match (stat.st_mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    let (year, month, day) = date(stat.st_mtime.div_euclid(86_400));
    // Writing to a string does not fail.
    let _ = write!(to, "  {:3} {:<8} {:<8} {:>8} ", stat.st_nlink, stat.st_uid, stat.st_gid, stat.st_size);
    let _ = write!(to, "{} {day:2} ", MONTHS[month]);
    let _ = if now - HALF_A_YEAR < stat.st_mtime && now >= stat.st_mtime {
        let minutes = stat.st_mtime.rem_euclid(86_400) / 60;
        write!(to, "{:02}:{:02} ", minutes / 60, minutes % 60)
    } else {
        write!(to, "{year:5} ")
    };
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Year, month from 0 and day from 1 of a day since 1970, in the Gregorian calendar.
fn date(days: i64) -> (i64, usize, i64) {
    // Years begin in March here, so that the odd day is at their end; 400 of them always have the same length.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let from_january = (month + 2) % 12;
    (400 * era + year + i64::from(from_january < 2), usize::try_from(from_january).unwrap_or(0), day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (day, expected) in [
            (0, (1970, 0, 1)),
            (-1, (1969, 11, 31)),
            (59, (1970, 2, 1)),
            (11_016, (2000, 1, 29)),
            (11_017, (2000, 2, 1)),
            (20_514, (2026, 2, 2)),
            (-135_081, (1600, 1, 29)),
            (47_540, (2100, 1, 28)),
            (47_541, (2100, 2, 1)),
        ] {
            assert_eq!(date(day), expected, "{day}");
        }
    }

    #[test]
    fn attributes_are_read_with_what_nobody_knows() {
        let mut bytes = vec![0x80, 0, 0, 0x0f];
        bytes.extend_from_slice(&7u64.to_be_bytes());
        for number in [1u32, 2, 0o644, 3, 4, 1, 1] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes.extend_from_slice(&[b'x', 0, 0, 0, 0, 42]);
        let mut reader = Reader(&bytes);
        let expected = Attributes { size: Some(7), owner: Some((1, 2)), mode: Some(0o644), times: Some((3, 4)) };
        assert_eq!(Attributes::read(&mut reader).unwrap(), expected);
        assert_eq!(reader.0, [42]);
        for length in 0..bytes.len() - 1 {
            assert!(Attributes::read(&mut Reader(&bytes[..length])).is_err());
        }
        // As many extensions as there are numbers, in a short request.
        assert!(Attributes::read(&mut Reader(&[0x80, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0])).is_err());
    }

    #[test]
    fn times_that_version_3_can_not_tell_are_the_nearest() {
        assert_eq!((seconds(-5), seconds(0), seconds(i64::MAX)), (0, 0, u32::MAX));
        assert!(timestamps(Time { seconds: 0, nanoseconds: 1_000_000_000 }, Time::default()).is_err());
    }
}
