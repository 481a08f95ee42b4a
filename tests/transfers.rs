//! Transfers with options, and transfers that are cut: progress, cancellation, checksums, resumption, a dead or frozen
//! server.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Scratch, await_that, client, client_over, config, create, cut_at, freeze_connections, noise, over_every_transport,
    steady_transports,
};
use openssl::sha::sha256;
use sandbox::{Client, Error, ErrorKind, Progress, Sandbox};

const SIZE: usize = 64 << 20;

/// Names of what is left of transfers to the working directory.
fn parts(sandbox: &Sandbox) -> Vec<String> {
    let names = sandbox.files().read_dir(".").unwrap().into_iter().map(|entry| entry.name.into_string().unwrap());
    names.filter(|name| name.ends_with(".part")).collect()
}

/// A session that is given up takes what it has sent with it, once the sandbox has noticed that it has ended.
fn await_no_parts(sandbox: &Sandbox) {
    await_that("the parts to go away", || parts(sandbox).is_empty());
}

#[test]
fn progress_checksum_and_sync_in_both_directions() {
    over_every_transport(|_, sandbox| {
        let (scratch, bytes) = (Scratch::new(), noise(SIZE));
        let (there, back) = (scratch.path("there"), scratch.path("back"));
        std::fs::write(&there, &bytes).unwrap();
        for (from, is_upload) in [(&*there, true), (Path::new("file"), false)] {
            let mut seen = Vec::new();
            let record = |progress: &Progress<'_>| {
                assert_eq!((progress.path, progress.total), (from, Some(SIZE as u64)));
                seen.push(progress.done);
                Ok(())
            };
            let mut transfer = sandbox.files().transfer().checksum(true).sync(true).progress(record);
            let moved = match is_upload {
                true => transfer.upload(&there, "file"),
                false => transfer.download("file", &back),
            };
            drop(transfer);
            let moved = moved.unwrap();
            assert_eq!((moved.bytes, moved.resumed, moved.sha256), (SIZE as u64, 0, Some(sha256(&bytes))));
            assert!(seen.is_sorted() && seen[0] == 0 && seen[seen.len() - 1] == SIZE as u64, "{seen:?}");
        }
        assert!(std::fs::read(&back).unwrap() == bytes);
    });
}

#[test]
fn a_callback_cancels_and_leaves_the_old_file() {
    over_every_transport(|_, sandbox| {
        let scratch = Scratch::new();
        let local = scratch.path("local");
        std::fs::write(&local, noise(SIZE)).unwrap();
        sandbox.upload_file(&local, "big").unwrap();
        sandbox.files().write("file", "old").unwrap();
        std::fs::write(scratch.path("back"), "old").unwrap();
        let cancel = |progress: &Progress<'_>| match progress.done {
            0 => Ok(()),
            _ => Err(Error::cancelled("enough")),
        };
        let upload = sandbox.files().transfer().progress(cancel).upload(&local, "file").unwrap_err();
        let download = sandbox.files().transfer().progress(cancel).download("big", scratch.path("back")).unwrap_err();
        for (error, name) in [(upload, "local"), (download, "big")] {
            assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
            assert!(error.to_string().contains(name) && error.to_string().ends_with(": enough"), "{error}");
        }
        assert_eq!(sandbox.files().read("file").unwrap(), b"old");
        assert_eq!(std::fs::read(scratch.path("back")).unwrap(), b"old");
        await_no_parts(sandbox);
        assert_eq!((parts(sandbox).len(), scratch.names().len()), (0, 2));
    });
}

#[test]
fn a_cut_transfer_names_its_file_and_is_resumed() {
    over_every_transport(|_, sandbox| {
        let (scratch, bytes) = (Scratch::new(), noise(SIZE));
        let (local, back) = (scratch.path("local"), scratch.path("back"));
        std::fs::write(&local, &bytes).unwrap();
        std::fs::write(&back, "old").unwrap();
        sandbox.files().write("file", "old").unwrap();
        let files = sandbox.files();

        let cut = cut_at(sandbox, 20 << 20);
        let error = files.transfer().resume(true).progress(cut).upload(&local, "file").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        assert!(
            error.to_string().contains("'file' in the sandbox") && error.to_string().contains("beyond byte "),
            "{error}"
        );
        assert_eq!((files.read("file").unwrap(), parts(sandbox).len()), (b"old".to_vec(), 1));
        let moved = files.transfer().resume(true).upload(&local, "file").unwrap();
        assert!(moved.resumed >= 20 << 20 && moved.bytes == SIZE as u64, "{moved:?}");
        await_no_parts(sandbox);
        assert!(files.read("file").unwrap() == bytes);

        let cut = cut_at(sandbox, 20 << 20);
        let error = files.transfer().resume(true).progress(cut).download("file", &back).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        assert!(
            error.to_string().contains("'file' in the sandbox") && error.to_string().contains("beyond byte "),
            "{error}"
        );
        assert_eq!((std::fs::read(&back).unwrap(), scratch.names().len()), (b"old".to_vec(), 3));
        let moved = files.transfer().resume(true).download("file", &back).unwrap();
        assert!(moved.resumed >= 20 << 20 && moved.bytes == SIZE as u64, "{moved:?}");
        assert!(std::fs::read(&back).unwrap() == bytes && scratch.names().len() == 2);
    });
}

#[test]
fn what_may_not_be_written_is_resumed_too() {
    let client = client();
    let (sandbox, scratch) = (create(&client), Scratch::new());
    let (files, local) = (sandbox.files(), scratch.path("local"));
    std::fs::write(&local, noise(SIZE)).unwrap();
    std::fs::set_permissions(&local, PermissionsExt::from_mode(0o444)).unwrap();
    files.transfer().resume(true).progress(cut_at(&sandbox, 20 << 20)).upload(&local, "file").unwrap_err();
    let moved = files.transfer().resume(true).upload(&local, "file").unwrap();
    assert!(moved.resumed >= 20 << 20, "{moved:?}");
    assert_eq!(files.metadata("file").unwrap().mode() & 0o7777, 0o444);
}

#[test]
fn a_local_file_that_changes_is_its_first_bytes_or_an_error() {
    let client = client();
    let (sandbox, scratch) = (create(&client), Scratch::new());
    let (files, local, bytes) = (sandbox.files(), scratch.path("local"), noise(SIZE));
    std::fs::write(&local, &bytes).unwrap();
    let resize = |size: usize| {
        let file = std::fs::OpenOptions::new().write(true).open(&local).unwrap();
        move |_: &Progress<'_>| {
            file.set_len(size as u64).unwrap();
            Ok(())
        }
    };
    let moved = files.transfer().progress(resize(2 * SIZE)).upload(&local, "file").unwrap();
    assert_eq!(moved.bytes, SIZE as u64);
    assert!(files.read("file").unwrap() == bytes);
    let error = files.transfer().progress(resize(5)).upload(&local, "file").unwrap_err();
    assert!(error.kind() == ErrorKind::Transfer && error.to_string().contains("changed meanwhile"), "{error}");
    assert!(files.read("file").unwrap() == bytes);
    await_no_parts(&sandbox);
    // What claims to be empty is read to its end, and a named pipe is not waited for.
    files.upload("/proc/self/status", "status").unwrap();
    assert!(files.read("status").unwrap().starts_with(b"Name:"));
    let pipe = scratch.path("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(files.upload(&pipe, "file").unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn what_is_resumed_must_be_the_beginning_of_the_same_file() {
    let client = client();
    let (sandbox, scratch) = (create(&client), Scratch::new());
    let (files, local, back) = (sandbox.files(), scratch.path("local"), scratch.path("back"));
    std::fs::write(&local, noise(SIZE)).unwrap();
    files.transfer().resume(true).progress(cut_at(&sandbox, 20 << 20)).upload(&local, "file").unwrap_err();
    let other = vec![7; SIZE - 5];
    std::fs::write(&local, &other).unwrap();
    let moved = files.transfer().resume(true).upload(&local, "file").unwrap();
    assert_eq!((moved.resumed, moved.bytes), (0, other.len() as u64));
    assert!(files.read("file").unwrap() == other);

    files.transfer().resume(true).progress(cut_at(&sandbox, 20 << 20)).download("file", &back).unwrap_err();
    // Shorter than what is here already.
    files.write("file", "short").unwrap();
    let moved = files.transfer().resume(true).download("file", &back).unwrap();
    assert_eq!((moved.resumed, moved.bytes), (0, 5));
    assert_eq!(std::fs::read(&back).unwrap(), b"short");

    // A name that everybody knows is not followed where it leads.
    let part = scratch.names().iter().find(|name| name.ends_with(".part")).cloned();
    assert_eq!(part, None);
    files
        .transfer()
        .resume(true)
        .progress(|p| if p.done > 0 { Err(Error::cancelled("x")) } else { Ok(()) })
        .download("file", &back)
        .unwrap_err();
    let part = scratch.names().into_iter().find(|name| name.ends_with(".part")).unwrap();
    std::fs::remove_file(scratch.path(&part)).unwrap();
    std::os::unix::fs::symlink(&local, scratch.path(&part)).unwrap();
    assert!(files.transfer().resume(true).download("file", &back).is_err());
    assert!(std::fs::read(&local).unwrap() == other);
}

#[test]
fn a_checksum_gets_by_with_one_session() {
    let client = Client::new(config().max_sessions(1)).unwrap();
    let (sandbox, scratch, bytes) = (create(&client), Scratch::new(), noise((40 << 20) + 1));
    std::fs::write(scratch.path("there"), &bytes).unwrap();
    let mut transfer = sandbox.files().transfer().checksum(true);
    assert_eq!(transfer.upload(scratch.path("there"), "file").unwrap().sha256, Some(sha256(&bytes)));
    assert_eq!(transfer.download("file", scratch.path("back")).unwrap().sha256, Some(sha256(&bytes)));
    assert!(std::fs::read(scratch.path("back")).unwrap() == bytes);
}

#[test]
fn readers_and_writers_of_any_kind() {
    over_every_transport(|_, sandbox| {
        let (files, bytes) = (sandbox.files(), noise(5_000_000));
        let moved = files.transfer().checksum(true).upload_from(&bytes[..], "file").unwrap();
        assert_eq!((moved.bytes, moved.sha256), (5_000_000, Some(sha256(&bytes))));
        let mut back = Vec::new();
        let moved = files.transfer().checksum(true).download_to("file", &mut back).unwrap();
        assert!(moved.bytes == 5_000_000 && back == bytes);

        struct Failing(usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(buffer.len()).ok_or_else(|| io::Error::other("worn out"))?;
                Ok(buffer.len())
            }
        }
        let error = files.transfer().upload_from(Failing(20 << 20), "file").unwrap_err();
        assert!(error.kind() == ErrorKind::Transfer && error.to_string().contains("worn out"), "{error}");
        assert!(error.to_string().contains("'file' in the sandbox"), "{error}");
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = files.transfer().download_to("file", full).unwrap_err();
        assert!(error.kind() == ErrorKind::Transfer && error.to_string().contains("No space left"), "{error}");
        assert!(error.to_string().contains("'file' in the sandbox"), "{error}");
        await_no_parts(sandbox);
        assert!(files.read("file").unwrap() == bytes);
        let error = files.transfer().resume(true).upload_from(&bytes[..], "file").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        let error = files.transfer().resume(true).download_to("file", io::sink()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        // Files of two sandboxes are readers and writers too.
        let source = files.open("file").unwrap();
        files.transfer().upload_from(source, "copy").unwrap();
        assert!(files.read("copy").unwrap() == bytes);
    });
}

#[test]
fn a_frozen_server_is_a_timeout_that_names_the_file() {
    for &transport in steady_transports() {
        let (patient, hasty) = (client_over(transport), config().transport(transport));
        let hasty = Client::new(hasty.transfer_timeout(Duration::from_secs(6))).unwrap();
        let sandbox = create(&patient);
        let (scratch, frozen) = (Scratch::new(), hasty.attach(sandbox.name()).unwrap());
        let (local, back) = (scratch.path("local"), scratch.path("back"));
        std::fs::write(&local, noise(SIZE)).unwrap();
        std::fs::write(&back, "old").unwrap();
        sandbox.upload_file(&local, "big").unwrap();
        sandbox.files().write("file", "old").unwrap();
        let mut ice = None;
        let freeze = |progress: &Progress<'_>| {
            if progress.done > 8 << 20 && ice.is_none() {
                ice = Some(freeze_connections(&sandbox));
            }
            Ok(())
        };
        let began = Instant::now();
        let upload = frozen.files().transfer().progress(freeze).upload(&local, "file").unwrap_err();
        assert_eq!(upload.kind(), ErrorKind::TimedOut, "{upload}");
        assert!(
            upload.to_string().contains("'file' in the sandbox") && upload.to_string().contains("byte "),
            "{upload}"
        );
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        drop(ice);
        let mut ice = None;
        let freeze = |progress: &Progress<'_>| {
            if progress.done > 8 << 20 && ice.is_none() {
                ice = Some(freeze_connections(&sandbox));
            }
            Ok(())
        };
        let download = frozen.files().transfer().progress(freeze).download("big", &back).unwrap_err();
        assert_eq!(download.kind(), ErrorKind::TimedOut, "{download}");
        assert!(download.to_string().contains("'big' in the sandbox"), "{download}");
        drop(ice);
        assert_eq!(sandbox.files().read("file").unwrap(), b"old");
        await_no_parts(&sandbox);
        assert_eq!((std::fs::read(&back).unwrap(), parts(&sandbox).len()), (b"old".to_vec(), 0));
        assert_eq!(sandbox.upload_file(&local, "file").unwrap(), SIZE as u64);
    }
}
