//! What a sandbox may send that lies: archives that lead elsewhere, and archives and listings without end.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use common::{Guarded, Scratch, Tracer, client, create};
use parking_lot::Mutex;
use sandbox::{Client, ErrorKind, Sandbox, SandboxSpec, Transfer};

/// Memory is measured of the whole process, so it has one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A sandbox whose `tar` sends what stands in the file `archive`, as often as the file `times` says.
fn hostile(client: &Client) -> Guarded {
    let spec = SandboxSpec::new().env("PATH", "/tmp/first:/usr/local/bin:/usr/bin:/bin");
    let sandbox = Guarded(client.create(&spec).unwrap());
    let script = "#!/bin/sh\nfor time in $(seq $(cat /tmp/times)); do cat /tmp/archive; done\nhead -c 1024 /dev/zero\n";
    sandbox.files().create_dir_all("/tmp/first").unwrap();
    sandbox.files().write("/tmp/first/tar", script).unwrap();
    sandbox.files().set_permissions("/tmp/first/tar", 0o755).unwrap();
    sandbox.files().create_dir("t").unwrap();
    sandbox
}

/// Archives of Python's, which writes what it is told.
fn archived(sandbox: &Sandbox, entries: &str, times: u32) {
    let script = format!(
        "import tarfile, io\nt = tarfile.open('/tmp/archive', 'w', format=tarfile.GNU_FORMAT)\n\
        def add(name, kind=tarfile.REGTYPE, link='', data=b'hostile'):\n\
        \x20   i = tarfile.TarInfo(name); i.type = kind; i.linkname = link; i.mode = 0o4777\n\
        \x20   i.size = len(data) if kind == tarfile.REGTYPE else 0\n    t.addfile(i, io.BytesIO(data))\n{entries}\n\
        t.fileobj.flush()\n"
    );
    sandbox.command("python3").arg("-c").arg(script).output().unwrap().check().unwrap();
    sandbox.files().write("/tmp/times", times.to_string()).unwrap();
}

#[test]
fn a_hostile_sandbox_writes_nothing_outside_of_the_target() {
    let _alone = ALONE.lock();
    let client = client();
    let (sandbox, scratch) = (hostile(&client), Scratch::new());
    fs::write(scratch.path("outside"), "old").unwrap();
    for (entries, said) in [
        ("add('../outside')", "'..'"),
        ("add('/tmp/sandbox-test-hostile')", "absolute"),
        ("add('l', tarfile.SYMTYPE, '.'); add('l/../../outside')", "'..'"),
        ("add('d', tarfile.DIRTYPE); add('l', tarfile.SYMTYPE, 'd'); add('l/x')", "in the way"),
        ("add('l', tarfile.LNKTYPE, '../outside')", "'..'"),
        ("add('x' * 65536)", "a name of 65537 bytes"),
        ("add('x' * 300)", "too long"),
        ("add('a'); t.fileobj.write(b'garbage' * 512)", "malformed"),
    ] {
        archived(&sandbox, entries, 1);
        for target in ["new", "there"] {
            fs::create_dir_all(scratch.path("there")).unwrap();
            let error = sandbox.files().download_dir("t", scratch.path(target)).unwrap_err();
            assert!(error.kind() == ErrorKind::Transfer && error.to_string().contains(said), "{entries}: {error}");
            assert_eq!(fs::read(scratch.path("outside")).unwrap(), b"old");
            assert_eq!(scratch.names().len(), 2, "{entries}: {:?}", scratch.names());
            assert_eq!(fs::read_dir(scratch.path("there")).unwrap().count(), 0, "{entries}");
        }
    }
    assert!(!Path::new("/tmp/sandbox-test-hostile").exists());
    // Contents that arrive changed are seen, and what is missing too.
    archived(&sandbox, "add('file', data=b'hostile')", 1);
    for (contents, said) in [("echo honest > t/file", "'file' in 't'"), ("rm t/file", "has 0 files, moved were 1")] {
        sandbox.execute(contents).unwrap();
        let error = sandbox.files().transfer().checksum(true).download_dir("t", scratch.path("new")).unwrap_err();
        assert!(error.kind() == ErrorKind::Transfer && error.to_string().contains(said), "{error}");
    }
    // An archive that breaks off is none, whatever its tool says of itself, and nobody waits for the end of one that has none.
    sandbox.execute("head -c 1500 /tmp/archive > /tmp/half; mkdir t/d").unwrap();
    for (tool, said) in [
        ("cat /tmp/half; exit 1", "without its end mark"),
        ("cat /tmp/half; echo 'tar: file: file changed as we read it' >&2; exit 1", "without its end mark"),
        ("exec yes", "malformed"),
        ("cat /tmp/half; echo 'tar: file: Cannot open: Permission denied' >&2; exit 2", "Permission denied"),
    ] {
        sandbox.files().write("/tmp/first/tar", format!("#!/bin/sh\n{tool}\n")).unwrap();
        sandbox.files().set_permissions("/tmp/first/tar", 0o755).unwrap();
        let error = sandbox.files().download_dir("t", scratch.path("new")).unwrap_err();
        assert!(error.kind() != ErrorKind::TimedOut && error.to_string().contains(said), "{tool}: {error}");
        assert_eq!(scratch.names().len(), 2, "{tool}: {:?}", scratch.names());
    }
    let sandbox = hostile(&client);
    // What is left out is told; the rest arrives.
    archived(
        &sandbox,
        "add('l', tarfile.SYMTYPE, '../outside'); add('null', tarfile.CHRTYPE); add('p', tarfile.FIFOTYPE); add('good')",
        1,
    );
    let report = sandbox.files().download_dir("t", scratch.path("new")).unwrap();
    assert_eq!((report.files, report.skipped, report.notes.len()), (1, 3, 3));
    assert_eq!(fs::metadata(scratch.path("new/good")).unwrap().mode() & 0o7777, 0o777);
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
    let (sandbox, scratch) = (hostile(&client), Scratch::new());
    let download = |change: fn(Transfer<'_>) -> Transfer<'_>| {
        let began = Instant::now();
        let error = change(sandbox.files().transfer()).download_dir("t", scratch.path("limited")).unwrap_err();
        println!("{error} after {:?}", began.elapsed());
        assert_eq!(error.kind(), ErrorKind::Transfer, "{error}");
        error.to_string()
    };
    // Entries that need no disk.
    archived(&sandbox, "for n in range(10000): add('p%d' % n, tarfile.FIFOTYPE)", 10);
    let more = growth(|| {
        let report = sandbox.files().download_dir("t", scratch.path("new")).unwrap();
        assert_eq!((report.skipped, report.notes.len()), (100_000, 1000));
    });
    assert!(more < 30_000, "{more} KiB more");
    // Without end.
    sandbox.files().write("/tmp/times", "1000000").unwrap();
    let more = growth(|| {
        let said = download(|transfer| transfer.max_entries(200_000));
        assert!(said.contains("more than the 200000 entries that are allowed"), "{said}");
    });
    assert!(more < 30_000, "{more} KiB more");
    archived(&sandbox, "add('x', data=bytes(1 << 20))", 1_000_000);
    let more = growth(|| {
        let said = download(|transfer| transfer.max_bytes(50 << 20));
        assert!(said.contains("bytes that are allowed"), "{said}");
    });
    assert!(more < 30_000, "{more} KiB more");
    assert_eq!(scratch.names(), ["new"]);
    let error =
        sandbox.files().transfer().max_bytes(1000).download("/tmp/archive", scratch.path("limited")).unwrap_err();
    assert!(error.kind() == ErrorKind::Transfer && error.to_string().contains("bytes that are allowed"), "{error}");

    let sandbox = create(&client);
    let _tracer = Tracer::of(&sandbox);
    let endless = "/tmp/endless-readdir@250";
    sandbox.files().create_dir(endless).unwrap();
    let more = growth(|| {
        let began = Instant::now();
        let error = sandbox.files().read_dir(endless).unwrap_err();
        println!("{error} after {:?}", began.elapsed());
        assert_eq!(error.kind(), ErrorKind::Transfer, "{error}");
        assert!(error.to_string().contains("64 MiB of names"), "{error}");
    });
    assert!(more < 200_000, "{more} KiB more");
    println!("{more} KiB more");
}
