//! What a client is told when a request fails.

use rustix::io::Errno;
use sandbox_protocol::SFTP_ERRNO_BASE;

use super::wire::Short;

/// Statuses of version 3.
pub(super) mod status {
    pub(in crate::sftp) const OK: u32 = 0;
    pub(in crate::sftp) const END_OF_FILE: u32 = 1;
    pub(in crate::sftp) const NO_SUCH_FILE: u32 = 2;
    pub(in crate::sftp) const PERMISSION_DENIED: u32 = 3;
    pub(in crate::sftp) const FAILURE: u32 = 4;
    pub(in crate::sftp) const BAD_MESSAGE: u32 = 5;
    pub(in crate::sftp) const UNSUPPORTED: u32 = 8;
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The system said so.
    Errno(Errno),
    /// The same, with better words for it.
    Explained(Errno, &'static str),
    /// A status of the protocol itself, for every client.
    Status(u32, &'static str),
}

impl Failure {
    pub(super) const END_OF_FILE: Self = Self::Status(status::END_OF_FILE, "End of file");
    pub(super) const UNSUPPORTED: Self = Self::Status(status::UNSUPPORTED, "This server does not know the request");
    /// OpenSSH's server has FAILURE for this in most requests, and not what EBADF stands for elsewhere; see
    /// [`or_bad`](Self::or_bad).
    pub(super) const NO_HANDLE: Self = Self::Explained(Errno::BADF, "There is no such handle");
    pub(super) const TOO_MANY: Self = Self::Explained(Errno::MFILE, "Too many open files");

    /// For the other requests.
    pub(super) fn or_bad(self) -> Self {
        if self == Self::NO_HANDLE { Self::Errno(Errno::BADF) } else { self }
    }

    /// The status and its text, for a client that understands our error numbers or one that does not.
    pub(super) fn to_status(self, in_detail: bool) -> (u32, String) {
        match self {
            Self::Status(code, text) => (code, text.to_owned()),
            Self::NO_HANDLE if !in_detail => (status::FAILURE, "There is no such handle".to_owned()),
            Self::Errno(errno) => (code_of(errno, in_detail), text_of(errno)),
            Self::Explained(errno, text) => (code_of(errno, in_detail), text.to_owned()),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Short> for Failure {
    fn from(_: Short) -> Self {
        Self::Status(status::BAD_MESSAGE, "The request is malformed")
    }
}

fn code_of(errno: Errno, in_detail: bool) -> u32 {
    if in_detail {
        return SFTP_ERRNO_BASE + errno.raw_os_error().unsigned_abs();
    }
    // As OpenSSH's server has it.
    match errno {
        Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP => status::NO_SUCH_FILE,
        Errno::PERM | Errno::ACCESS | Errno::FAULT => status::PERMISSION_DENIED,
        Errno::NAMETOOLONG | Errno::INVAL => status::BAD_MESSAGE,
        Errno::NOSYS | Errno::OPNOTSUPP => status::UNSUPPORTED,
        _ => status::FAILURE,
    }
}

fn text_of(errno: Errno) -> String {
    let text = errno.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_openssh_or_tell_the_error_number() {
        for (errno, code) in [
            (Errno::NOENT, 2),
            (Errno::NOTDIR, 2),
            (Errno::LOOP, 2),
            (Errno::ACCESS, 3),
            (Errno::PERM, 3),
            (Errno::INVAL, 5),
            (Errno::NAMETOOLONG, 5),
            (Errno::NOSYS, 8),
            (Errno::EXIST, 4),
            (Errno::NOSPC, 4),
            (Errno::NOTEMPTY, 4),
            (Errno::ISDIR, 4),
            (Errno::ROFS, 4),
        ] {
            assert_eq!(Failure::from(errno).to_status(false).0, code, "{errno}");
            assert_eq!(Failure::from(errno).to_status(true).0, 0x1_0000 + errno.raw_os_error().unsigned_abs());
        }
        assert_eq!(Failure::from(Errno::NOENT).to_status(true).1, "No such file or directory");
        assert_eq!((Failure::NO_HANDLE.to_status(false).0, Failure::NO_HANDLE.to_status(true).0), (4, 0x1_0009));
        assert_eq!((Failure::END_OF_FILE.to_status(true).0, Failure::UNSUPPORTED.to_status(true).0), (1, 8));
    }
}
