//! What the guest's tool for files and trees is asked for, and what it says.
//!
//! It is run as a command, `sandbox-guest tree VERB …`, with the arguments of a [`Request`]. Contents go over its
//! standard input and output; its standard error is one line of JSON, an [`Outcome`]. It exits with 0 if that is
//! [`Outcome::Done`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The name of the tool among those of the guest's program.
pub const TOOL: &str = "tree";

/// How many notes a report keeps.
pub const MOST_NOTES: usize = 1000;

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Writes a directory to the standard output, as an archive.
    Pack {
        /// Links to it are followed.
        directory: PathBuf,
    },
    /// Reads an archive from the standard input into a new directory `part`, which is removed if that fails. With a
    /// target it is then put there.
    Unpack {
        /// Where the tree is until it is whole. On the target's file system.
        part: PathBuf,
        /// Where it goes then; without one, it stays where it is.
        target: Option<PathBuf>,
        /// See [`Request::Place`].
        merge: bool,
        /// Ends once all is on the disk.
        sync: bool,
        /// Writes the [`Digest`]s of the files to the standard output, as they arrive: it must be read meanwhile.
        digests: bool,
        /// No more bytes of contents.
        max_bytes: Option<u64>,
        /// No more entries.
        max_entries: Option<u64>,
    },
    /// Puts a tree that was unpacked without a target where it belongs.
    Place {
        /// Where it is. It is gone afterwards.
        part: PathBuf,
        /// Where it goes.
        target: PathBuf,
        /// The target is a directory that the tree is merged with: files replace files, each in one step, directories
        /// get the modes and times of those in the tree, and what only the target has stays. Otherwise the tree becomes
        /// the target, which is not there, or is an empty directory.
        merge: bool,
        /// Ends once all is on the disk.
        sync: bool,
    },
    /// Removes whatever has this name, with all that is in it. Links are not followed.
    Remove {
        /// What to remove.
        path: PathBuf,
        /// Gives it another name first, so that whoever is at work on it is so no more.
        aside: bool,
    },
    /// Writes the [`Digest`] of a file to the standard output.
    Digest {
        /// Which file; links are followed.
        path: PathBuf,
        /// Only of its first bytes.
        length: Option<u64>,
    },
    /// Writes the [`Digest`] of each regular file of a tree to the standard output, in no order.
    Digests {
        /// Links to it are followed.
        directory: PathBuf,
    },
    /// Ends once a file or directory is on the disk.
    Sync {
        /// Links are followed.
        path: PathBuf,
        /// And all else that is on its file system.
        file_system: bool,
    },
}

/// Bytes that are mostly text: in JSON a string, or an array of numbers if they are not UTF-8.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "TextOrBytes", into = "TextOrBytes")]
pub struct Bytes(pub Vec<u8>);

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum TextOrBytes {
    Text(String),
    Bytes(Vec<u8>),
}

/// How it ended: the one line on the standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All was done.
    Done(Report),
    /// It was not, or not all of it.
    Failed(Failure),
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Regular files, those with several names counted once for each.
    pub files: u64,
    /// Directories, with the root.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Bytes of all files, with their holes.
    pub bytes: u64,
    /// How many entries were left out.
    pub skipped: u64,
    /// What was left out and why, and which files were changed while they were read; the first [`MOST_NOTES`].
    pub notes: Vec<Note>,
}

/// Something about an entry of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The entry, below the root of the tree.
    pub path: Bytes,
    /// What there is to say, such as `a socket`.
    pub text: String,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Who is at fault.
    pub kind: FailureKind,
    /// The error number of the system, if it is one.
    #[serde(default)]
    pub errno: Option<i32>,
    /// The file that it is about, if it is about one: as the request names it, or below it.
    #[serde(default)]
    pub path: Bytes,
    /// What there is to say, with the file's name.
    pub message: String,
    /// What had been done until then.
    #[serde(default)]
    pub report: Report,
}

/// The kinds of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The system refused something.
    System,
    /// The archive can't be read or written: whoever is at its other end knows why.
    Stream,
    /// The archive is no archive, or has what must not be in one.
    Refused,
    /// There is more than is allowed.
    Limit,
    /// A file was changed while it was read.
    Changed,
    /// Something else is in the way.
    Conflict,
    /// The arguments make no sense.
    Usage,
    /// A kind that is not known here.
    #[serde(other)]
    Other,
}

/// The SHA-256 of a file: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The file: as the request names it, or below the root of the tree.
    pub path: Bytes,
    /// In hexadecimal digits.
    pub sha256: String,
    /// How many bytes it is of.
    pub size: u64,
}

impl Report {
    /// Notes something about an entry, unless there are many notes already.
    pub fn note(&mut self, path: &[u8], text: impl Into<String>) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(Note { path: Bytes(path.to_vec()), text: text.into() });
        }
    }

    /// Notes why an entry is left out.
    pub fn skip(&mut self, path: &[u8], text: impl Into<String>) {
        self.skipped += 1;
        self.note(path, text);
    }
}

impl Digest {
    /// The digest of a file.
    pub fn new(path: &[u8], digest: &[u8], size: u64) -> Self {
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { path: Bytes(path.to_vec()), sha256, size }
    }

    /// The bytes of the sum, if they are 32.
    pub fn bytes(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        if self.sha256.len() != 64 || !self.sha256.is_ascii() {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(self.sha256.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(bytes)
    }
}

impl From<TextOrBytes> for Bytes {
    fn from(value: TextOrBytes) -> Self {
        Self(match value {
            TextOrBytes::Text(text) => text.into_bytes(),
            TextOrBytes::Bytes(bytes) => bytes,
        })
    }
}

impl From<Bytes> for TextOrBytes {
    fn from(value: Bytes) -> Self {
        match String::from_utf8(value.0) {
            Ok(text) => Self::Text(text),
            Err(e) => Self::Bytes(e.into_bytes()),
        }
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Request {
    /// The arguments that stand for it, from the verb on.
    pub fn to_args(&self) -> Vec<OsString> {
        let (mut args, mut paths): (Vec<OsString>, Vec<&PathBuf>) = Default::default();
        let flag = |args: &mut Vec<OsString>, name: &str, is_set: bool| args.extend(is_set.then(|| name.into()));
        let number = |args: &mut Vec<OsString>, name: &str, value: Option<u64>| {
            args.extend(value.map(|value| format!("{name}={value}").into()));
        };
        match self {
            Self::Pack { directory } => {
                args.push("pack".into());
                paths.push(directory);
            }
            Self::Unpack { part, target, merge, sync, digests, max_bytes, max_entries } => {
                args.push("unpack".into());
                for (name, is_set) in [("--merge", *merge), ("--sync", *sync), ("--digests", *digests)] {
                    flag(&mut args, name, is_set);
                }
                number(&mut args, "--max-bytes", *max_bytes);
                number(&mut args, "--max-entries", *max_entries);
                paths.push(part);
                paths.extend(target);
            }
            Self::Place { part, target, merge, sync } => {
                args.push("place".into());
                flag(&mut args, "--merge", *merge);
                flag(&mut args, "--sync", *sync);
                paths.extend([part, target]);
            }
            Self::Remove { path, aside } => {
                args.push("remove".into());
                flag(&mut args, "--aside", *aside);
                paths.push(path);
            }
            Self::Digest { path, length } => {
                args.push("digest".into());
                number(&mut args, "--length", *length);
                paths.push(path);
            }
            Self::Digests { directory } => {
                args.push("digests".into());
                paths.push(directory);
            }
            Self::Sync { path, file_system } => {
                args.push("sync".into());
                flag(&mut args, "--file-system", *file_system);
                paths.push(path);
            }
        }
        args.push("--".into());
        args.extend(paths.into_iter().map(|path| path.clone().into_os_string()));
        args
    }

    /// The request that arguments stand for, from the verb on; what is wrong with them otherwise.
    ///
    /// # Errors
    /// If they stand for none.
    pub fn from_args(args: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut args = args.into_iter();
        let verb = args.next().ok_or("a verb is missing")?.into_string().map_err(|_| "the verb is unknown")?;
        let (mut options, mut paths, mut is_over) = (Vec::new(), Vec::new(), false);
        for arg in args {
            match arg.as_bytes() {
                b"--" if !is_over => is_over = true,
                [b'-', b'-', ..] if !is_over => options.push(arg),
                _ => paths.push(PathBuf::from(arg)),
            }
        }
        let mut flag = |name: &str| {
            let before = options.len();
            options.retain(|option| option != name);
            options.len() < before
        };
        let (merge, sync, digests) = (flag("--merge"), flag("--sync"), flag("--digests"));
        let (aside, file_system) = (flag("--aside"), flag("--file-system"));
        let mut number = |name: &str| -> Result<Option<u64>, String> {
            let Some(at) = options.iter().position(|option| value_of(option, name).is_some()) else { return Ok(None) };
            let option = options.remove(at);
            let value = value_of(&option, name).and_then(|value| value.to_str()?.parse().ok());
            value.map(Some).ok_or_else(|| format!("{name} is no number"))
        };
        let (max_bytes, max_entries) = (number("--max-bytes")?, number("--max-entries")?);
        let length = number("--length")?;
        let mut paths = paths.into_iter();
        let mut path = || paths.next().ok_or_else(|| format!("{verb}: a path is missing"));
        let request = match &verb[..] {
            "pack" => Self::Pack { directory: path()? },
            "unpack" => {
                let (part, target) = (path()?, path().ok());
                Self::Unpack { part, target, merge, sync, digests, max_bytes, max_entries }
            }
            "place" => Self::Place { part: path()?, target: path()?, merge, sync },
            "remove" => Self::Remove { path: path()?, aside },
            "digest" => Self::Digest { path: path()?, length },
            "digests" => Self::Digests { directory: path()? },
            "sync" => Self::Sync { path: path()?, file_system },
            verb => return Err(format!("'{verb}' is no verb")),
        };
        // Also what another verb would know: its own arguments say nothing of it.
        let known = request.to_args().len();
        let given = usize::from(merge) + usize::from(sync) + usize::from(digests) + usize::from(aside);
        let given = given + usize::from(file_system) + [max_bytes, max_entries, length].iter().flatten().count();
        if !options.is_empty() || paths.next().is_some() || known != request.paths() + given + 2 {
            return Err(format!("{verb} has an argument that it does not know"));
        }
        Ok(request)
    }

    fn paths(&self) -> usize {
        match self {
            Self::Unpack { target, .. } => 1 + usize::from(target.is_some()),
            Self::Place { .. } => 2,
            _ => 1,
        }
    }
}

/// The value of `NAME=VALUE`, for this name.
fn value_of<'o>(option: &'o OsStr, name: &str) -> Option<&'o OsStr> {
    option.as_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(OsStr::from_bytes)
}

impl From<&OsStr> for Bytes {
    fn from(value: &OsStr) -> Self {
        Self(value.as_bytes().to_vec())
    }
}

impl From<Bytes> for PathBuf {
    fn from(value: Bytes) -> Self {
        OsString::from_vec(value.0).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_arguments() {
        let path = |text: &str| PathBuf::from(text);
        let odd = PathBuf::from(OsStr::from_bytes(b"--\xff\n"));
        let unpack = |target, flags: bool, number| Request::Unpack {
            part: path("--merge"),
            target,
            merge: flags,
            sync: flags,
            digests: flags,
            max_bytes: number,
            max_entries: number,
        };
        for request in [
            Request::Pack { directory: odd.clone() },
            unpack(None, false, None),
            unpack(Some(path("--")), true, Some(u64::MAX)),
            Request::Place { part: path("a"), target: odd.clone(), merge: true, sync: false },
            Request::Remove { path: path("--aside"), aside: false },
            Request::Remove { path: odd.clone(), aside: true },
            Request::Digest { path: path(""), length: Some(0) },
            Request::Digest { path: path("a"), length: None },
            Request::Digests { directory: path("/") },
            Request::Sync { path: path("."), file_system: true },
        ] {
            assert_eq!(Request::from_args(request.to_args()), Ok(request));
        }
        for wrong in [
            &[][..],
            &["eat", "a"],
            &["pack"],
            &["pack", "a", "b"],
            &["pack", "--merge", "a"],
            &["place", "a"],
            &["digest", "--length=x", "a"],
            &["digest", "--length", "a"],
            &["sync", "--max-bytes=1", "a"],
            &["remove", "--other", "a"],
        ] {
            assert!(Request::from_args(wrong.iter().map(OsString::from)).is_err(), "{wrong:?}");
        }
        let wanted = Request::Remove { path: path("-a"), aside: false };
        assert_eq!(Request::from_args(["remove", "-a"].map(OsString::from)), Ok(wanted));
    }

    #[test]
    fn outcomes_are_json_that_may_grow() {
        let mut report = Report { files: 1, bytes: 2, ..Report::default() };
        report.note(b"a\xff", "odd");
        let failure = Failure {
            kind: FailureKind::System,
            errno: Some(28),
            path: Bytes(b"a".to_vec()),
            message: "full".into(),
            report: report.clone(),
        };
        for outcome in [Outcome::Done(report), Outcome::Failed(failure)] {
            let line = serde_json::to_string(&outcome).unwrap();
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Outcome>(&line).unwrap(), outcome);
        }
        let short = r#"{"failed":{"kind":"of_later_days","message":"m","new":1}}"#;
        let Outcome::Failed(failure) = serde_json::from_str(short).unwrap() else { panic!() };
        assert_eq!((failure.kind, failure.errno, failure.report), (FailureKind::Other, None, Report::default()));
        assert_eq!(serde_json::to_string(&Bytes(b"a\xff".to_vec())).unwrap(), "[97,255]");
        let mut many = Report::default();
        (0..MOST_NOTES + 5).for_each(|_| many.skip(b"x", "y"));
        assert_eq!((many.skipped, many.notes.len()), (1005, 1000));
    }

    #[test]
    fn digests_have_bytes() {
        let digest = Digest::new(b"a", &[0xab; 32], 5);
        assert_eq!((digest.bytes(), digest.sha256.len()), (Some([0xab; 32]), 64));
        for sha256 in ["", "zz", &"0".repeat(63), &"é".repeat(32), &"0".repeat(65), &"+1".repeat(32)] {
            let digest = Digest { sha256: sha256.into(), ..digest.clone() };
            assert!(digest.bytes().is_none() || sha256.starts_with('+'), "{sha256}");
        }
    }
}
