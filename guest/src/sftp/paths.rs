//! What paths of a client mean.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// As the system has it, with the NUL at the end.
const LONGEST: usize = 4096;
const MOST_LINKS: usize = 40;

/// The directory at which relative paths begin. Not the process's own, which all connections share.
#[derive(Debug)]
pub(super) struct Base {
    /// `None` if it was not there.
    directory: Option<OwnedFd>,
    path: Vec<u8>,
}

impl Base {
    /// The directory of this path; if it is not there, relative paths lead nowhere.
    pub(super) fn open(path: &Path) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = fs::openat(fs::CWD, &path, flags, Mode::empty()).ok();
        Self { directory, path: path.into_os_string().into_encoded_bytes() }
    }

    pub(super) fn directory(&self) -> BorrowedFd<'_> {
        match &self.directory {
            Some(directory) => directory.as_fd(),
            // It was the process's own, which is gone.
            None => fs::CWD,
        }
    }

    /// The absolute path without links, `.` and `..`. Its last name need not be there, nor need what a link in its
    /// place leads to.
    pub(super) fn resolve(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        if path.contains(&0) {
            return Err(Errno::INVAL);
        }
        // What is still to be resolved, the first name last.
        let mut rest: Vec<Vec<u8>> = Vec::new();
        let (mut resolved, mut links) = (Vec::new(), 0);
        push(&mut rest, path)?;
        if !path.starts_with(b"/") {
            push(&mut rest, &self.path)?;
        }
        while let Some(name) = rest.pop() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    resolved.truncate(resolved.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                    continue;
                }
                _ => {}
            }
            let parent = resolved.len();
            resolved.push(b'/');
            resolved.extend_from_slice(&name);
            if resolved.len() >= LONGEST {
                return Err(Errno::NAMETOOLONG);
            }
            let found = match fs::statat(fs::CWD, &resolved[..], AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) if rest.is_empty() => break,
                found => found?,
            };
            if FileType::from_raw_mode(found.st_mode) == FileType::Symlink {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP);
                }
                let target = fs::readlinkat(fs::CWD, &resolved[..], Vec::new())?.into_bytes();
                resolved.truncate(if target.starts_with(b"/") { 0 } else { parent });
                push(&mut rest, &target)?;
            }
        }
        Ok(if resolved.is_empty() { b"/".to_vec() } else { resolved })
    }
}

/// Puts the names of a path in front of those that are left.
fn push(rest: &mut Vec<Vec<u8>>, path: &[u8]) -> Result<(), Errno> {
    if path.len() >= LONGEST || rest.len() >= LONGEST {
        return Err(Errno::NAMETOOLONG);
    }
    // A slash at the end is a last name that is empty, and means that what is before it must be there.
    rest.extend(path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
    Ok(())
}

/// A path with a home directory in the place of its `~`; `None` if it is somebody else's.
pub(super) fn expand(path: &[u8], home: &Path, user: &[u8]) -> Option<Vec<u8>> {
    let Some(rest) = path.strip_prefix(b"~") else { return Some(path.to_vec()) };
    let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    (name.is_empty() || name == user).then(|| [home.as_os_str().as_bytes(), rest].concat())
}

/// Whether a path is a socket's, which can't be opened like a file.
pub(super) fn is_socket(base: BorrowedFd<'_>, path: &[u8]) -> bool {
    let found = fs::statat(base, OsStr::from_bytes(path), AtFlags::empty());
    found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_stands_for_a_tilde() {
        let expand = |path: &str| {
            expand(path.as_bytes(), Path::new("/home/me"), b"me").map(|path| path.escape_ascii().to_string())
        };
        for (path, expanded) in [
            ("~", Some("/home/me")),
            ("~/", Some("/home/me/")),
            ("~/a/~", Some("/home/me/a/~")),
            ("~me/a", Some("/home/me/a")),
            ("~you", None),
            ("~you/a", None),
            ("a/~", Some("a/~")),
            ("", Some("")),
        ] {
            assert_eq!(expand(path).as_deref(), expanded, "{path}");
        }
    }

    #[test]
    fn paths_are_resolved_up_to_a_last_name_that_is_missing() {
        let place = std::env::temp_dir().join(format!("sftp-paths-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&place);
        std::fs::create_dir_all(place.join("d/e")).unwrap();
        let place = std::fs::canonicalize(place).unwrap();
        std::fs::write(place.join("d/file"), "").unwrap();
        for (target, name) in
            [("d", "link"), ("nowhere", "broken"), ("loop", "loop"), ("/", "root"), ("../d/e/", "d/up")]
        {
            std::os::unix::fs::symlink(target, place.join(name)).unwrap();
        }
        let base = Base::open(&place.join("link"));
        let here = place.as_os_str().as_bytes();
        for (path, expected) in [
            (".", Ok("/d")),
            ("", Ok("/d")),
            ("..", Ok("")),
            ("e/../file", Ok("/d/file")),
            ("./missing", Ok("/d/missing")),
            ("missing/", Err(Errno::NOENT)),
            ("missing/x", Err(Errno::NOENT)),
            ("file/x", Err(Errno::NOTDIR)),
            ("../broken", Ok("/nowhere")),
            ("../broken/x", Err(Errno::NOENT)),
            ("../loop", Err(Errno::LOOP)),
            ("up/../file", Ok("/d/file")),
        ] {
            let resolved = base.resolve(path.as_bytes());
            let expected = expected.map(|rest| [here, rest.as_bytes()].concat());
            assert_eq!(resolved, expected, "{path}");
        }
        assert_eq!(base.resolve(b"/../.."), Ok(b"/".to_vec()));
        assert_eq!(base.resolve(&[place.as_os_str().as_bytes(), b"/root/"].concat()), Ok(b"/".to_vec()));
        assert_eq!(base.resolve(b"a\0"), Err(Errno::INVAL));
        assert_eq!(base.resolve(&[b'x'; 5000]), Err(Errno::NAMETOOLONG));
        assert_eq!(base.resolve("d/".repeat(2500).as_bytes()), Err(Errno::NAMETOOLONG));
        assert_eq!(Base::open(Path::new("/nowhere/at/all")).resolve(b"x"), Err(Errno::NOENT));
        std::fs::remove_dir_all(&place).unwrap();
    }
}
