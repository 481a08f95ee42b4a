//! The tool for trees as it is run in a sandbox: as a command, with streams, and as a user that may not do everything.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sandbox_protocol::tree::{Digest, Failure, FailureKind, Outcome, Report, Request, TOOL};

/// A user without rights, if the test may become one.
const NOBODY: u32 = 65_534;

/// A directory of a test's own, which belongs to nobody.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let place = std::env::temp_dir().join(format!("sandbox-guest-tool-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir(&place).unwrap();
        if is_root() {
            chown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = tool(&Request::Remove { path: self.0.clone(), aside: false });
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn command(args: impl IntoIterator<Item = OsString>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox-guest"));
    command.arg(TOOL).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn tool(request: &Request) -> Output {
    command(request.to_args()).output().unwrap()
}

fn with_input(request: &Request, input: &[u8]) -> Output {
    let mut child = command(request.to_args()).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // It may end before it has read all.
        scope.spawn(move || stdin.write_all(input));
        child.wait_with_output().unwrap()
    })
}

fn outcome(output: &Output) -> Outcome {
    let outcome = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(output.status.success(), matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    assert_eq!(output.stderr.iter().filter(|byte| **byte == b'\n').count(), 1);
    outcome
}

fn done(output: &Output) -> Report {
    match outcome(output) {
        Outcome::Done(report) => report,
        Outcome::Failed(failure) => panic!("{failure:?}"),
    }
}

fn failed(output: &Output) -> Failure {
    match outcome(output) {
        Outcome::Failed(failure) => failure,
        Outcome::Done(report) => panic!("{report:?}"),
    }
}

fn unpack(part: PathBuf, target: Option<PathBuf>, merge: bool) -> Request {
    Request::Unpack { part, target, merge, sync: true, digests: true, max_bytes: None, max_entries: None }
}

/// Makes a directory of the user that the tool runs as.
fn make(place: &Place, name: &str) -> PathBuf {
    let path = place.at(name);
    fs::create_dir_all(&path).unwrap();
    own(&path);
    path
}

fn write(path: &Path, contents: &[u8]) {
    fs::write(path, contents).unwrap();
    own(path);
}

fn own(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_tree_goes_from_one_command_to_the_other() {
    let place = Place::new("pipe");
    let tree = make(&place, "tree");
    let locked = make(&place, "tree/locked");
    write(&tree.join("large"), &vec![5; 20 << 20]);
    for number in 0..2000 {
        write(&locked.join(number.to_string()), number.to_string().as_bytes());
    }
    set_mode(&locked, 0o500);
    let target = make(&place, "target");
    write(&target.join("kept"), b"kept");
    write(&target.join("large"), b"old");

    let mut packing = command(Request::Pack { directory: tree }.to_args()).spawn().unwrap();
    let part = target.join(".part");
    let unpacking = command(unpack(part.clone(), Some(target.clone()), true).to_args())
        .stdin(packing.stdout.take().unwrap())
        .output()
        .unwrap();
    let sent = done(&packing.wait_with_output().unwrap());
    let received = done(&unpacking);
    assert_eq!((sent.files, sent.directories, sent.bytes), (2001, 2, (20 << 20) + 6890));
    assert_eq!(sent, received);
    assert!(!part.exists() && fs::read(target.join("kept")).unwrap() == b"kept");
    assert_eq!(fs::metadata(target.join("large")).unwrap().len(), 20 << 20);
    assert_eq!(fs::metadata(target.join("locked")).unwrap().mode() & 0o777, 0o500);
    let sums = |bytes: &[u8]| {
        let lines = std::str::from_utf8(bytes).unwrap().lines();
        let mut sums: Vec<_> = lines.map(|line| serde_json::from_str::<Digest>(line).unwrap()).collect();
        sums.retain(|digest| digest.path.0 != b"kept");
        sums.sort_by(|a, b| a.path.cmp(&b.path));
        sums
    };
    let listed = tool(&Request::Digests { directory: target });
    assert_eq!(done(&listed).files, 2002);
    assert_eq!((sums(&listed.stdout), sums(&unpacking.stdout).len()), (sums(&unpacking.stdout), 2001));
}

#[test]
fn in_two_steps_the_tree_waits_for_its_place() {
    let place = Place::new("steps");
    let tree = make(&place, "tree");
    write(&tree.join("f"), b"contents");
    set_mode(&tree, 0o555);
    let archive = tool(&Request::Pack { directory: tree }).stdout;
    let (part, target) = (place.at("part"), place.at("target"));
    done(&with_input(&unpack(part.clone(), None, false), &archive));
    let digest = tool(&Request::Digest { path: part.join("f"), length: Some(3) });
    assert_eq!(done(&digest).bytes, 3);
    done(&tool(&Request::Place { part: part.clone(), target: target.clone(), merge: false, sync: true }));
    assert_eq!((fs::read(target.join("f")).unwrap(), part.exists()), (b"contents".to_vec(), false));
    assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o555);
    for file_system in [false, true] {
        done(&tool(&Request::Sync { path: target.join("f"), file_system }));
        done(&tool(&Request::Sync { path: target.clone(), file_system }));
    }
    // Once more, to where something is now, and into another directory.
    done(&with_input(&unpack(part.clone(), None, false), &archive));
    let failure = failed(&tool(&Request::Place { part: part.clone(), target, merge: false, sync: false }));
    assert_eq!((failure.kind, part.exists()), (FailureKind::Conflict, false));
    done(&with_input(&unpack(part.clone(), None, false), &archive));
    let inside = make(&place, "inside");
    done(&tool(&Request::Place { part, target: inside.join("x"), merge: false, sync: false }));
    assert_eq!(fs::metadata(inside.join("x")).unwrap().mode() & 0o777, 0o555);
}

#[test]
fn what_is_not_allowed_is_told_with_its_number_and_name() {
    if !is_root() {
        eprintln!("skipped: only root can make what others may not touch");
        return;
    }
    let place = Place::new("forbidden");
    let (tree, theirs) = (make(&place, "tree"), place.at("theirs"));
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("f"), "root's").unwrap();
    write(&tree.join("f"), b"contents");
    let archive = tool(&Request::Pack { directory: tree.clone() }).stdout;
    let denied = Some(libc::EACCES);

    let failure = failed(&with_input(&unpack(theirs.join("part"), None, false), &archive));
    assert_eq!((failure.kind, failure.errno), (FailureKind::System, denied));
    // Merged with a directory of root's: the tree's own directory could be made elsewhere.
    let failure = failed(&with_input(&unpack(place.at("part"), Some(theirs.clone()), true), &archive));
    assert_eq!((failure.errno, place.at("part").exists()), (denied, false));
    assert_eq!(fs::read(theirs.join("f")).unwrap(), b"root's");
    let failure = failed(&tool(&Request::Remove { path: theirs.clone(), aside: false }));
    assert_eq!(failure.errno, denied);
    assert_eq!(failure.path.0, theirs.join("f").into_os_string().into_encoded_bytes());
    // Its own directory's mode is no obstacle; what belongs to root stays, all else goes.
    let mixed = make(&place, "mixed");
    write(&make(&place, "mixed/own").join("f"), b"x");
    fs::create_dir(mixed.join("roots")).unwrap();
    fs::write(mixed.join("roots/f"), "x").unwrap();
    set_mode(&mixed.join("own"), 0o000);
    set_mode(&mixed, 0o000);
    let failure = failed(&tool(&Request::Remove { path: mixed.clone(), aside: false }));
    assert_eq!(failure.path.0, mixed.join("roots/f").into_os_string().into_encoded_bytes());
    assert!(!mixed.join("own").exists() && mixed.join("roots/f").exists());
    fs::remove_dir_all(mixed).unwrap();

    fs::write(tree.join("secret"), "x").unwrap();
    set_mode(&tree.join("secret"), 0o600);
    for request in [
        Request::Pack { directory: tree.clone() },
        Request::Digests { directory: tree.clone() },
        Request::Digest { path: tree.join("secret"), length: None },
    ] {
        let failure = failed(&tool(&request));
        assert_eq!((failure.errno, failure.path.0.ends_with(b"secret")), (denied, true), "{request:?}");
        assert!(failure.message.ends_with("can't be read: Permission denied"), "{}", failure.message);
    }
    // With a sticky bit above it, as in /tmp.
    set_mode(&theirs, 0o1777);
    let failure = failed(&tool(&Request::Remove { path: theirs.join("f"), aside: false }));
    assert_eq!(failure.errno, Some(libc::EPERM));
}

#[test]
fn a_stream_that_ends_too_early_leaves_nothing() {
    let place = Place::new("early");
    let tree = make(&place, "tree");
    write(&tree.join("large"), &vec![5; 5 << 20]);
    let mut packing = command(Request::Pack { directory: tree.clone() }.to_args()).spawn().unwrap();
    let mut beginning = vec![0; 1 << 20];
    packing.stdout.take().unwrap().read_exact(&mut beginning).unwrap();
    // Its reader is gone now.
    let failure = failed(&packing.wait_with_output().unwrap());
    assert_eq!((failure.kind, failure.errno), (FailureKind::Stream, Some(libc::EPIPE)));
    let failure = failed(&with_input(&unpack(place.at("part"), None, false), &beginning));
    assert_eq!((failure.kind, place.at("part").exists()), (FailureKind::Stream, false));
    assert!(failure.message.contains("in the middle of a file"), "{}", failure.message);
    let failure = failed(&command(["eat".into()]).output().unwrap());
    assert_eq!(failure.kind, FailureKind::Usage);
    done(&tool(&Request::Remove { path: place.at("none"), aside: true }));
}
