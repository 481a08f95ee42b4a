//! Files of a real sandbox: contents, modes, whole or not at all.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use common::{
    Scratch, await_that, client, client_over, config, create, cut_at, disconnect, noise, over_every_transport,
    transports,
};
use sandbox::{Client, ErrorKind, OpenOptions, SandboxSpec};

#[test]
fn files_of_every_size_travel_both_ways() {
    over_every_transport(|_, sandbox| {
        let scratch = Scratch::new();
        for size in [0, 1, 29_999, 30_000, 30_001, 65_536, 1 << 20, (64 << 20) + 17] {
            let (there, back, bytes) = (scratch.path("there"), scratch.path("back"), noise(size));
            std::fs::write(&there, &bytes).unwrap();
            assert_eq!(sandbox.upload_file(&there, "travelled").unwrap(), size as u64);
            let sum = sandbox.execute("sha256sum < travelled; stat -c %s travelled").unwrap();
            assert!(sum.stdout_text().ends_with(&format!("\n{size}\n")), "{}", sum.stdout_text());
            assert_eq!(sandbox.download_file("travelled", &back).unwrap(), size as u64);
            assert!(std::fs::read(&back).unwrap() == bytes, "{size} bytes");
        }
        assert_eq!(sandbox.execute("ls -A | grep part").unwrap().stdout, b"");
    });
}

#[test]
fn permission_bits_travel_along() {
    let client = client();
    let (sandbox, scratch) = (create(&client), Scratch::new());
    for mode in [0o600, 0o644, 0o755, 0o777, 0o400] {
        let (there, back) = (scratch.path("there"), scratch.path("back"));
        for file in [&there, &back] {
            let _ = std::fs::remove_file(file);
        }
        sandbox.execute("rm -f file").unwrap();
        std::fs::write(&there, "x").unwrap();
        std::fs::set_permissions(&there, std::fs::Permissions::from_mode(mode)).unwrap();
        sandbox.upload_file(&there, "file").unwrap();
        let seen = sandbox.execute("stat -c %a file").unwrap();
        // Both sides have the usual umask.
        assert_eq!(seen.stdout_text().trim(), format!("{:o}", mode & !0o022));
        sandbox.execute(format!("chmod {mode:o} file")).unwrap();
        sandbox.download_file("file", &back).unwrap();
        assert_eq!(std::fs::metadata(&back).unwrap().permissions().mode() & 0o7777, mode & !0o022);
    }
    // A sandbox must not be able to make set-user-id files here.
    sandbox.execute("chmod 4755 file").unwrap();
    std::fs::remove_file(scratch.path("back")).unwrap();
    sandbox.download_file("file", scratch.path("back")).unwrap();
    assert_eq!(std::fs::metadata(scratch.path("back")).unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn contents_are_written_and_read() {
    over_every_transport(|_, sandbox| {
        let bytes = noise(3 << 20);
        sandbox.files().write("/tmp/with space and \u{e9}", &bytes).unwrap();
        assert!(sandbox.files().read("/tmp/with space and \u{e9}").unwrap() == bytes);
        sandbox.files().write("short", "old contents").unwrap();
        sandbox.files().write("short", "new").unwrap();
        assert_eq!(sandbox.files().read("short").unwrap(), b"new");
        // Files that claim to be empty are read to their end.
        assert!(sandbox.files().read("/proc/self/status").unwrap().starts_with(b"Name:"));
    });
}

#[test]
fn errors_name_the_file() {
    over_every_transport(|_, sandbox| {
        let scratch = Scratch::new();
        let local = scratch.path("file");
        std::fs::write(&local, "x").unwrap();
        let files = sandbox.files();
        for (error, kind, name) in [
            (files.read("/no/file").unwrap_err(), ErrorKind::FileNotFound, "/no/file"),
            (files.read("/etc/shadow").unwrap_err(), ErrorKind::PermissionDenied, "/etc/shadow"),
            (files.read("/tmp").unwrap_err(), ErrorKind::IsADirectory, "/tmp"),
            (files.read("").unwrap_err(), ErrorKind::InvalidArgument, "''"),
            (files.upload(&local, "/no/dir/x").unwrap_err(), ErrorKind::FileNotFound, "/no/dir"),
            (files.upload(&local, "/root/x").unwrap_err(), ErrorKind::PermissionDenied, "/root"),
            (files.upload(&local, "/home/sandbox").unwrap_err(), ErrorKind::IsADirectory, "/home"),
            (files.upload(&local, "/tmp/").unwrap_err(), ErrorKind::InvalidArgument, "/tmp/"),
            (files.upload(scratch.path("none"), "x").unwrap_err(), ErrorKind::FileNotFound, "none"),
            (files.upload("/dev/null", "x").unwrap_err(), ErrorKind::InvalidArgument, "/dev/null"),
            (files.download("/etc/passwd", "/no/dir/x").unwrap_err(), ErrorKind::FileNotFound, "/no/dir/x"),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(error.sandbox(), Some(sandbox.name()));
        }
        sandbox.execute("mkdir -p there/is/one").unwrap();
        let error = files.upload(&local, "there/is").unwrap_err();
        assert!(error.kind() == ErrorKind::IsADirectory && error.to_string().contains("Is a directory"), "{error}");
        assert!(sandbox.execute("find there -name '*.part'").unwrap().stdout.is_empty());
        // The sessions survive all of that.
        assert_eq!(files.read("/etc/hostname").unwrap(), format!("{}\n", sandbox.name()).into_bytes());
    });
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let client = client();
    let sandbox = create(&client);
    // /dev/shm has 64 MiB.
    sandbox.files().write("/dev/shm/file", "old").unwrap();
    let error = sandbox.files().write("/dev/shm/file", noise(80 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(error.to_string().contains("/dev/shm/file") && error.to_string().contains("No space left"), "{error}");
    assert_eq!(sandbox.files().read("/dev/shm/file").unwrap(), b"old");
    assert_eq!(sandbox.execute("find /dev/shm -name '*.part'").unwrap().stdout, b"");
    // Not only whole files: what is written piece by piece, and what is appended, says so too.
    let fills = |bytes: usize| {
        sandbox.execute(format!("head -c {bytes} /dev/zero > /dev/shm/filler")).unwrap().status.success()
    };
    await_that("the server to let go of the part that is removed", || fills(60_000_000));
    assert!(!fills(100_000_000));
    let error = sandbox.files().append("/dev/shm/file", noise(1 << 20)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    let mut file = sandbox.files().open_with("/dev/shm/file", OpenOptions::new().write(true)).unwrap();
    let error = file.write_all(&noise(8 << 20)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    let error = error.get_ref().unwrap().downcast_ref::<sandbox::Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
}

#[test]
fn a_file_is_read_and_written_in_pieces() {
    over_every_transport(|_, sandbox| {
        let (files, bytes) = (sandbox.files(), noise(10 << 20));
        let mut file = files.open_with("pieces", OpenOptions::new().read(true).write(true).create_new(true)).unwrap();
        file.write_all(&bytes).unwrap();
        assert_eq!(file.metadata().unwrap().len(), bytes.len() as u64);
        // Reading, writing and seeking take turns; what was asked for ahead must not be seen.
        assert_eq!(file.seek(SeekFrom::Start(1000)).unwrap(), 1000);
        let mut some = [0; 3000];
        file.read_exact(&mut some).unwrap();
        assert!(some == bytes[1000..4000]);
        file.write_all(b"overwritten").unwrap();
        file.read_exact(&mut some).unwrap();
        assert!(some == bytes[4011..7011]);
        assert_eq!(file.seek(SeekFrom::Current(-3011)).unwrap(), 4000);
        file.read_exact(&mut some[..11]).unwrap();
        assert_eq!(&some[..11], b"overwritten");
        assert_eq!(file.seek(SeekFrom::End(-5)).unwrap(), bytes.len() as u64 - 5);
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).unwrap();
        assert!(rest == bytes[bytes.len() - 5..]);
        // At the end is not the end for ever.
        assert_eq!(file.read(&mut some).unwrap(), 0);
        files.append("pieces", "more").unwrap();
        file.read_to_end(&mut rest).unwrap();
        assert_eq!(&rest[5..], b"more");
        assert!(file.seek(SeekFrom::Current(-(100 << 20))).is_err());
        file.set_len(4).unwrap();
        file.sync_all().unwrap();
        file.set_permissions(0o600).unwrap();
        assert_eq!(file.read(&mut some).unwrap(), 0);
        file.close().unwrap();
        assert!(files.read("pieces").unwrap() == bytes[..4]);
        assert_eq!(files.metadata("pieces").unwrap().mode(), 0o600);

        let error = files.open_with("pieces", OpenOptions::new().write(true).create_new(true)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileExists, "{error}");
        let error = files.open_with("pieces", &OpenOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let error = files.open_with("/tmp", OpenOptions::new().write(true)).unwrap_err();
        assert!(error.kind() == ErrorKind::IsADirectory && error.to_string().contains("Is a directory"), "{error}");
        let mut log = files.open_with("log", OpenOptions::new().append(true).create(true).mode(0o640)).unwrap();
        writeln!(log, "one").unwrap();
        sandbox.execute("echo two >> log").unwrap();
        writeln!(log, "three").unwrap();
        drop(log);
        assert_eq!(files.read("log").unwrap(), b"one\ntwo\nthree\n");
        assert_eq!(files.metadata("log").unwrap().mode(), 0o640);
        let mut text = String::new();
        BufReader::new(files.open("log").unwrap()).read_line(&mut text).unwrap();
        assert_eq!(text, "one\n");
        assert_eq!(sandbox.session_counts().busy, 0, "all sessions are given back");
    });
}

#[test]
fn an_open_file_whose_connection_is_cut_says_so_and_is_closed() {
    over_every_transport(|_, sandbox| {
        let mut file = sandbox.files().open_with("file", OpenOptions::new().write(true).create(true)).unwrap();
        file.write_all(b"first").unwrap();
        disconnect(sandbox);
        let error = file.write_all(b"second").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted, "{error}");
        assert!(error.to_string().contains("'file'") && error.to_string().contains("byte 5"), "{error}");
        let error = file.write_all(b"third").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotConnected, "{error}");
        drop(file);
        assert_eq!(sandbox.files().read("file").unwrap(), b"first");
    });
}

#[test]
fn directories_are_made_listed_and_removed() {
    over_every_transport(|_, sandbox| {
        let files = sandbox.files();
        files.create_dir("dir").unwrap();
        assert_eq!(files.create_dir("dir").unwrap_err().kind(), ErrorKind::FileExists);
        files.create_dir_all("dir/a/b/c/").unwrap();
        files.create_dir_all("dir/a/b/c").unwrap();
        files.create_dir_all("/tmp/x/y").unwrap();
        files.create_dir_all("/tmp/x/./z//new/.").unwrap();
        assert!(files.metadata("/tmp/x/z/new").unwrap().is_dir());
        assert_eq!(files.create_dir("dir/no/such").unwrap_err().kind(), ErrorKind::FileNotFound);
        assert_eq!(files.create_dir_all("/root/x/y").unwrap_err().kind(), ErrorKind::PermissionDenied);
        files.write("dir/file", "x").unwrap();
        let error = files.create_dir_all("dir/file/x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotADirectory, "{error}");
        assert_eq!(files.create_dir_all("dir/file").unwrap_err().kind(), ErrorKind::FileExists);
        // Names are bytes.
        let odd = OsStr::from_bytes(b"dir/\xff\n 'odd");
        files.write(odd, "odd").unwrap();
        files.symlink("file", "dir/link").unwrap();
        files.symlink("nowhere", "dir/broken").unwrap();
        let mut entries = files.read_dir("dir").unwrap();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_bytes()).collect();
        assert_eq!(names, [&b"a"[..], b"broken", b"file", b"link", b"\xff\n 'odd"]);
        let kinds: Vec<_> =
            entries.iter().map(|entry| (entry.metadata.is_dir(), entry.metadata.is_symlink())).collect();
        assert_eq!(kinds, [(true, false), (false, true), (false, false), (false, true), (false, false)]);
        assert_eq!(entries[4].metadata.len(), 3);
        assert_eq!(files.read_dir("dir/file").unwrap_err().kind(), ErrorKind::NotADirectory);
        assert_eq!(files.read_dir("/root").unwrap_err().kind(), ErrorKind::PermissionDenied);

        assert!(files.exists("dir/file").unwrap() && !files.exists("dir/none").unwrap());
        assert!(!files.exists("dir/broken").unwrap());
        assert_eq!(files.exists("").unwrap_err().kind(), ErrorKind::InvalidArgument);

        let error = files.remove_dir("dir").unwrap_err();
        assert!(error.kind() == ErrorKind::DirectoryNotEmpty && error.to_string().contains("not empty"), "{error}");
        let error = files.remove_file("dir").unwrap_err();
        assert!(error.to_string().contains("Is a directory"), "{error}");
        let error = files.remove_dir_all("dir/file").unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
        assert_eq!(files.remove_dir_all("none").unwrap_err().kind(), ErrorKind::FileNotFound);
        let error = files.remove_dir_all("/var/lib").unwrap_err();
        assert!(error.kind() == ErrorKind::PermissionDenied && error.to_string().contains("/var/lib"), "{error}");
        files.remove_dir("dir/a/b/c").unwrap();
        files.remove_file("dir/broken").unwrap();
        assert_eq!(files.remove_file("dir/broken").unwrap_err().kind(), ErrorKind::FileNotFound);
        sandbox.execute("mkdir elsewhere; touch elsewhere/kept; ln -s ../elsewhere dir/out; ln -s / dir/root").unwrap();
        files.remove_dir_all("dir").unwrap();
        assert!(!files.exists("dir").unwrap() && files.exists("elsewhere/kept").unwrap());
    });
}

#[test]
fn a_large_directory_is_listed_whole() {
    over_every_transport(|_, sandbox| {
        sandbox.execute("mkdir many && cd many && seq 1 20000 | xargs touch").unwrap().check().unwrap();
        let entries = sandbox.files().read_dir("many").unwrap();
        let names: std::collections::BTreeSet<_> = entries.iter().map(|entry| entry.name.clone()).collect();
        assert_eq!((entries.len(), names.len()), (20_000, 20_000));
    });
}

#[test]
fn links_names_modes_and_times() {
    over_every_transport(|_, sandbox| {
        let files = sandbox.files();
        files.write("file", "contents").unwrap();
        files.symlink("no/such \u{e9}", "link").unwrap();
        assert_eq!(files.read_link("link").unwrap(), Path::new("no/such \u{e9}"));
        assert_eq!(files.symlink("other", "link").unwrap_err().kind(), ErrorKind::FileExists);
        let error = files.read_link("file").unwrap_err();
        assert!(error.kind() == ErrorKind::Transfer && error.to_string().contains("not a symbolic link"), "{error}");
        assert!(files.symlink_metadata("link").unwrap().is_symlink());
        assert_eq!(files.metadata("link").unwrap_err().kind(), ErrorKind::FileNotFound);
        assert_eq!(files.canonicalize(".").unwrap(), Path::new("/home/sandbox"));
        assert_eq!(files.canonicalize("none").unwrap_err().kind(), ErrorKind::FileNotFound);

        files.set_permissions("file", 0o4711).unwrap();
        sandbox.execute("touch -d @1234567890 file").unwrap();
        let found = files.metadata("file").unwrap();
        assert_eq!((found.len(), found.mode(), found.is_file()), (8, 0o4711, true));
        assert_eq!(found.modified(), Some(UNIX_EPOCH + Duration::from_secs(1_234_567_890)));
        assert_eq!(files.set_permissions("file", 0o10_000).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(files.set_permissions("none", 0o644).unwrap_err().kind(), ErrorKind::FileNotFound);

        files.write("new", "new").unwrap();
        files.rename("new", "file").unwrap();
        assert_eq!(files.read("file").unwrap(), b"new");
        assert_eq!(files.rename("new", "file").unwrap_err().kind(), ErrorKind::FileNotFound);
        files.create_dir_all("full/dir").unwrap();
        let error = files.rename("file", "full").unwrap_err();
        assert!(error.kind() == ErrorKind::IsADirectory && error.to_string().contains("Is a directory"), "{error}");
        files.create_dir("other").unwrap();
        assert_eq!(files.rename("other", "full").unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        files.rename("full", "other").unwrap();
        assert!(files.metadata("other/dir").unwrap().is_dir());

        let long = "x".repeat(64 << 10);
        assert_eq!(files.write(&long, "").unwrap_err().kind(), ErrorKind::NameTooLong);
        let error = files.write(&long[..300], "").unwrap_err();
        assert!(error.kind() == ErrorKind::NameTooLong && error.to_string().contains("too long"), "{error}");
        assert_eq!(files.create_dir("a\0b").unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(sandbox.session_counts().busy, 0, "all sessions are given back");
    });
}

#[test]
fn one_session_is_enough_for_everything() {
    let client = Client::new(config().max_sessions(1)).unwrap();
    let sandbox = common::Guarded(client.create(&SandboxSpec::new()).unwrap());
    let (files, scratch) = (sandbox.files(), Scratch::new());
    std::fs::write(scratch.path("file"), noise(1 << 20)).unwrap();
    files.transfer().checksum(true).sync(true).resume(true).upload(scratch.path("file"), "file").unwrap();
    files.transfer().checksum(true).sync(true).resume(true).download("file", scratch.path("back")).unwrap();
    assert_eq!(files.write("/dev/shm/file", noise(80 << 20)).unwrap_err().kind(), ErrorKind::StorageFull);
    files.create_dir_all("a/b").unwrap();
    files.remove_dir_all("a").unwrap();
}

#[test]
fn short_answers_are_no_end_of_a_file() {
    over_every_transport(|_, sandbox| {
        // The maps of a process come in pages, however much is asked for; smaps have more than one packet's worth.
        let program = "import ssl, ctypes, decimal, time; print(1, flush=True); time.sleep(600)";
        let child = sandbox.command("python3").args(["-c", program]);
        let mut child = child.spawn().unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 2]).unwrap();
        let process = sandbox.execute("pgrep -x python3").unwrap().stdout_text().trim().to_owned();
        for (name, least) in [("maps", 8192), ("smaps", 31_000)] {
            let path = format!("/proc/{process}/{name}");
            let whole = sandbox.command("cat").arg(&path).output().unwrap().check().unwrap().stdout;
            assert!(whole.len() > least, "{name}: {} bytes", whole.len());
            for room in [64, 8192, 64 << 10, 4 << 20] {
                let (mut file, mut buffer) = (sandbox.files().open(&path).unwrap(), vec![0; room]);
                let mut seen = Vec::new();
                while let length @ 1.. = file.read(&mut buffer).unwrap() {
                    seen.extend_from_slice(&buffer[..length]);
                }
                // The kernel counts on meanwhile.
                let lines = |bytes: &[u8]| bytes.split(|byte| *byte == b'\n').count();
                assert_eq!(lines(&seen), lines(&whole), "{name} by {room} bytes");
                assert!(name != "maps" || seen == whole);
            }
        }
        child.kill().unwrap();
    });
}

#[test]
fn a_file_is_read_here_and_there() {
    over_every_transport(|_, sandbox| {
        let bytes = noise(8 << 20);
        sandbox.files().write("file", &bytes).unwrap();
        let (mut file, mut page) = (sandbox.files().open("file").unwrap(), vec![0; 256 << 10]);
        // Much more is asked for ahead than is ever read.
        for turn in 0..200 {
            let at = turn * 1_234_567 % (bytes.len() - page.len());
            file.seek(SeekFrom::Start(at as u64)).unwrap();
            let some = &mut page[..1 + turn * 1000];
            file.read_exact(some).unwrap();
            assert!(some == &bytes[at..at + some.len()], "{turn}");
        }
    });
}

#[test]
fn a_cut_upload_leaves_the_old_file_and_can_be_repeated() {
    for &transport in transports() {
        let client = client_over(transport);
        let (sandbox, scratch) = (create(&client), Scratch::new());
        let local = scratch.path("file");
        std::fs::write(&local, noise(64 << 20)).unwrap();
        sandbox.files().write("file", "old").unwrap();
        let mut cut = sandbox.files().transfer().progress(cut_at(&sandbox, 8 << 20));
        let error = cut.upload(&local, "file").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Transfer), "{error}");
        assert_eq!(sandbox.files().read("file").unwrap(), b"old");
        assert_eq!(sandbox.upload_file(&local, "file").unwrap(), 64 << 20);
    }
}

#[test]
fn a_cut_download_leaves_the_old_file_and_can_be_repeated() {
    let client = client();
    let (sandbox, scratch) = (create(&client), Scratch::new());
    let local = scratch.path("file");
    std::fs::write(&local, "old").unwrap();
    sandbox.execute("head -c 200000000 /dev/zero > big").unwrap();
    let error = sandbox.files().transfer().progress(cut_at(&sandbox, 8 << 20)).download("big", &local).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Transfer), "{error}");
    assert_eq!(std::fs::read(&local).unwrap(), b"old");
    assert_eq!(scratch.names(), ["file"]);
    assert_eq!(sandbox.download_file("big", &local).unwrap(), 200_000_000);
}

#[test]
fn what_is_appended_ends_at_the_position() {
    let client = client();
    let sandbox = create(&client);
    let files = sandbox.files();
    files.write("file", "old").unwrap();
    let mut file = files.open_with("file", OpenOptions::new().read(true).append(true)).unwrap();
    files.append("file", " and").unwrap();
    file.write_all(b" new").unwrap();
    assert_eq!(file.stream_position().unwrap(), 11);
    assert_eq!(file.seek(SeekFrom::Current(-3)).unwrap(), 8);
    let mut rest = String::new();
    file.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "new");
    assert_eq!(files.read("file").unwrap(), b"old and new");
}

#[test]
fn a_link_is_removed_and_not_what_it_leads_to() {
    let client = client();
    let sandbox = create(&client);
    sandbox.execute("mkdir d; echo kept > d/file; ln -s d link").unwrap();
    sandbox.files().remove_dir_all("link").unwrap();
    assert!(!sandbox.files().exists("link").unwrap() && sandbox.files().exists("d/file").unwrap());
}

#[test]
fn links_are_followed_for_reading_and_writing() {
    let client = client();
    let sandbox = create(&client);
    sandbox.execute("echo target > target; ln -s target link").unwrap();
    assert_eq!(sandbox.files().read("link").unwrap(), b"target\n");
    sandbox.files().write("link", "new").unwrap();
    assert_eq!(sandbox.execute("cat target link; readlink link").unwrap().stdout, b"newnewtarget\n");
}

#[test]
fn a_transfer_ends_at_its_deadline() {
    let client = Client::new(config().transfer_timeout(std::time::Duration::from_millis(300))).unwrap();
    let sandbox = common::Guarded(client.create(&SandboxSpec::new()).unwrap());
    // Reading an empty named pipe ends when its last writer does, which is the reader itself.
    sandbox.execute("mkfifo pipe").unwrap();
    let mut pipe = sandbox.files().open_with("pipe", OpenOptions::new().read(true).write(true)).unwrap();
    let error = pipe.read(&mut [0; 10]).unwrap_err().downcast::<sandbox::Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}

#[test]
fn a_sandbox_that_is_gone_is_not_a_file_that_is_not_there() {
    over_every_transport(|_, sandbox| {
        assert!(sandbox.files().exists("/etc").unwrap());
        common::kubectl(&["delete", "pod", sandbox.name(), "--grace-period=1", "--wait=true"]);
        let error = sandbox.files().exists("/etc").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Connect | ErrorKind::Closed), "{error}");
    });
}
