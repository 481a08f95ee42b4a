//! Requests beyond version 3: OpenSSH's and our own.

use std::os::fd::BorrowedFd;

use rustix::fs::{self, AtFlags, Mode, OFlags};
use rustix::io::Errno;
use sandbox_protocol::sftp::{STAT, TIMES, Target, Times};

use super::attributes::{self, Attributes, Subject};
use super::errors::{Failure, status};
use super::waiting::{Copy, Job, Pending};
use super::wire::{Reader, put_string, put_u64};
use super::{Answer, LONGEST_DATA, LONGEST_REQUEST, Sftp, checked_offset, paths};

/// What the server can do, with the versions of each.
pub(super) const NAMES: [(&str, &str); 12] = [
    ("posix-rename@openssh.com", "1"),
    ("statvfs@openssh.com", "2"),
    ("fstatvfs@openssh.com", "2"),
    ("hardlink@openssh.com", "1"),
    ("fsync@openssh.com", "1"),
    ("lsetstat@openssh.com", "1"),
    ("limits@openssh.com", "1"),
    ("expand-path@openssh.com", "1"),
    ("copy-data", "1"),
    ("home-directory", "1"),
    (TIMES, "1"),
    (STAT, "1"),
];

/// Appends all names and versions.
pub(super) fn put_names(to: &mut Vec<u8>) {
    for (name, version) in NAMES {
        put_string(to, name.as_bytes());
        put_string(to, version.as_bytes());
    }
}

impl Sftp {
    pub(super) fn extended(&mut self, id: u32, request: &mut Reader<'_>) -> Result<Answer, Failure> {
        let name = request.string()?;
        match name {
            b"posix-rename@openssh.com" => {
                let (from, to) = (request.string()?, request.string()?);
                fs::renameat(self.base(), from, self.base(), to)?;
                Ok(Answer::Done)
            }
            b"hardlink@openssh.com" => {
                let (from, to) = (request.string()?, request.string()?);
                fs::linkat(self.base(), from, self.base(), to, AtFlags::empty())?;
                Ok(Answer::Done)
            }
            b"statvfs@openssh.com" => {
                let flags = OFlags::PATH | OFlags::CLOEXEC;
                let place = fs::openat(self.base(), request.string()?, flags, Mode::empty())?;
                file_system(std::os::fd::AsFd::as_fd(&place))
            }
            b"fstatvfs@openssh.com" => file_system(self.handles.get(request.string()?)?.descriptor()?),
            b"fsync@openssh.com" => {
                let open = self.handles.get(request.string()?).map_err(Failure::or_bad)?;
                let job = Job::sync(open.descriptor()?)?;
                Ok(Answer::Later(Pending::Sync { id, job }))
            }
            b"lsetstat@openssh.com" => {
                let (path, attributes) = (request.string()?, Attributes::read(request)?);
                if attributes.size.is_some() {
                    return Err(Failure::Explained(Errno::INVAL, "A link has no size to set"));
                }
                attributes.set(Subject::Path { base: self.base(), path, follow: false })?;
                Ok(Answer::Done)
            }
            b"limits@openssh.com" => {
                let mut limits = Vec::with_capacity(32);
                put_u64(&mut limits, LONGEST_REQUEST as u64);
                put_u64(&mut limits, LONGEST_DATA as u64);
                put_u64(&mut limits, LONGEST_DATA as u64);
                put_u64(&mut limits, self.options.max_handles as u64);
                Ok(Answer::Extended(limits))
            }
            b"expand-path@openssh.com" => {
                let expanded = paths::expand(request.string()?, &self.options.home, &self.options.user);
                let path = expanded.ok_or(Failure::Explained(Errno::NOENT, "No such user"))?;
                Ok(Answer::Name(self.base.resolve(&path)?))
            }
            b"home-directory" => {
                let user = request.string()?;
                if !user.is_empty() && user != self.options.user {
                    return Err(Failure::Status(status::FAILURE, "No such user"));
                }
                Ok(Answer::Name(self.options.home.clone().into_os_string().into_encoded_bytes()))
            }
            b"copy-data" => self.copy(id, request),
            name if name == TIMES.as_bytes() => {
                let times = Times::decode(&mut request.0).ok_or(super::wire::Short)?;
                let stamps = attributes::timestamps(times.accessed, times.modified)?;
                let base = self.base.directory();
                let subject = match times.target {
                    Target::Path(path) => Subject::Path { base, path, follow: true },
                    Target::Link(path) => Subject::Path { base, path, follow: false },
                    Target::Handle(handle) => Subject::Open(self.handles.get(handle)?.descriptor()?),
                };
                subject.set_times(&stamps)?;
                Ok(Answer::Done)
            }
            name if name == STAT.as_bytes() => {
                let found = match Target::decode(&mut request.0).ok_or(super::wire::Short)? {
                    Target::Path(path) => fs::statat(self.base(), path, AtFlags::empty())?,
                    Target::Link(path) => fs::statat(self.base(), path, AtFlags::SYMLINK_NOFOLLOW)?,
                    Target::Handle(handle) => fs::fstat(self.handles.get(handle)?.descriptor()?)?,
                };
                let mut contents = Vec::with_capacity(88);
                attributes::in_detail(&found).encode(&mut contents);
                Ok(Answer::Extended(contents))
            }
            _ => Err(Failure::UNSUPPORTED),
        }
    }

    fn copy(&mut self, id: u32, request: &mut Reader<'_>) -> Result<Answer, Failure> {
        let (source, from, length) = (request.string()?, request.u64()?, request.u64()?);
        let (target, to) = (request.string()?, request.u64()?);
        let (from, to) = (checked_offset(from)?, checked_offset(to)?);
        let source =
            rustix::io::fcntl_dupfd_cloexec(&self.handles.file(source).map_err(Failure::or_bad)?.descriptor, 0)?;
        let target = self.handles.file(target).map_err(Failure::or_bad)?;
        // What is copied does not pass through here.
        target.drop_hash();
        let (there, appends) = (std::os::fd::AsFd::as_fd(&target.descriptor), target.appends);
        let left = (length > 0).then_some(length);
        let copy = Copy::new(std::os::fd::AsFd::as_fd(&source), from, left, there, to, appends)?;
        Ok(Answer::Later(Pending::Copy { id, copy }))
    }
}

fn file_system(place: BorrowedFd<'_>) -> Result<Answer, Failure> {
    let found = fs::fstatvfs(place)?;
    let (mut contents, mut flags) = (Vec::with_capacity(88), 0);
    for (flag, told) in [(fs::StatVfsMountFlags::RDONLY, 1), (fs::StatVfsMountFlags::NOSUID, 2)] {
        flags |= if found.f_flag.contains(flag) { told } else { 0 };
    }
    for number in [
        found.f_bsize,
        found.f_frsize,
        found.f_blocks,
        found.f_bfree,
        found.f_bavail,
        found.f_files,
        found.f_ffree,
        found.f_favail,
        found.f_fsid,
        flags,
        found.f_namemax,
    ] {
        put_u64(&mut contents, number);
    }
    Ok(Answer::Extended(contents))
}
