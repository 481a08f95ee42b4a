//! The engines against each other, against GNU's tar, and against archives that lie.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs as std_fs, thread};

use rustix::fs::{AtFlags, Timespec, Timestamps, mkfifoat, utimensat};
use sandbox_protocol::tar::{Entry, Kind, Reader, Time, Writer};

use super::*;
use crate::mutation::Mutator;

/// A directory of a test's own, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let place = std::env::temp_dir().join(format!("sandbox-guest-tree-{test}-{}", std::process::id()));
        if place.exists() {
            remove(&place).unwrap();
        }
        std_fs::create_dir_all(&place).unwrap();
        Self(place)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = remove(&self.0);
    }
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(fs::CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A tree with one of everything that is moved.
fn grow(root: &Path) {
    std_fs::create_dir_all(root.join("d/e/f")).unwrap();
    std_fs::create_dir(root.join("empty")).unwrap();
    let long = format!("d/{}/{}", "n".repeat(200), "m".repeat(200));
    std_fs::create_dir(root.join(Path::new(&long).parent().unwrap())).unwrap();
    let odd = Path::new(OsStr::from_bytes(b"d/odd \xff\n'name"));
    for (path, contents, mode) in [
        (Path::new("plain"), vec![7; 300_000], 0o644),
        (Path::new("d/program"), b"#!/bin/sh\n".to_vec(), 0o4755),
        (Path::new("d/e/secret"), b"secret".to_vec(), 0o600),
        (Path::new("d/e/f/nothing"), Vec::new(), 0o444),
        (Path::new(&long), b"long".to_vec(), 0o640),
        (odd, b"odd".to_vec(), 0o644),
    ] {
        std_fs::write(root.join(path), contents).unwrap();
        std_fs::set_permissions(root.join(path), std_fs::Permissions::from_mode(mode)).unwrap();
    }
    let sparse = std_fs::File::create(root.join("sparse")).unwrap();
    for offset in [0, 5 << 20, 40 << 20] {
        sparse.write_all_at(&[9; 10_000], offset).unwrap();
    }
    sparse.set_len(50 << 20).unwrap();
    std_fs::File::create(root.join("d/hole")).unwrap().set_len(1 << 20).unwrap();
    symlink("plain", root.join("link")).unwrap();
    symlink("../../nowhere/at/all", root.join("d/broken")).unwrap();
    symlink("t".repeat(300), root.join("long link")).unwrap();
    for name in ["hard", "d/hard"] {
        std_fs::hard_link(root.join("plain"), root.join(name)).unwrap();
    }
    set_time(&root.join("d/program"), 1_234_567_890, 123_456_789);
    set_time(&root.join("d/e/secret"), -5, 999_999_999);
    set_time(&root.join("link"), 7, 8);
    std_fs::set_permissions(root.join("d/e"), std_fs::Permissions::from_mode(0o550)).unwrap();
    for name in ["empty", "d/e", "d"] {
        set_time(&root.join(name), 1_000_000_000, 5);
    }
    set_time(root, 1_000_000_001, 6);
}

/// Mode, time, contents or target, and how many blocks.
type Seen = BTreeMap<Vec<u8>, (u32, (i64, i64), Vec<u8>)>;

/// All that a tree is, by name.
fn seen(root: &Path) -> Seen {
    let (mut seen, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        let found = std_fs::metadata(&directory).unwrap();
        let name = |path: &Path| path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        seen.insert(name(&directory), (found.mode(), (found.mtime(), found.mtime_nsec()), Vec::new()));
        for entry in std_fs::read_dir(directory).unwrap() {
            let (path, found) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
            let contents = match found.file_type() {
                kind if kind.is_symlink() => std_fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                kind if kind.is_dir() => {
                    open.push(path.clone());
                    continue;
                }
                _ => std_fs::read(&path).unwrap(),
            };
            seen.insert(name(&path), (found.mode(), (found.mtime(), found.mtime_nsec()), contents));
        }
    }
    seen
}

fn packed(root: &Path) -> (Vec<u8>, Report) {
    let (mut archive, mut report) = (Vec::new(), Report::default());
    pack(root, &mut archive, &mut report).unwrap();
    (archive, report)
}

fn unpacked(archive: &[u8], part: &Path) -> (Result<(), TreeError>, Report) {
    let mut report = Report::default();
    let done = unpack(archive, part, Limits::default(), None, &mut report);
    (done, report)
}

#[test]
fn a_tree_is_the_same_after_its_way_through_an_archive() {
    let place = Place::new("same");
    let (tree, again) = (place.at("tree"), place.at("again"));
    grow(&tree);
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    mkfifoat(fs::CWD, tree.join("pipe"), Mode::RUSR).unwrap();
    set_time(&tree, 1_000_000_001, 6);
    let (archive, sent) = packed(&tree);
    assert_eq!((sent.files, sent.directories, sent.symlinks, sent.skipped), (10, 6, 3, 2));
    let notes: BTreeMap<_, _> = sent.notes.iter().map(|note| (&note.path.0[..], &note.text[..])).collect();
    assert_eq!(notes, BTreeMap::from([(&b"socket"[..], "a socket"), (b"pipe", "a named pipe")]));
    assert!(archive.len() < 500_000, "{} bytes with holes", archive.len());
    assert_eq!(sent.bytes, 300_000 + 10 + 6 + 4 + 3 + (50 << 20) + (1 << 20));

    let (mut sums, mut report) = (Vec::new(), Report::default());
    unpack(&archive[..], &again, Limits::default(), Some(&mut sums), &mut report).unwrap();
    assert_eq!((report.files, report.directories, report.symlinks, report.skipped), (10, 6, 3, 0));
    assert_eq!(report.bytes, sent.bytes);
    for name in ["socket", "pipe"] {
        std_fs::remove_file(tree.join(name)).unwrap();
    }
    set_time(&tree, 1_000_000_001, 6);
    let (before, after) = (seen(&tree), seen(&again));
    assert_eq!(before.len(), 19);
    for (name, what) in &before {
        assert!(after.get(name) == Some(what), "{}", name.escape_ascii());
    }
    assert_eq!(before.len(), after.len());
    let found = |name: &str| std_fs::metadata(again.join(name)).unwrap();
    assert_eq!((found("plain").ino(), found("plain").nlink()), (found("d/hard").ino(), 3));
    assert!(found("sparse").blocks() < 200 && found("d/hole").blocks() < 8, "{}", found("sparse").blocks());

    // Three ways to the same sums, but that of a second name, which has no contents of its own.
    let lines = |sums: &[u8]| -> BTreeMap<Vec<u8>, [u8; 32]> {
        let lines = sums.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let digests = lines.map(|line| serde_json::from_slice::<sandbox_protocol::tree::Digest>(line).unwrap());
        digests.map(|digest| (digest.path.0.clone(), digest.bytes().unwrap())).collect()
    };
    let (mut listed, mut report) = (Vec::new(), Report::default());
    digest_tree(&again, &mut listed, &mut report).unwrap();
    let (arrived, listed) = (lines(&sums), lines(&listed));
    assert_eq!((arrived.len(), listed.len(), report.files, report.bytes), (8, 10, 10, sent.bytes + 600_000));
    assert!(arrived.iter().all(|(name, sum)| listed[name] == *sum));
    let mut one = Vec::new();
    digest_file(&tree.join("sparse"), None, &mut one, &mut Report::default()).unwrap();
    assert_eq!(lines(&one).into_values().next(), Some(listed[&b"sparse"[..]]));
    let of = |bytes: &[u8]| ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().to_vec();
    assert_eq!(listed[&b"d/e/secret"[..]].to_vec(), of(b"secret"));
}

#[test]
fn digests_are_of_files_and_of_their_beginnings() {
    let place = Place::new("digest");
    std_fs::write(place.at("a"), vec![3; 1_000_000]).unwrap();
    let sum = |path: PathBuf, length| {
        let (mut line, mut report) = (Vec::new(), Report::default());
        digest_file(&path, length, &mut line, &mut report).map(|()| {
            let digest: sandbox_protocol::tree::Digest = serde_json::from_slice(&line).unwrap();
            assert_eq!(digest.path.0, path.as_os_str().as_bytes());
            (digest.size, digest.bytes().unwrap())
        })
    };
    let of = |length: usize| {
        let sum = ring::digest::digest(&ring::digest::SHA256, &vec![3; length]);
        (length as u64, <[u8; 32]>::try_from(sum.as_ref()).unwrap())
    };
    for (length, expected) in
        [(None, of(1_000_000)), (Some(5), of(5)), (Some(0), of(0)), (Some(1 << 40), of(1_000_000))]
    {
        assert_eq!(sum(place.at("a"), length), Ok(expected), "{length:?}");
    }
    mkfifoat(fs::CWD, place.at("pipe"), Mode::RUSR).unwrap();
    assert_eq!(sum(place.at("none"), None).unwrap_err().errno, Some(Errno::NOENT));
    assert_eq!(sum(place.0.clone(), None).unwrap_err().errno, Some(Errno::ISDIR));
    assert_eq!(sum(place.at("pipe"), None).unwrap_err().kind, FailureKind::Refused);
    assert_eq!(sum("/dev/zero".into(), None).unwrap_err().kind, FailureKind::Refused);
}

#[test]
fn tar_itself_understands_and_is_understood() {
    if Command::new("tar").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no tar");
        return;
    }
    let place = Place::new("tar");
    let (tree, by_tar) = (place.at("tree"), place.at("by-tar"));
    grow(&tree);
    std_fs::create_dir(&by_tar).unwrap();
    std_fs::write(place.at("archive"), packed(&tree).0).unwrap();
    let tar = |line: &str| {
        let line = format!("cd \"$1\" && {line}");
        let run = Command::new("sh").args(["-c", &line, "sh"]).arg(&place.0).output().unwrap();
        assert!(run.status.success(), "{line}: {}", String::from_utf8_lossy(&run.stderr));
        run.stdout
    };
    tar("cat archive | tar -xpf - -C by-tar");
    let (mut before, after) = (seen(&tree), seen(&by_tar));
    for (name, (mode, (seconds, _), contents)) in &before {
        let theirs = &after[name];
        assert!((mode, *seconds, contents) == (&theirs.0, theirs.1.0, &theirs.2), "{}", name.escape_ascii());
    }
    assert!(std_fs::metadata(by_tar.join("sparse")).unwrap().blocks() < 200);

    for format in ["gnu", "posix", "posix -S", "oldgnu"] {
        let part = place.at(&format!("from {format}"));
        let (done, report) = unpacked(&tar(&format!("tar -c --format={format} -f - -C tree .")), &part);
        done.unwrap();
        assert_eq!((report.files, report.directories, report.symlinks, report.skipped), (10, 6, 3, 0), "{format}");
        let after = seen(&part);
        if !format.starts_with("posix") {
            before.values_mut().for_each(|what| what.1.1 = 0);
        }
        for (name, what) in &before {
            let mut theirs = after[name].clone();
            // Whole seconds only.
            theirs.1.1 = if format.starts_with("posix") { theirs.1.1 } else { 0 };
            let same = theirs == *what || (format == "oldgnu" && what.1.0 < 0);
            assert!(same, "{format}: {}", name.escape_ascii());
        }
        before = seen(&tree);
    }
}

fn entry(path: &str, kind: Kind, link: &str) -> Entry {
    let (path, link) = (path.as_bytes().to_vec(), link.as_bytes().to_vec());
    let modified = Time { seconds: 1_000_000_000, nanoseconds: 7 };
    Entry { path, kind, mode: 0o4755, size: 0, modified, link, segments: None }
}

/// An archive of these entries, of which the files have their own names as contents.
fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let is_file = entry.kind == Kind::File;
        let size = if is_file { entry.path.len() as u64 } else { 0 };
        writer.begin(&Entry { size, ..entry.clone() }).unwrap();
        writer.write(if is_file { &entry.path } else { b"" }).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn an_honest_archive_is_written_with_modes_times_and_links() {
    let place = Place::new("honest");
    let entries = [
        Entry { mode: 0o710, ..entry("./", Kind::Directory, "") },
        Entry { mode: 0o500, ..entry("./d/", Kind::Directory, "") },
        entry("./d/file", Kind::File, ""),
        entry("./d/link", Kind::SymbolicLink, "../top"),
        entry("./d/hard", Kind::HardLink, "./d/file"),
        entry("./d/same", Kind::HardLink, "d/link"),
        entry("./no/parent/yet", Kind::File, ""),
        Entry { mode: 0o640, ..entry("./top", Kind::File, "") },
        Entry { mode: 0o600, ..entry("./top", Kind::File, "") },
        entry("./device", Kind::Device, ""),
        entry("./pipe", Kind::Pipe, ""),
        entry("./sparse", Kind::Unknown(b'S'), ""),
        entry("./out", Kind::SymbolicLink, "/etc/passwd"),
        entry("./lost", Kind::HardLink, "device"),
    ];
    let root = place.at("root");
    let (result, report) = unpacked(&archive(&entries), &root);
    result.unwrap();
    assert_eq!((report.files, report.directories, report.symlinks, report.skipped), (5, 2, 3, 4));
    let texts: Vec<_> = report.notes.iter().map(|note| (&note.path.0[..], &note.text[..])).collect();
    assert_eq!(texts[0], (&b"device"[..], "a device"));
    assert_eq!(texts[2], (&b"sparse"[..], "of the unknown type 83"));
    assert_eq!(texts[3], (&b"lost"[..], "another name of what is left out"));
    let found = |name: &str| std_fs::symlink_metadata(root.join(name)).unwrap();
    let mode = |name: &str| found(name).mode() & 0o7777;
    assert_eq!((mode("d"), mode("d/file"), mode("top"), mode("")), (0o500, 0o4755, 0o600, 0o710));
    for name in ["", "d", "d/file", "d/link"] {
        assert_eq!((found(name).mtime(), found(name).mtime_nsec()), (1_000_000_000, 7), "{name}");
    }
    assert_eq!(found("d/file").ino(), found("d/hard").ino());
    for (name, target) in [("d/link", "../top"), ("d/same", "../top"), ("out", "/etc/passwd")] {
        assert_eq!(std_fs::read_link(root.join(name)).unwrap(), Path::new(target));
    }
}

#[test]
fn a_hostile_archive_is_refused_and_writes_nothing_outside() {
    let link = |name: &str, target: &str| entry(name, Kind::SymbolicLink, target);
    let file = |name: &str| entry(name, Kind::File, "");
    let directory = |name: &str| entry(name, Kind::Directory, "");
    let hard = |name: &str, original: &str| entry(name, Kind::HardLink, original);
    for (test, entries, said) in [
        ("above", vec![file("../x")], "'..'"),
        ("above2", vec![file("a/../../x")], "'..'"),
        ("absolute", vec![file("/tmp/sandbox-guest-hostile")], "absolute"),
        ("through", vec![link("l", ".."), file("l/x")], "in the way"),
        ("through-dir", vec![link("l", ".."), directory("l/")], "in the way"),
        ("through-deep", vec![directory("d/"), link("d/l", "/"), file("d/l/tmp/sandbox-guest-hostile")], "in the way"),
        ("through-hard", vec![link("l", "."), file("f"), hard("x", "l/f")], "in the way"),
        ("hard-above", vec![hard("x", "../outside")], "'..'"),
        ("hard-absolute", vec![hard("x", "/etc/passwd")], "absolute"),
        ("hard-dir", vec![directory("d/"), hard("x", "d")], "no file"),
        ("below-file", vec![file("f"), file("f/x")], "in the way"),
        ("over-dir", vec![directory("d/"), file("d")], "'d' can't be written"),
        ("root", vec![link(".", "/etc")], "the root"),
        ("empty-link", vec![link("l", "")], "a link to nothing"),
        ("long", vec![file(&"x".repeat(300))], "too long"),
        ("deep", vec![file(&"d/".repeat(300))], "more than 256"),
    ] {
        let place = Place::new(test);
        std_fs::write(place.at("outside"), "old").unwrap();
        let error = unpacked(&archive(&entries), &place.at("root")).0.unwrap_err();
        assert!(error.message.contains(said), "{test}: {error}");
        assert_eq!(std_fs::read(place.at("outside")).unwrap(), b"old", "{test}");
        // What had arrived is gone.
        assert_eq!(std_fs::read_dir(&place.0).unwrap().count(), 1, "{test}");
    }
    assert!(!Path::new("/tmp/sandbox-guest-hostile").exists());
}

#[test]
fn changed_archives_write_nowhere_else() {
    let place = Place::new("changed");
    let (tree, part) = (place.at("tree"), place.at("part"));
    std_fs::create_dir_all(tree.join("directory")).unwrap();
    std_fs::write(tree.join("directory/file"), b"contents").unwrap();
    std_fs::write(tree.join("f".repeat(120)), vec![7; 600]).unwrap();
    symlink("directory/file", tree.join("link")).unwrap();
    let holes = std_fs::File::create(tree.join("holes")).unwrap();
    holes.write_all_at(b"data", 1 << 20).unwrap();
    let (archive, _) = packed(&tree);
    remove(&tree).unwrap();
    let mut mutator = Mutator::new(0x2545_f491_4f6c_dd1d);
    let mut done = 0;
    for _ in 0..3_000 {
        let changed = mutator.change(std::slice::from_ref(&archive));
        // Bounded, since a changed size could say anything.
        let limits = Limits { bytes: 4 << 20, entries: 100 };
        match unpack(&changed[..], &part, limits, None, &mut Report::default()) {
            Ok(()) => {
                done += 1;
                remove(&part).unwrap();
            }
            Err(_) => assert!(!part.exists()),
        }
        assert_eq!(std_fs::read_dir(&place.0).unwrap().count(), 0, "{}", changed.escape_ascii());
    }
    // Otherwise the changes would not get far.
    assert!(done > 100, "{done}");
}

#[test]
fn what_is_cut_off_spoiled_or_too_much_leaves_nothing() {
    let place = Place::new("cut");
    let (tree, part) = (place.at("tree"), place.at("part"));
    grow(&tree);
    let (archive, sent) = packed(&tree);
    for length in [0, 1, 512, 700, 10_000, 100_000, archive.len() - 1025, archive.len() - 1] {
        let (result, _) = unpacked(&archive[..length], &part);
        assert_eq!(result.unwrap_err().kind, FailureKind::Stream, "{length}");
        assert!(!part.exists());
    }
    let error = unpacked(b"hello\n".repeat(1000).as_slice(), &part).0.unwrap_err();
    assert_eq!((error.kind, error.errno), (FailureKind::Refused, None));
    for (bytes, entries) in [(sent.bytes - 1, u64::MAX), (u64::MAX, 5)] {
        let error = unpack(&archive[..], &part, Limits { bytes, entries }, None, &mut Report::default()).unwrap_err();
        assert_eq!(error.kind, FailureKind::Limit, "{error}");
        assert!(!part.exists());
    }
    let limits = Limits { bytes: sent.bytes, entries: 19 };
    unpack(&archive[..], &part, limits, None, &mut Report::default()).unwrap();
    // It is not mixed with what is there, which stays.
    assert_eq!(unpacked(&archive, &part).0.unwrap_err().kind, FailureKind::Conflict);
    assert!(part.join("plain").exists());
    assert_eq!(unpacked(&archive, &place.at("no/such/part")).0.unwrap_err().errno, Some(Errno::NOENT));
    // An output that is closed.
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert_eq!(pack(&tree, Closed, &mut Report::default()).unwrap_err().kind, FailureKind::Stream);
    let error = pack(&place.at("none"), Vec::new(), &mut Report::default()).unwrap_err();
    assert_eq!((error.errno, &error.path[..]), (Some(Errno::NOENT), place.at("none").as_os_str().as_bytes()));
}

#[test]
fn others_who_change_the_tree_meanwhile_lead_nothing_outside() {
    let place = Place::new("race");
    let (part, outside) = (place.at("part"), place.at("outside"));
    std_fs::create_dir(&outside).unwrap();
    let mut entries = vec![entry("d/", Kind::Directory, "")];
    entries.extend((0..50).map(|number| entry(&format!("d/e{}/f{number}", number % 5), Kind::File, "")));
    let archive = archive(&entries);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Puts a link in the place of a directory and takes it away again.
            while !is_over.load(Ordering::Relaxed) {
                for name in ["d", "d/e1", "d/e3"] {
                    let (path, aside) = (part.join(name), part.join("aside"));
                    if std_fs::rename(&path, &aside).is_ok() {
                        let _ = symlink(&outside, &path);
                        thread::yield_now();
                        let _ = std_fs::remove_file(&path);
                        let _ = std_fs::rename(&aside, &path);
                    }
                }
            }
        });
        let mut ends = [0, 0];
        for _ in 0..300 {
            let (result, _) = unpacked(&archive, &part);
            ends[usize::from(result.is_ok())] += 1;
            while part.exists() {
                let _ = remove(&part);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        println!("{} refused, {} unpacked", ends[0], ends[1]);
    });
    assert_eq!(std_fs::read_dir(&outside).unwrap().count(), 0);
    assert!(outside.is_dir());
}

#[test]
fn a_tree_gets_its_place_or_what_is_in_the_way_stays() {
    let place = Place::new("place");
    let (part, target) = (place.at("part"), place.at("target"));
    let entries = [Entry { mode: 0o500, ..entry("./", Kind::Directory, "") }, entry("f", Kind::File, "")];
    let fresh = || {
        let _ = remove(&part);
        unpacked(&archive(&entries), &part).0.unwrap();
    };
    fresh();
    place_in(&part, &target, false).unwrap();
    assert_eq!((std_fs::read(target.join("f")).unwrap(), part.exists()), (b"f".to_vec(), false));
    assert_eq!(std_fs::metadata(&target).unwrap().mode() & 0o777, 0o500);
    // Full, a file, nowhere.
    fresh();
    let error = place_in(&part, &target, false).unwrap_err();
    assert_eq!((error.kind, error.errno), (FailureKind::Conflict, Some(Errno::NOTEMPTY)));
    std_fs::write(place.at("file"), "x").unwrap();
    assert_eq!(place_in(&part, &place.at("file"), false).unwrap_err().kind, FailureKind::Conflict);
    assert_eq!(place_in(&part, &place.at("file"), true).unwrap_err().kind, FailureKind::Conflict);
    assert_eq!(place_in(&part, &place.at("no/where"), false).unwrap_err().errno, Some(Errno::NOENT));
    std_fs::create_dir(place.at("empty")).unwrap();
    place_in(&part, &place.at("empty"), false).unwrap();
    // `put` removes what has no place.
    fresh();
    assert!(put(&part, &place.at("file"), false, false).is_err() && !part.exists());
}

use super::place as place_in;

#[test]
fn a_merge_replaces_files_and_follows_no_links() {
    let place = Place::new("merge");
    let (part, target, outside) = (place.at("part"), place.at("target"), place.at("outside"));
    std_fs::create_dir_all(target.join("d/kept")).unwrap();
    std_fs::create_dir(&outside).unwrap();
    std_fs::write(target.join("d/f"), "old").unwrap();
    symlink(outside.join("x"), target.join("g")).unwrap();
    let entries = [
        Entry { mode: 0o500, ..entry("d/", Kind::Directory, "") },
        entry("d/f", Kind::File, ""),
        Entry { mode: 0o500, ..entry("d/new/", Kind::Directory, "") },
        entry("d/new/x", Kind::File, ""),
        entry("g", Kind::File, ""),
        Entry { mode: 0o700, ..entry("./", Kind::Directory, "") },
    ];
    unpacked(&archive(&entries), &part).0.unwrap();
    place_in(&part, &target, true).unwrap();
    assert!(!part.exists());
    assert_eq!(std_fs::read(target.join("d/f")).unwrap(), b"d/f");
    assert_eq!(std_fs::read(target.join("g")).unwrap(), b"g");
    assert!(target.join("d/kept").is_dir() && target.join("d/new/x").is_file() && !outside.join("x").exists());
    for (name, mode) in [("", 0o700), ("d", 0o500), ("d/new", 0o500)] {
        let found = std_fs::metadata(target.join(name)).unwrap();
        assert_eq!((found.mode() & 0o777, found.mtime(), found.mtime_nsec()), (mode, 1_000_000_000, 7), "{name}");
    }

    // More names than are in memory at once.
    let many: Vec<_> = (0..3000).map(|number| entry(&number.to_string(), Kind::File, "")).collect();
    unpacked(&archive(&many), &part).0.unwrap();
    place_in(&part, &target, true).unwrap();
    assert_eq!((std_fs::read_dir(&target).unwrap().count(), part.exists()), (3002, false));

    // Each way around; what is in the way is named.
    for (name, entries) in [
        ("d", vec![entry("d", Kind::File, "")]),
        ("g", vec![entry("g/x", Kind::File, "")]),
        ("d/f", vec![entry("d/f/x", Kind::File, "")]),
        ("link", vec![entry("link/x", Kind::File, "")]),
    ] {
        let _ = symlink(&outside, target.join("link"));
        let _ = remove(&part);
        unpacked(&archive(&entries), &part).0.unwrap();
        let error = place_in(&part, &target, true).unwrap_err();
        assert_eq!(error.kind, FailureKind::Conflict, "{error}");
        assert_eq!(error.path, target.join(name).as_os_str().as_bytes(), "{error}");
    }
    assert_eq!(std_fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn everything_is_removed_and_links_are_not_followed() {
    let place = Place::new("remove");
    let (tree, kept) = (place.at("tree"), place.at("kept"));
    grow(&tree);
    std_fs::create_dir(&kept).unwrap();
    std_fs::write(kept.join("f"), "x").unwrap();
    symlink(&kept, tree.join("d/to-kept")).unwrap();
    symlink(&kept, place.at("link")).unwrap();
    mkfifoat(fs::CWD, tree.join("pipe"), Mode::RUSR).unwrap();
    // Deeper than descriptors, the stack or a path could go: from the inside to the outside.
    let deep = place.at("deep");
    std_fs::create_dir(&deep).unwrap();
    for number in 0..3000 {
        let outer = place.at("outer");
        std_fs::create_dir(&outer).unwrap();
        std_fs::write(outer.join("f"), "").unwrap();
        std_fs::rename(&deep, outer.join(format!("d{number}"))).unwrap();
        std_fs::rename(&outer, &deep).unwrap();
    }
    std_fs::rename(&deep, tree.join("deep")).unwrap();
    remove(&tree).unwrap();
    remove(&place.at("link")).unwrap();
    assert_eq!(std_fs::read(kept.join("f")).unwrap(), b"x");
    assert_eq!(std_fs::read_dir(&place.0).unwrap().count(), 1);
    assert_eq!(remove(&tree).unwrap_err().errno, Some(Errno::NOENT));
    remove(&kept.join("f")).unwrap();

    // Whatever was left there before.
    remove_aside(&tree).unwrap();
    for _ in 0..2 {
        std_fs::create_dir_all(place.at("tree.gone/old")).unwrap();
        std_fs::create_dir_all(tree.join("new")).unwrap();
        remove_aside(&tree).unwrap();
        assert_eq!(std_fs::read_dir(&place.0).unwrap().count(), 1);
    }
    // What was interrupted when it had its other name already.
    std_fs::create_dir_all(place.at("tree.gone/old")).unwrap();
    remove_aside(&tree).unwrap();
    assert!(!place.at("tree.gone").exists());
}

#[test]
fn what_changes_while_it_is_packed_is_told() {
    struct Changing<'c> {
        written: u64,
        change: &'c dyn Fn(u64),
    }
    impl Write for Changing<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written += bytes.len() as u64;
            (self.change)(self.written);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let place = Place::new("changes");
    let file = place.at("tree/file");
    std_fs::create_dir(place.at("tree")).unwrap();
    let pack_while = |change: &dyn Fn(u64)| {
        std_fs::write(&file, vec![1; 1 << 20]).unwrap();
        let mut report = Report::default();
        pack(&place.at("tree"), Changing { written: 0, change }, &mut report).map(|()| report)
    };
    let report = pack_while(&|written| {
        if written > 400_000 {
            std_fs::OpenOptions::new().append(true).open(&file).unwrap().write_all(b"more").unwrap();
        }
    })
    .unwrap();
    assert_eq!((report.bytes, report.skipped), (1 << 20, 0));
    assert_eq!((&report.notes[0].path.0[..], &report.notes[0].text[..]), (&b"file"[..], "changed while it was read"));
    let error = pack_while(&|written| {
        if written > 400_000 {
            std_fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(1000).unwrap();
        }
    })
    .unwrap_err();
    assert_eq!((error.kind, &error.path[..]), (FailureKind::Changed, &b"file"[..]));
    // The root's own header is written before the rest is looked at.
    let report = pack_while(&|_| {
        let _ = std_fs::remove_file(&file);
    })
    .unwrap();
    assert_eq!((report.files, report.bytes), (0, 0));
}

#[test]
fn a_file_of_thousands_of_parts_is_moved() {
    let place = Place::new("parts");
    std_fs::create_dir(place.at("tree")).unwrap();
    let file = std_fs::File::create(place.at("tree/file")).unwrap();
    for number in 0..17_000 {
        file.write_all_at(b"x", number * 8192).unwrap();
    }
    let (archive, _) = packed(&place.at("tree"));
    let mut reader = Reader::new(&archive[..]);
    reader.next().unwrap();
    let segments = reader.next().unwrap().unwrap().segments;
    // Where the file system keeps no such holes there is one part.
    assert!(segments.is_none_or(|segments| segments.len() <= sandbox_protocol::tar::MOST_SEGMENTS));
    unpacked(&archive, &place.at("again")).0.unwrap();
    assert!(std_fs::read(place.at("again/file")).unwrap() == std_fs::read(place.at("tree/file")).unwrap());
}
