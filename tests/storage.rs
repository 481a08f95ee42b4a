//! Disks that are full, over a quota, read-only or broken, in the sandbox and here: the error has its kind and names
//! the file, the old file is as it was, and nothing is left.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{Scratch, Tracer, await_that, beside, client, create, create_from, traced};
use sandbox::{Error, ErrorKind, Files, OpenOptions, OutputStream, SandboxSpec, TreeReport};

fn expect(path: &str, said: &str, kind: ErrorKind, result: Result<(), Error>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(path) && error.to_string().contains(said), "{error}");
}

#[test]
fn a_disk_that_fails_in_the_sandbox() {
    use ErrorKind::{ReadOnly, StorageFull, Transfer};
    type Run = fn(Files<'_>, &str, &Path) -> Result<(), Error>;
    let (client, scratch) = (client(), Scratch::new());
    let sandbox = create(&client);
    let tracer = Tracer::of(&sandbox);
    let files = sandbox.files();
    std::fs::create_dir(scratch.path("tree")).unwrap();
    std::fs::write(scratch.path("tree/file"), vec![1; 100_000]).unwrap();
    let write: Run = |files, to, _| files.write(format!("{to}/file"), "new");
    let upload: Run =
        |files, to, tree| files.transfer().sync(true).upload(tree.join("file"), format!("{to}/file")).map(drop);
    let append: Run = |files, to, _| files.append(format!("{to}/file"), "new");
    let close: Run = |files, to, _| files.open_with(format!("{to}/file"), OpenOptions::new().write(true))?.close();
    let upload_dir: Run = |files, to, tree| files.upload_dir(tree, format!("{to}/new")).map(drop);
    let (full, quota, io) = ("No space left on device", "Disk quota exceeded", "");
    // EDQUOT, ENOSPC, EROFS and EIO.
    for (number, (faults, said, kind, runs)) in [
        ("fail-write-122", quota, StorageFull, &[write, upload, append, upload_dir][..]),
        ("fail-mkdir-28", full, StorageFull, &[upload_dir]),
        ("fail-mkdir-30", "Read-only file system", ReadOnly, &[upload_dir]),
        ("fail-write-5", io, Transfer, &[write, upload, append, upload_dir]),
        ("fail-close-5", io, Transfer, &[write, upload, close, upload_dir]),
        ("fail-fsync-5", io, Transfer, &[upload]),
    ]
    .into_iter()
    .enumerate()
    {
        let to = format!("/tmp/{number}/{faults}");
        sandbox.execute(format!("mkdir /tmp/{number}; echo old > /tmp/{number}/file")).unwrap().check().unwrap();
        // Not by one of the processes that are traced: they fail.
        beside(&sandbox, &format!("cd /tmp/{number}; mkdir -p {to}; mv file {to}/"));
        for run in runs {
            expect(&to, said, kind, run(files, &to, &scratch.path("tree")));
            let found = beside(&sandbox, &format!("cd {to}; ls -A; cat file"));
            assert_eq!(found, "file\nold\n", "{faults}");
        }
    }
    drop(tracer);
}

/// As a disk for cameras has it.
const BARE: &str = "fail-fchmod-1/fail-chmod-1/fail-symlink-1/fail-linkat-1";

/// What a tree has to say that was copied to such a disk, which holds its file and its directory only.
fn says_what_is_lost(report: &TreeReport) {
    let notes: BTreeMap<_, _> = report.notes.iter().map(|note| (note.path.to_str().unwrap(), &*note.text)).collect();
    assert_eq!((report.files, report.directories, report.symlinks), (1, 2, 0));
    assert!(notes["d/link"].contains("can't hold"), "{notes:?}");
    assert!(notes.values().any(|text| text.contains("mode")), "{notes:?}");
}

#[test]
fn a_disk_without_modes_and_links_in_the_sandbox() {
    let (client, scratch) = (client(), Scratch::new());
    let sandbox = create(&client);
    let tracer = Tracer::of(&sandbox);
    let files = sandbox.files();
    std::fs::create_dir_all(scratch.path("tree/d")).unwrap();
    std::fs::write(scratch.path("tree/d/file"), "new").unwrap();
    std::fs::set_permissions(scratch.path("tree/d/file"), PermissionsExt::from_mode(0o775)).unwrap();
    std::os::unix::fs::symlink("file", scratch.path("tree/d/link")).unwrap();
    beside(&sandbox, &format!("mkdir -p /tmp/{BARE}; cd /tmp/{BARE}; echo old > old"));
    let at = |name: &str| format!("/tmp/{BARE}/{name}");
    files.write(at("old"), "new").unwrap();
    files.write(at("written"), "new").unwrap();
    files.upload(scratch.path("tree/d/file"), at("uploaded")).unwrap();
    files.transfer().resume(true).sync(true).upload(scratch.path("tree/d/file"), at("resumed")).unwrap();
    // As a new one, and merged with that.
    for _ in 0..2 {
        says_what_is_lost(&files.upload_dir(scratch.path("tree"), at("tree")).unwrap());
    }
    let found =
        beside(&sandbox, &format!("cd /tmp/{BARE}; ls -A . tree tree/d; cat old written uploaded resumed tree/d/file"));
    assert_eq!(found, ".:\nold\nresumed\ntree\nuploaded\nwritten\n\ntree:\nd\n\ntree/d:\nfile\nnewnewnewnewnew");
    drop(tracer);
}

/// Runs itself again, traced.
#[test]
fn a_disk_without_modes_and_links_here() {
    let scratch = Scratch::new();
    if !is_traced("a_disk_without_modes_and_links_here", &scratch) {
        return;
    }
    let client = client();
    let sandbox = create(&client);
    let prepare = "mkdir -p tree/d; cd tree/d; printf new > file; chmod 775 file; ln -s file link";
    sandbox.execute(prepare).unwrap().check().unwrap();
    let disk = scratch.path(BARE);
    std::fs::create_dir_all(&disk).unwrap();
    std::fs::write(disk.join("old"), "old").unwrap();
    let files = sandbox.files();
    files.download("tree/d/file", disk.join("old")).unwrap();
    files.download("tree/d/file", disk.join("downloaded")).unwrap();
    files.transfer().resume(true).sync(true).download("tree/d/file", disk.join("resumed")).unwrap();
    for _ in 0..2 {
        says_what_is_lost(&files.download_dir("tree", disk.join("tree")).unwrap());
    }
    for name in ["old", "downloaded", "resumed", "tree/d/file"] {
        assert_eq!(std::fs::read(disk.join(name)).unwrap(), b"new", "{name}");
    }
    assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 4);
}

/// What the guest has to remember, it has in its own memory.
#[test]
fn a_full_shared_memory_hinders_nothing() {
    let lifetime = Duration::from_secs(40);
    let old_end = Instant::now() + lifetime + Duration::from_secs(6);
    let sandbox = create_from(&client(), &SandboxSpec::new().lifetime(lifetime));
    let fill =
        "for size in 64k 1; do cat /dev/zero | dd obs=$size of=/dev/shm/full-$size; done; ! echo >> /dev/shm/full-1";
    sandbox.execute(fill).unwrap().check().unwrap();
    // Somebody takes at once what becomes free.
    let writer = sandbox.shell("while :; do cat /dev/zero >> /dev/shm/more; done 2> /dev/null").spawn().unwrap();
    for _ in 0..20 {
        let expiry = sandbox.renew(Duration::from_secs(900)).unwrap();
        assert_eq!(sandbox.info().unwrap().expires_at, Some(expiry));
    }
    let absent = || sandbox.command("no-such-program");
    let started = |command: sandbox::Command, key: &str| command.detach(key).map(|_| ()).unwrap_err();
    let elsewhere = sandbox.command("true").current_dir("/no/such/place");
    for (error, said) in [
        (absent().output().unwrap_err(), "there is no program 'no-such-program'"),
        (elsewhere.output().unwrap_err(), "there is no directory '/no/such/place'"),
        (sandbox.command("/etc/passwd").output().unwrap_err(), "can't be executed: Permission denied"),
        (started(absent(), "absent"), "there is no program 'no-such-program'"),
        (started(elsewhere.clone(), "elsewhere"), "there is no directory '/no/such/place'"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Command, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let detached = sandbox.shell("cat; echo said >&2; exit 3").stdin("its input").detach("full").unwrap();
    assert_eq!(detached.wait(Duration::from_secs(60)).unwrap().code(), Some(3));
    assert_eq!(detached.read(OutputStream::Stdout, 0, 100).unwrap(), b"its input");
    assert_eq!(detached.read(OutputStream::Stderr, 0, 100).unwrap(), b"said\n");
    await_that("the first expiry to pass", || Instant::now() > old_end);
    let output = sandbox.execute("echo alive").unwrap();
    assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"alive\n"[..], &b""[..]));
    writer.kill().unwrap();
}

/// A small file system of this machine, where it is mounted.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(at: std::path::PathBuf, options: &str) -> Self {
        std::fs::create_dir(&at).unwrap();
        let disk = Self(at);
        disk.run("mount", &["-t", "tmpfs", "-o", options, "tmpfs"]);
        disk
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        assert!(Command::new(program).args(arguments).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_or_read_only_here() {
    let (client, scratch) = (client(), Scratch::new());
    let sandbox = create(&client);
    let files = sandbox.files();
    let prepare = "mkdir big many; head -c 3000000 /dev/zero > big/file; cd many; seq 100 | xargs touch";
    sandbox.execute(prepare).unwrap().check().unwrap();
    let names = |disk: &Disk| std::fs::read_dir(&disk.0).unwrap().count();
    for (options, tree) in [("size=1m", "big"), ("nr_inodes=20", "many")] {
        let disk = Disk::mount(scratch.path(tree), options);
        let here = |name: &str| disk.0.join(name);
        std::fs::write(here("file"), "old").unwrap();
        let full = |result| expect(here("").to_str().unwrap(), "No space left", ErrorKind::StorageFull, result);
        full(files.download_dir(tree, here("new")).map(drop));
        full(files.download_dir(tree, &disk.0).map(drop));
        if tree == "big" {
            full(files.download("big/file", here("file")).map(drop));
            let resumed = files.transfer().resume(true).download("big/file", here("file"));
            full(resumed.map(drop));
            assert_eq!(names(&disk), 2);
            let mut found = std::fs::read_dir(&disk.0).unwrap().map(|entry| entry.unwrap().path());
            std::fs::remove_file(found.find(|path| !path.ends_with("file")).unwrap()).unwrap();
        }
        assert_eq!((std::fs::read(here("file")).unwrap(), names(&disk)), (b"old".to_vec(), 1));
        disk.run("mount", &["-o", "remount,ro"]);
        let denied = |result| {
            expect(here("").to_str().unwrap(), "Read-only file system", ErrorKind::ReadOnly, result);
        };
        denied(files.download("big/file", here("file")).map(drop));
        denied(files.download_dir(tree, here("new")).map(drop));
        disk.run("mount", &["-o", "remount,rw,size=100m,nr_inodes=1000"]);
        assert_eq!(files.download("big/file", here("file")).unwrap(), 3_000_000);
        files.download_dir(tree, here("new")).unwrap();
    }
}

/// Whether this process is traced; else this test runs again as one that is.
fn is_traced(test: &str, scratch: &Scratch) -> bool {
    const TRACED: &str = "SANDBOX_TEST_TRACED";
    if std::env::var_os(TRACED).is_some() {
        return true;
    }
    let mut again = traced(&std::env::current_exe().unwrap(), scratch);
    let output = again.args(["--exact", test, "--nocapture"]).env(TRACED, "yes").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    false
}

/// Runs itself again, traced.
#[test]
fn a_disk_that_fails_here() {
    let scratch = Scratch::new();
    if !is_traced("a_disk_that_fails_here", &scratch) {
        return;
    }
    let client = client();
    let sandbox = create(&client);
    sandbox.execute("mkdir tree; echo new > tree/file").unwrap().check().unwrap();
    let (quota, io) = ("Disk quota exceeded", "Input/output error");
    for (fault, said, kind) in [
        ("fail-write-122", quota, ErrorKind::StorageFull),
        ("fail-write-5", io, ErrorKind::Transfer),
        ("fail-close-122", quota, ErrorKind::StorageFull),
        ("fail-close-5", io, ErrorKind::Transfer),
        ("fail-fsync-5", io, ErrorKind::Transfer),
    ] {
        let directory = scratch.path(fault);
        std::fs::create_dir(&directory).unwrap();
        std::fs::write(scratch.path("old"), "old").unwrap();
        std::fs::rename(scratch.path("old"), directory.join("file")).unwrap();
        let transfer = || sandbox.files().transfer().sync(fault.contains("fsync"));
        expect(fault, said, kind, transfer().download("tree/file", directory.join("file")).map(drop));
        expect(fault, said, kind, transfer().download_dir("tree", directory.join("new")).map(drop));
        expect(fault, said, kind, transfer().download_dir("tree", &directory).map(drop));
        assert_eq!(std::fs::read(directory.join("file")).unwrap(), b"old", "{fault}");
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1, "{fault}");
    }
}
