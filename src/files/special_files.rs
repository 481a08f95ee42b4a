//! Every call that writes, against everything that a name can stand for, in both directions: written into, replaced, or
//! refused, with nothing left and nothing else changed. The sandbox is a guest on this machine. `--nocapture` prints
//! the tables.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mkdirat, mknodat, openat};

use super::Files;
use super::file::OpenOptions;
use crate::config::Config;
use crate::error::{ErrorKind, Result};
use crate::testing::{GUEST_PROGRAM, LocalGuest, guest_program};

const NEW: &[u8] = b"new contents\n";
const OLD: &[u8] = b"old\n";
const NOBODY: u32 = 65534;

/// A call that writes: in the sandbox, or here.
type Call = (&'static str, fn(&Files<'_>, &Case) -> Result<()>);

const UP: [Call; 8] = [
    ("write", |files, case| files.write(&case.path, NEW)),
    ("append", |files, case| files.append(&case.path, NEW)),
    ("open_with", |files, case| {
        let mut file = files.open_with(&case.path, OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all(NEW).map_err(|e| e.downcast().unwrap())?;
        file.close()
    }),
    ("upload", |files, case| files.upload(&case.source, &case.path).map(drop)),
    ("checksum", |files, case| files.transfer().checksum(true).sync(true).upload(&case.source, &case.path).map(drop)),
    ("resume", |files, case| files.transfer().resume(true).upload(&case.source, &case.path).map(drop)),
    ("upload_from", |files, case| files.transfer().upload_from(NEW, &case.path).map(drop)),
    ("upload_dir", |files, case| files.upload_dir(case.tree(), &case.into).map(drop)),
];

const DOWN: [Call; 4] = [
    ("download", |files, case| files.download(&case.source, &case.path).map(drop)),
    ("checksum", |files, case| files.transfer().checksum(true).sync(true).download(&case.source, &case.path).map(drop)),
    ("resume", |files, case| files.transfer().resume(true).download(&case.source, &case.path).map(drop)),
    ("download_dir", |files, case| files.download_dir(case.tree(), &case.into).map(drop)),
];

/// What a name stands for, and what each call does with it.
struct Row {
    name: &'static str,
    make: fn(&mut Case),
    up: [&'static str; UP.len()],
    down: [&'static str; DOWN.len()],
    /// What it takes to be made, or to make a difference.
    takes: Takes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Root,
    /// Root may write everything.
    AnotherUser,
}

/// One thing that is written to, in a directory of its own.
struct Case {
    place: PathBuf,
    /// What the calls are given.
    path: PathBuf,
    /// Contents to move, in a tree of their own: `tree/name`.
    source: PathBuf,
    /// The directory that the tree is merged into, in which something has the name of its file.
    into: PathBuf,
    /// What ends with the case: listeners, terminals, and whoever reads.
    kept: Vec<OwnedFd>,
    reader: Option<JoinHandle<Vec<u8>>>,
    mounted: Option<PathBuf>,
}

impl Case {
    fn new(place: &Path, row: &Row) -> Self {
        fs::create_dir_all(place.join("tree")).unwrap();
        fs::create_dir(place.join("d")).unwrap();
        let (path, source) = (place.join("d/name"), place.join("tree/name"));
        let (kept, reader, mounted) = Default::default();
        let mut case = Self { place: place.to_owned(), path, source, into: place.join("d"), kept, reader, mounted };
        (row.make)(&mut case);
        fs::write(&case.source, NEW).unwrap();
        fs::set_permissions(&case.source, Permissions::from_mode(0o666)).unwrap();
        case
    }

    fn tree(&self) -> PathBuf {
        self.place.join("tree")
    }

    /// What a call writes to.
    fn target(&self, call: &str) -> PathBuf {
        match is_of_trees(call) {
            true => self.into.join(self.source.file_name().unwrap()),
            false => self.path.clone(),
        }
    }

    fn old(&self, path: &str, mode: u32) {
        fs::write(self.place.join(path), OLD).unwrap();
        fs::set_permissions(self.place.join(path), Permissions::from_mode(mode)).unwrap();
    }

    fn device(&self, major: u32, minor: u32) {
        mknodat(CWD, &self.path, FileType::CharacterDevice, 0o666.into(), makedev(major, minor)).unwrap();
        // As the umask does not let it be made.
        fs::set_permissions(&self.path, Permissions::from_mode(0o666)).unwrap();
    }

    /// The path is the device's own, and for a tree, which could do harm there, that of a link to it.
    fn lead_to(&mut self, device: &str) {
        symlink(device, &self.path).unwrap();
        self.path = device.into();
    }

    fn pipe(&self) {
        rustix::fs::mkfifoat(CWD, &self.path, Mode::RUSR | Mode::WUSR).unwrap();
    }

    /// Somebody who reads until there is no writer any more.
    fn read_from(&mut self, mut reader: fs::File) {
        self.reader = Some(std::thread::spawn(move || {
            let (mut contents, mut buffer) = (Vec::new(), [0; 4096]);
            while contents.len() < NEW.len() {
                rustix::event::poll(&mut [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::IN)], None)
                    .unwrap();
                match reader.read(&mut buffer) {
                    // Before the writer comes.
                    Ok(0) => std::thread::sleep(Duration::from_millis(1)),
                    Ok(length) => contents.extend_from_slice(&buffer[..length]),
                    Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                    // The case is over.
                    Err(_) => break,
                }
            }
            contents
        }));
    }

    /// What has become of it.
    fn outcome(&mut self, call: &str, before: &State, result: &Result<()>) -> String {
        let target = self.target(call);
        let after = State::of(&target);
        let leftovers = leftovers(&self.place);
        // What has arrived is kept for another attempt.
        let is_kept = call == "resume" && result.as_ref().is_err_and(|e| e.kind() == ErrorKind::Busy);
        assert_eq!(leftovers.len(), usize::from(is_kept), "{leftovers:?}");
        if let Err(e) = result {
            assert_eq!(&after, before, "{e}");
            return e.kind().to_string();
        }
        let Some(end) = &after.end else { panic!("nothing is there") };
        // Modes travel with trees.
        let mode = match (call, &before.end) {
            ("upload_dir", _) => 0o666,
            ("download_dir", _) | (_, None) => 0o644,
            (_, Some(old)) => old.mode,
        };
        if is_of_trees(call) && before.link.is_some() {
            assert_eq!((&after.link, &end.contents[..], end.mode), (&None, NEW, mode));
            // What it led to is as it was.
            assert_eq!(before.leads_to.as_ref().and_then(|path| State::of(path).end), before.end);
            assert!(!self.place.join("end").exists());
            return "link replaced".into();
        }
        assert_eq!(after.link, before.link);
        match (&before.end, end.kind.is_file()) {
            (None, true) => {
                assert_eq!((&end.contents[..], end.mode), (NEW, mode));
                "created".into()
            }
            (Some(old), true) => {
                assert_eq!(end.mode, mode);
                assert!(end.owner == old.owner || is_of_trees(call));
                match () {
                    () if end.contents == NEW && end.inode == old.inode => "in place".into(),
                    () if end.contents == NEW => "replaced".into(),
                    () if end.contents == [OLD, NEW].concat() && end.inode == old.inode => "appended".into(),
                    () => panic!("{:?}", end.contents.escape_ascii().to_string()),
                }
            }
            (old, false) => {
                assert_eq!(Some(end.inode), old.as_ref().map(|old| old.inode));
                if let Some(reader) = self.reader.take() {
                    assert_eq!(reader.join().unwrap(), NEW);
                }
                "into it".into()
            }
        }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if let Some(mounted) = &self.mounted {
            Command::new("umount").arg(mounted).status().unwrap();
        }
        let _ = fs::remove_dir_all(&self.place);
    }
}

fn leftovers(place: &Path) -> Vec<PathBuf> {
    let entries = |directory: PathBuf| fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let all = entries(place.to_owned()).chain(entries(place.join("d"))).chain(entries(place.join("tree")));
    all.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(".sandbox-")).collect()
}

fn is_of_trees(call: &str) -> bool {
    call.ends_with("_dir")
}

/// What is known about a name: what it says and where it leads if it is a link, and what is at the end.
#[derive(Debug, PartialEq)]
struct State {
    link: Option<PathBuf>,
    leads_to: Option<PathBuf>,
    end: Option<End>,
}

#[derive(Debug, PartialEq)]
struct End {
    kind: fs::FileType,
    inode: u64,
    mode: u32,
    owner: (u32, u32),
    contents: Vec<u8>,
}

impl State {
    fn of(path: &Path) -> Self {
        let end = fs::metadata(path).ok().map(|found| End {
            kind: found.file_type(),
            inode: found.ino(),
            mode: found.mode() & 0o7777,
            owner: (found.uid(), found.gid()),
            contents: if found.is_file() { fs::read(path).unwrap_or_default() } else { Vec::new() },
        });
        Self { link: fs::read_link(path).ok(), leads_to: fs::canonicalize(path).ok(), end }
    }
}

const fn all(outcome: &'static str, append: &'static str, open: &'static str, tree: &'static str) -> [&'static str; 8] {
    [outcome, append, open, outcome, outcome, outcome, outcome, tree]
}

fn rows() -> Vec<Row> {
    use Takes::{AnotherUser, Nothing, Root};
    let row = |name, takes, up, down, make| Row { name, make, up, down, takes };
    vec![
        row("nothing", Nothing, all("created", "created", "created", "created"), ["created"; 4], |_| {}),
        row("a file", Nothing, all("replaced", "appended", "in place", "replaced"), ["replaced"; 4], |case| {
            case.old("d/name", 0o644)
        }),
        row("a private file", Nothing, all("replaced", "appended", "in place", "replaced"), ["replaced"; 4], |case| {
            case.old("d/name", 0o600)
        }),
        row("a program", Nothing, all("replaced", "appended", "in place", "replaced"), ["replaced"; 4], |case| {
            case.old("d/name", 0o755)
        }),
        row(
            "a read-only file",
            AnotherUser,
            all("permission_denied", "permission_denied", "permission_denied", "replaced"),
            ["permission_denied", "permission_denied", "permission_denied", "replaced"],
            |case| case.old("d/name", 0o444),
        ),
        row(
            "a file of another user",
            Root,
            all("replaced", "appended", "in place", "replaced"),
            ["replaced"; 4],
            |case| {
                case.old("d/name", 0o640);
                std::os::unix::fs::chown(&case.path, Some(NOBODY), Some(1)).unwrap();
            },
        ),
        row(
            "a link to a file",
            Nothing,
            all("replaced", "appended", "in place", "link replaced"),
            ["replaced", "replaced", "replaced", "link replaced"],
            |case| {
                fs::create_dir(case.place.join("e")).unwrap();
                case.old("e/end", 0o640);
                symlink("../e/second", &case.path).unwrap();
                symlink(case.place.join("e/end"), case.place.join("e/second")).unwrap();
            },
        ),
        row(
            "a link to nothing",
            Nothing,
            all("created", "created", "created", "link replaced"),
            ["created", "created", "created", "link replaced"],
            |case| symlink("../end", &case.path).unwrap(),
        ),
        row(
            "a link to itself",
            Nothing,
            all("transfer", "transfer", "transfer", "link replaced"),
            ["transfer", "transfer", "transfer", "link replaced"],
            |case| symlink("name", &case.path).unwrap(),
        ),
        row(
            "a directory",
            Nothing,
            all("is_a_directory", "is_a_directory", "is_a_directory", "is_a_directory"),
            ["is_a_directory"; 4],
            |case| fs::create_dir(&case.path).unwrap(),
        ),
        row(
            "a link to a directory",
            Nothing,
            all("is_a_directory", "is_a_directory", "is_a_directory", "link replaced"),
            ["is_a_directory", "is_a_directory", "is_a_directory", "link replaced"],
            |case| symlink("/usr", &case.path).unwrap(),
        ),
        row(
            "below a file",
            Nothing,
            all("not_a_directory", "not_a_directory", "not_a_directory", "not_a_directory"),
            ["not_a_directory"; 4],
            |case| {
                case.old("d/name", 0o644);
                case.into = case.path.clone();
                case.path.push("below");
            },
        ),
        row(
            "a null device",
            Root,
            all("into it", "into it", "into it", "file_exists"),
            ["into it", "into it", "invalid_argument", "file_exists"],
            |case| case.device(1, 3),
        ),
        row(
            "/dev/null",
            Nothing,
            all("into it", "into it", "into it", "link replaced"),
            ["into it", "into it", "invalid_argument", "link replaced"],
            |case| case.lead_to("/dev/null"),
        ),
        row(
            "a full device",
            Nothing,
            all("storage_full", "storage_full", "storage_full", "link replaced"),
            ["storage_full", "storage_full", "invalid_argument", "link replaced"],
            |case| case.lead_to("/dev/full"),
        ),
        row(
            "a pipe with a reader",
            Nothing,
            all("into it", "into it", "into it", "file_exists"),
            ["into it", "into it", "invalid_argument", "file_exists"],
            |case| {
                case.pipe();
                let flags = OFlags::NONBLOCK.bits().cast_signed();
                case.read_from(fs::OpenOptions::new().read(true).custom_flags(flags).open(&case.path).unwrap());
            },
        ),
        row(
            "a pipe without one",
            Nothing,
            all("transfer", "transfer", "transfer", "file_exists"),
            ["timed_out", "timed_out", "invalid_argument", "file_exists"],
            |case| case.pipe(),
        ),
        row(
            "a socket",
            Nothing,
            all("transfer", "transfer", "transfer", "file_exists"),
            ["transfer", "transfer", "invalid_argument", "file_exists"],
            |case| {
                // The longest path of a socket is shorter than a test's.
                let place = openat(CWD, case.path.parent().unwrap(), OFlags::PATH, Mode::empty()).unwrap();
                let name = format!("/proc/self/fd/{}/name", place.as_raw_fd());
                case.kept.push(UnixListener::bind(name).unwrap().into());
            },
        ),
        row(
            "a terminal",
            Nothing,
            all("into it", "into it", "into it", "link replaced"),
            ["into it", "into it", "invalid_argument", "link replaced"],
            |case| {
                use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
                let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
                grantpt(&ours).unwrap();
                unlockpt(&ours).unwrap();
                let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
                symlink(&name, &case.path).unwrap();
                // Without a change of line ends, and open as long as somebody may write.
                let theirs = openat(CWD, name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
                let mut attributes = rustix::termios::tcgetattr(&theirs).unwrap();
                attributes.make_raw();
                rustix::termios::tcsetattr(&theirs, rustix::termios::OptionalActions::Now, &attributes).unwrap();
                case.kept.extend([theirs, ours.try_clone().unwrap()]);
                case.read_from(ours.into());
            },
        ),
        row(
            "a name of 255 bytes",
            Nothing,
            all("replaced", "appended", "in place", "replaced"),
            ["replaced"; 4],
            |case| {
                let name = "n".repeat(255);
                (case.path, case.source) = (case.place.join("d").join(&name), case.place.join("tree").join(&name));
                case.old(&format!("d/{name}"), 0o644);
            },
        ),
        row(
            "a path of 4095 bytes",
            Nothing,
            ["created", "created", "created", "created", "created", "name_too_long", "created", "name_too_long"],
            ["created", "created", "created", "name_too_long"],
            |case| {
                let mut path = format!("{}/", case.into.display());
                let mut parent = openat(CWD, &case.into, OFlags::PATH, Mode::empty()).unwrap();
                while path.len() < 4094 {
                    let left = 4094 - path.len();
                    let name = "d".repeat(if left == 257 { 100 } else { (left - 1).min(255) });
                    mkdirat(&parent, &name, Mode::RWXU).unwrap();
                    parent = openat(&parent, &name, OFlags::PATH, Mode::empty()).unwrap();
                    path += &(name + "/");
                }
                case.into = path.clone().into();
                case.path = (path + "f").into();
                case.source = case.place.join("tree/f");
            },
        ),
        row("a mount point", Root, all("busy", "appended", "in place", "busy"), ["busy"; 4], |case| {
            case.old("other", 0o644);
            case.old("d/name", 0o644);
            let other = case.place.join("other");
            if Command::new("mount").arg("--bind").args([&other, &case.path]).status().unwrap().success() {
                case.mounted = Some(case.path.clone());
            }
        }),
    ]
}

/// Prints a table of outcomes, and compares it with what it should be.
fn compare(
    files: &Files<'_>,
    place: &Path,
    calls: &[Call],
    direction: &str,
    expected: impl Fn(&Row) -> &[&'static str],
) {
    let is_root = rustix::process::geteuid().is_root();
    print!("\n{direction:24}");
    calls.iter().for_each(|(name, _)| print!("{name:18}"));
    println!();
    let mut wrong = Vec::new();
    for row in rows() {
        match row.takes {
            Takes::Root if !is_root => continue,
            Takes::AnotherUser if is_root => continue,
            _ => {}
        }
        print!("{:24}", row.name);
        for ((name, call), expected) in calls.iter().zip(expected(&row)) {
            let mut case = Case::new(&place.join("case"), &row);
            if row.name == "a mount point" && case.mounted.is_none() {
                print!("{:18}", "(no mounts here)");
                continue;
            }
            let before = State::of(&case.target(name));
            let result = call(files, &case);
            let outcome = case.outcome(name, &before, &result);
            print!("{outcome:18}");
            if outcome != *expected {
                wrong.push(format!("{name} to {}: {outcome}, not {expected}: {result:?}", row.name));
            }
        }
        println!();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The tables as the user that this is.
fn compare_all(place: &Path) {
    fs::create_dir_all(place).unwrap();
    let place = fs::canonicalize(place).unwrap();
    // As for the files that the tests make.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let guest = LocalGuest::start(&place, Config::new().transfer_timeout(Duration::from_secs(20)));
    compare(&Files::new(&guest.link), &place, &UP, "in the sandbox", |row| &row.up);
    // For a pipe without a reader, the time runs out.
    let guest = LocalGuest::start(&place, Config::new().transfer_timeout(Duration::from_secs(3)));
    compare(&Files::new(&guest.link), &place, &DOWN, "on this machine", |row| &row.down);
    let _ = fs::remove_dir_all(place);
}

#[test]
fn every_call_that_writes_does_right_by_every_kind_of_file() {
    compare_all(&std::env::temp_dir().join(format!("sandbox-special-{}", std::process::id())));
}

#[test]
fn the_same_holds_for_users_without_rights() {
    const VARIABLE: &str = "SANDBOX_TEST_WITHOUT_RIGHTS";
    if let Some(place) = std::env::var_os(VARIABLE) {
        compare_all(Path::new(&place));
    } else if rustix::process::geteuid().is_root() {
        // Only another process can be another user.
        let place = std::env::temp_dir().join(format!("sandbox-unprivileged-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        fs::set_permissions(&place, Permissions::from_mode(0o777)).unwrap();
        let test = "files::special_files::the_same_holds_for_users_without_rights";
        let mut again = Command::new(std::env::current_exe().unwrap());
        again
            .args([test, "--exact", "--nocapture"])
            .env(VARIABLE, place.join("place"))
            .env(GUEST_PROGRAM, guest_program());
        let output = again.uid(NOBODY).gid(NOBODY).output().unwrap();
        println!("{}", String::from_utf8_lossy(&output.stdout));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let _ = fs::remove_dir_all(place);
    }
}

#[test]
fn trees_keep_holes_and_nanoseconds_and_are_compared() {
    let place = std::env::temp_dir().join(format!("sandbox-holes-{}", std::process::id()));
    fs::create_dir_all(place.join("there/d")).unwrap();
    let guest = LocalGuest::start(&place, Config::new().transfer_timeout(Duration::from_secs(60)));
    let files = Files::new(&guest.link);
    // Holes at the beginning, in the middle and at the end; nothing but a hole; nothing at all; and many small ones.
    let sparse = fs::File::create(place.join("there/sparse")).unwrap();
    for offset in [1 << 20, 3 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &[7; 5000], offset).unwrap();
    }
    sparse.set_len(1 << 30).unwrap();
    fs::File::create(place.join("there/hole")).unwrap().set_len(100 << 20).unwrap();
    fs::write(place.join("there/empty"), "").unwrap();
    for number in 0..300 {
        fs::write(place.join(format!("there/d/{number}")), number.to_string()).unwrap();
    }
    let modified = std::time::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    for name in ["sparse", "d/7", "d"] {
        fs::File::open(place.join("there").join(name)).unwrap().set_modified(modified).unwrap();
    }
    for (checksum, name) in [(false, "plain"), (true, "checked")] {
        let up = files.transfer().checksum(checksum).upload_dir(place.join("there"), name).unwrap();
        let back = place.join(format!("back-{name}"));
        let down = files.transfer().checksum(checksum).download_dir(name, &back).unwrap();
        for report in [&up, &down] {
            assert_eq!((report.files, report.directories, report.skipped), (303, 2, 0));
            assert_eq!(report.bytes, (1 << 30) + (100 << 20) + 790);
        }
        for root in [place.join(name), back] {
            for name in ["sparse", "hole"] {
                let (found, original) = (fs::metadata(root.join(name)).unwrap(), place.join("there").join(name));
                assert_eq!(found.len(), fs::metadata(&original).unwrap().len());
                assert!(found.blocks() < 200, "{name}: {} blocks", found.blocks());
            }
            let read = |at| {
                let mut bytes = [1; 5001];
                let file = fs::File::open(root.join("sparse")).unwrap();
                std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, at).unwrap();
                bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>()
            };
            assert_eq!((read((1 << 20) - 1), read(3 << 20), read(1 << 29)), (35_000, 35_000, 0));
            for name in ["sparse", "d/7", "d"] {
                assert_eq!(fs::metadata(root.join(name)).unwrap().modified().unwrap(), modified, "{name}");
            }
            assert_eq!(fs::read(root.join("d/299")).unwrap(), b"299");
        }
    }
    fs::remove_dir_all(place).unwrap();
}

#[test]
fn new_files_get_the_mode_that_is_asked_for() {
    let place = std::env::temp_dir().join(format!("sandbox-modes-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    let guest = LocalGuest::start(&place, Config::new().transfer_timeout(Duration::from_secs(60)));
    let files = Files::new(&guest.link);
    fs::write(place.join("program"), NEW).unwrap();
    fs::set_permissions(place.join("program"), Permissions::from_mode(0o755)).unwrap();
    let mode = |name: &str| fs::metadata(place.join(name)).unwrap().mode() & 0o7777;
    for resume in [false, true] {
        let transfer = || files.transfer().resume(resume);
        transfer().upload(place.join("program"), "a").unwrap();
        transfer().mode(0o600).upload(place.join("program"), "b").unwrap();
        transfer().mode(0o777).upload(place.join("program"), "b").unwrap();
        assert_eq!((mode("a"), mode("b")), (0o755, 0o600));
        fs::remove_file(place.join("a")).unwrap();
        fs::remove_file(place.join("b")).unwrap();
    }
    files.transfer().mode(0o400).upload_from(NEW, "c").unwrap();
    assert_eq!(mode("c"), 0o400);
    assert_eq!(files.transfer().mode(0o10000).upload_from(NEW, "d").unwrap_err().kind(), ErrorKind::InvalidArgument);
    fs::remove_dir_all(place).unwrap();
}
