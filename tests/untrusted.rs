//! What code in a sandbox may prepare for whoever downloads: trees that lead elsewhere, and trees, files and listings
//! without end. What a guest may send that lies itself is in `hostile.rs` and in the tests of `src/files/tree`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use common::{Scratch, client, create};
use parking_lot::Mutex;
use sandbox::{ErrorKind, Transfer};

/// Memory is measured of the whole process, so it has one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_hostile_tree_writes_nothing_outside_of_the_target() {
    let _alone = ALONE.lock();
    let client = client();
    let (sandbox, scratch) = (create(&client), Scratch::new());
    fs::write(scratch.path("outside"), "old").unwrap();
    let line = "mkdir -p t/d && cd t && ln -s ../outside up && ln -s ../../outside d/up && ln -s /etc/passwd absolute && \
                ln -s / root && ln -s d/../.. out && ln -s self self && mkfifo pipe && echo x > good && chmod 4777 good && \
                ln good d/hard && ln -s ../good d/inside && python3 -c '\
                import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'";
    sandbox.execute(line).unwrap().check().unwrap();
    let report = sandbox.files().download_dir("t", scratch.path("new")).unwrap();
    let left_out: Vec<_> = report.notes.iter().map(|note| note.path.to_str().unwrap().to_owned()).collect();
    for name in ["up", "d/up", "absolute", "root", "out", "pipe", "socket"] {
        assert!(left_out.iter().any(|one| one == name), "{name}: {left_out:?}");
        assert!(fs::symlink_metadata(scratch.path("new").join(name)).is_err(), "{name}");
    }
    let good = fs::metadata(scratch.path("new/good")).unwrap();
    assert_eq!((good.mode() & 0o7000, good.nlink(), report.files), (0, 2, 2));
    assert_eq!(fs::read_link(scratch.path("new/d/inside")).unwrap(), Path::new("../good"));
    // What an earlier download has left is not followed where it leads.
    std::os::unix::fs::symlink("../outside", scratch.path("new/second")).unwrap();
    sandbox.execute("echo hostile > t/second").unwrap();
    sandbox.files().download_dir("t", scratch.path("new")).unwrap();
    assert_eq!(fs::read(scratch.path("new/second")).unwrap(), b"hostile\n");
    assert_eq!(fs::read(scratch.path("outside")).unwrap(), b"old");
    let mut names = scratch.names();
    names.sort();
    assert_eq!(names, ["new", "outside"]);
}

/// By how many KiB the memory of this process grows while `run` runs.
fn growth(run: impl FnOnce()) -> u64 {
    let read = |name: &str| {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    // Forgets the peak.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = read("VmRSS:");
    run();
    read("VmHWM:") - before
}

#[test]
fn what_has_no_end_fills_no_memory_and_ends_at_a_limit() {
    let _alone = ALONE.lock();
    let client = client();
    let (sandbox, scratch) = (create(&client), Scratch::new());
    let files = sandbox.files();
    let download = |from: &str, change: fn(Transfer<'_>) -> Transfer<'_>| {
        let began = Instant::now();
        let error = change(files.transfer()).download_dir(from, scratch.path("limited")).unwrap_err();
        println!("{error} after {:?}", began.elapsed());
        assert_eq!(error.kind(), ErrorKind::Transfer, "{error}");
        error.to_string()
    };
    // Entries that need no disk.
    let program = "import os\nos.mkdir('many')\nfor n in range(50000): os.mkfifo('many/p%d' % n)";
    sandbox.command("python3").args(["-c", program]).output().unwrap().check().unwrap();
    let more = growth(|| {
        let report = files.download_dir("many", scratch.path("new")).unwrap();
        assert_eq!((report.skipped, report.notes.len()), (50_000, 1000));
    });
    assert!(more < 30_000, "{more} KiB more");
    let program = "import os\nos.mkdir('links')\nfor n in range(30000): os.symlink('x', 'links/l%d' % n)";
    sandbox.command("python3").args(["-c", program]).output().unwrap().check().unwrap();
    let more = growth(|| {
        let said = download("links", |transfer| transfer.max_entries(20_000));
        assert!(said.contains("more than the 20000 entries that are allowed"), "{said}");
    });
    assert!(more < 30_000, "{more} KiB more");
    // Files that need none either.
    sandbox.execute("mkdir large; truncate -s 1T large/sparse; yes | head -c 100m > large/full").unwrap();
    let more = growth(|| {
        let said = download("large", |transfer| transfer.max_bytes(50 << 20));
        assert!(said.contains("bytes that are allowed"), "{said}");
    });
    assert!(more < 30_000, "{more} KiB more");
    assert_eq!(scratch.names(), ["new"]);
    for file in ["large/sparse", "large/full"] {
        let error = files.transfer().max_bytes(1000).download(file, scratch.path("limited")).unwrap_err();
        assert!(error.kind() == ErrorKind::Transfer && error.to_string().contains("bytes that are allowed"), "{error}");
    }
}
