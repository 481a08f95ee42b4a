//! Files of a real sandbox: contents, modes, whole or not at all.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Scratch, client, client_over, config, create, noise, over_every_transport, transports};
use sandbox::{Client, ErrorKind, SandboxSpec};

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
        let _ = std::fs::remove_file(&there);
        std::fs::write(&there, "x").unwrap();
        std::fs::set_permissions(&there, std::fs::Permissions::from_mode(mode)).unwrap();
        sandbox.upload_file(&there, "file").unwrap();
        let seen = sandbox.execute("stat -c %a file").unwrap();
        assert_eq!(seen.stdout_text().trim(), format!("{mode:o}"));
        sandbox.download_file("file", &back).unwrap();
        assert_eq!(std::fs::metadata(&back).unwrap().permissions().mode() & 0o7777, mode);
    }
    // A sandbox must not be able to make set-user-id files here.
    sandbox.execute("chmod 4755 file").unwrap();
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
            (files.read("/no/file").unwrap_err(), ErrorKind::NotFound, "/no/file"),
            (files.read("/etc/shadow").unwrap_err(), ErrorKind::PermissionDenied, "/etc/shadow"),
            (files.read("/tmp").unwrap_err(), ErrorKind::Transfer, "/tmp"),
            (files.read("").unwrap_err(), ErrorKind::InvalidArgument, "''"),
            (files.upload(&local, "/no/dir/x").unwrap_err(), ErrorKind::NotFound, "/no/dir"),
            (files.upload(&local, "/root/x").unwrap_err(), ErrorKind::PermissionDenied, "/root"),
            (files.upload(&local, "/home/sandbox").unwrap_err(), ErrorKind::PermissionDenied, "/home"),
            (files.upload(&local, "/tmp/").unwrap_err(), ErrorKind::InvalidArgument, "/tmp/"),
            (files.upload(scratch.path("none"), "x").unwrap_err(), ErrorKind::NotFound, "none"),
            (files.upload("/dev/null", "x").unwrap_err(), ErrorKind::InvalidArgument, "/dev/null"),
            (files.download("/etc/passwd", "/no/dir/x").unwrap_err(), ErrorKind::NotFound, "/no/dir/x"),
        ] {
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(error.sandbox(), Some(sandbox.name()));
        }
        sandbox.execute("mkdir -p there/is/one").unwrap();
        let error = files.upload(&local, "there/is").unwrap_err();
        assert!(error.to_string().contains("is a directory"), "{error}");
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
    assert_eq!(error.kind(), ErrorKind::Transfer, "{error}");
    assert_eq!(sandbox.files().read("/dev/shm/file").unwrap(), b"old");
    assert_eq!(sandbox.execute("find /dev/shm -name '*.part'").unwrap().stdout, b"");
}

#[test]
fn a_cut_upload_leaves_the_old_file_and_can_be_repeated() {
    for &transport in transports() {
        let client = client_over(transport);
        let (sandbox, scratch) = (create(&client), Scratch::new());
        let local = scratch.path("file");
        std::fs::write(&local, noise(64 << 20)).unwrap();
        sandbox.files().write("file", "old").unwrap();
        // Waits for the upload to begin, then ends the server's process that serves it.
        let cut = "until ls -A | grep -q part; do sleep 0.01; done; pkill -9 -f 'sshd.*notty' ";
        let error = std::thread::scope(|scope| {
            let cutter = scope.spawn(|| sandbox.execute(cut));
            let error = sandbox.upload_file(&local, "file").unwrap_err();
            let _ = cutter.join().unwrap();
            error
        });
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
    let error = std::thread::scope(|scope| {
        let download = scope.spawn(|| sandbox.download_file("big", &local));
        common::await_that("the download to begin", || {
            scratch.names().iter().any(|name| {
                name.contains("part") && std::fs::metadata(scratch.path(name)).is_ok_and(|part| part.len() > 1 << 20)
            })
        });
        let _ = sandbox.execute("pkill -9 -f 'sshd.*notty'");
        download.join().unwrap().unwrap_err()
    });
    assert!(matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Transfer), "{error}");
    assert_eq!(std::fs::read(&local).unwrap(), b"old");
    assert_eq!(scratch.names(), ["file"]);
    assert_eq!(sandbox.download_file("big", &local).unwrap(), 200_000_000);
}

#[test]
fn links_are_followed_for_reading_and_replaced_by_writing() {
    let client = client();
    let sandbox = create(&client);
    sandbox.execute("echo target > target; ln -s target link").unwrap();
    assert_eq!(sandbox.files().read("link").unwrap(), b"target\n");
    sandbox.files().write("link", "new").unwrap();
    assert_eq!(sandbox.execute("cat target link").unwrap().stdout, b"target\nnew");
}

#[test]
fn a_transfer_ends_at_its_deadline() {
    let client = Client::new(config().transfer_timeout(std::time::Duration::from_millis(300))).unwrap();
    let sandbox = common::Guarded(client.create(&SandboxSpec::new()).unwrap());
    // Reading an empty named pipe never ends; SFTP has to open it first.
    sandbox.execute("mkfifo pipe").unwrap();
    let error = sandbox.files().read("pipe").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
}
