//! Directory trees of a real sandbox: faithful, whole or not at all, and harmless whatever the sandbox sends.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Scratch, client, client_over, config, create, disconnect, freeze_connections, noise, over_every_transport,
    steady_transports,
};
use sandbox::{Client, Error, ErrorKind, Progress, Sandbox};

/// A local tree with one of everything.
fn grow(root: &Path) {
    fs::create_dir_all(root.join("empty")).unwrap();
    fs::create_dir_all(root.join("d/e/f")).unwrap();
    let long = format!("d/{}", "long".repeat(60));
    for (name, contents, mode) in [
        ("plain", noise(100_000), 0o644),
        ("d/program", b"#!/bin/sh\n".to_vec(), 0o755),
        ("d/e/secret", b"secret".to_vec(), 0o600),
        ("d/e/f/nothing", Vec::new(), 0o444),
        (&long, b"long".to_vec(), 0o640),
    ] {
        fs::write(root.join(name), contents).unwrap();
        fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(root.join(OsStr::from_bytes(b"d/odd \xff\n'name")), "odd").unwrap();
    symlink("plain", root.join("link")).unwrap();
    symlink("../../plain", root.join("d/e/up")).unwrap();
    symlink("no/where", root.join("broken")).unwrap();
    let program = fs::File::options().write(true).open(root.join("d/program")).unwrap();
    program.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_234_567_890)).unwrap();
    fs::set_permissions(root.join("d/e"), fs::Permissions::from_mode(0o750)).unwrap();
    for name in ["empty", "d/e"] {
        let directory = fs::File::open(root.join(name)).unwrap();
        directory.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    }
}

/// All that a tree is, by name.
fn seen(root: &Path) -> BTreeMap<Vec<u8>, (u32, i64, Vec<u8>)> {
    let (mut seen, mut open) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let (path, found) = (entry.as_ref().unwrap().path(), entry.unwrap().metadata().unwrap());
            let contents = match found.file_type() {
                kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
                kind if kind.is_dir() => {
                    open.push(path.clone());
                    Vec::new()
                }
                _ => fs::read(&path).unwrap(),
            };
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            seen.insert(name, (found.mode(), found.mtime(), contents));
        }
    }
    seen
}

fn leftovers(sandbox: &Sandbox) -> String {
    sandbox.execute("find . /dev/shm -name '.sandbox-*.part*' 2> /dev/null").unwrap().stdout_text().into_owned()
}

#[test]
fn a_tree_travels_there_and_back() {
    over_every_transport(|_, sandbox| {
        let scratch = Scratch::new();
        let (there, back) = (scratch.path("there"), scratch.path("back"));
        grow(&there);
        let _socket = std::os::unix::net::UnixListener::bind(there.join("socket")).unwrap();
        let mut told = Vec::new();
        let record = |progress: &Progress<'_>| {
            told.push((progress.done, progress.total));
            Ok(())
        };
        let report =
            sandbox.files().transfer().progress(record).sync(true).checksum(true).upload_dir(&there, "new").unwrap();
        assert_eq!((report.files, report.directories, report.symlinks, report.skipped), (6, 5, 3, 1));
        assert_eq!((report.bytes, &report.notes[0].text[..]), (100_023, "a socket"));
        assert_eq!(told[told.len() - 1], (100_023, Some(100_023)));
        let listed = sandbox
            .execute("stat -c '%a %Y' new/d/program new/empty new/d/e; readlink new/d/e/up; cat new/d/odd*")
            .unwrap();
        assert_eq!(listed.stdout_text(), "755 1234567890\n755 1000000000\n750 1000000000\n../../plain\nodd");

        sandbox
            .execute(
                "cd new; mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'; \
            ln -s /etc/passwd out; ln plain hard; chmod u+s d/program",
            )
            .unwrap()
            .check()
            .unwrap();
        let report = sandbox.files().transfer().sync(true).checksum(true).download_dir("new", &back).unwrap();
        assert_eq!((report.files, report.directories, report.symlinks, report.skipped), (7, 5, 3, 3));
        let notes: BTreeMap<_, _> =
            report.notes.iter().map(|note| (note.path.to_str().unwrap(), &note.text[..])).collect();
        assert_eq!((notes["pipe"], notes["socket"]), ("a named pipe", "a socket"));
        assert_eq!(notes["out"], "a link that leads out of the tree, to '/etc/passwd'");
        assert_eq!(fs::metadata(back.join("hard")).unwrap().ino(), fs::metadata(back.join("plain")).unwrap().ino());
        fs::remove_file(back.join("hard")).unwrap();
        fs::remove_file(there.join("socket")).unwrap();
        let (sent, received) = (seen(&there), seen(&back));
        for (name, (mode, modified, contents)) in &received {
            let (sent_mode, sent_modified, sent_contents) = &sent[name];
            assert_eq!((mode, contents), (sent_mode, sent_contents), "{}", name.escape_ascii());
            // Something was removed in this directory.
            assert!(modified == sent_modified || name == b"d", "{}", name.escape_ascii());
        }
        assert_eq!(sent.len(), received.len());
        assert_eq!((leftovers(sandbox), scratch.names().len()), (String::new(), 2));
    });
}

#[test]
fn a_tree_is_merged_with_what_is_there() {
    over_every_transport(|_, sandbox| {
        let scratch = Scratch::new();
        let (there, back) = (scratch.path("there"), scratch.path("back"));
        grow(&there);
        sandbox
            .execute("mkdir -p t/d/e && echo old > t/plain && echo kept > t/d/kept && echo old > t/d/e/secret")
            .unwrap();
        sandbox.files().upload_dir(&there, "t/").unwrap();
        assert!(sandbox.files().read("t/plain").unwrap() == fs::read(there.join("plain")).unwrap());
        assert_eq!(sandbox.files().read("t/d/kept").unwrap(), b"kept\n");
        assert_eq!(sandbox.files().read("t/d/e/secret").unwrap(), b"secret");

        fs::create_dir_all(back.join("d/e")).unwrap();
        fs::write(back.join("plain"), "old").unwrap();
        fs::write(back.join("mine"), "mine").unwrap();
        let kept = fs::metadata(back.join("d/e")).unwrap().mode();
        sandbox.files().download_dir("t", &back).unwrap();
        let (sent, received) = (seen(&there), seen(&back));
        for (name, (mode, _, contents)) in &sent {
            let (received_mode, _, received) = &received[name];
            // What was there keeps its own.
            let is_kept = matches!(&name[..], b"d" | b"d/e");
            assert_eq!(
                (if is_kept { &kept } else { mode }, contents),
                (received_mode, received),
                "{}",
                name.escape_ascii()
            );
        }
        assert_eq!((&received[&b"mine"[..]].2[..], &received[&b"d/kept"[..]].2[..]), (&b"mine"[..], &b"kept\n"[..]));
        assert_eq!((leftovers(sandbox), received.len()), (String::new(), sent.len() + 2));
    });
}

#[test]
fn thousands_of_files_are_one_stream() {
    over_every_transport(|_, sandbox| {
        let scratch = Scratch::new();
        let there = scratch.path("there");
        for directory in 0..50 {
            fs::create_dir_all(there.join(format!("d{directory}"))).unwrap();
            for file in 0..100 {
                fs::write(there.join(format!("d{directory}/f{file}")), format!("{directory}/{file}")).unwrap();
            }
        }
        let began = Instant::now();
        assert_eq!(sandbox.files().upload_dir(&there, "many").unwrap().files, 5000);
        let up = began.elapsed();
        assert_eq!(sandbox.files().download_dir("many", scratch.path("back")).unwrap().files, 5000);
        println!("5000 files: {up:?} up, {:?} down", began.elapsed() - up);
        assert_eq!(fs::read(scratch.path("back/d49/f99")).unwrap(), b"49/99");
    });
}

#[test]
fn errors_name_what_is_wrong_and_leave_nothing() {
    let client = client();
    let (sandbox, scratch) = (create(&client), Scratch::new());
    let (files, there, back) = (sandbox.files(), scratch.path("there"), scratch.path("back"));
    fs::create_dir(&there).unwrap();
    fs::write(there.join("file"), noise(80 << 20)).unwrap();
    fs::write(scratch.path("file"), "x").unwrap();
    sandbox
        .execute("mkdir -p t/sub clash/file shrunk && echo x > t/sub/locked && chmod 0 t/sub/locked && echo x > file")
        .unwrap();
    for (error, kind, said) in [
        (files.upload_dir(scratch.path("none"), "x").unwrap_err(), ErrorKind::FileNotFound, "none"),
        (files.upload_dir(scratch.path("file"), "x").unwrap_err(), ErrorKind::NotADirectory, "ot a directory"),
        (files.upload_dir(&there, "file").unwrap_err(), ErrorKind::NotADirectory, "'file'"),
        (files.upload_dir(&there, "/no/such/x").unwrap_err(), ErrorKind::FileNotFound, "/no/such/x"),
        (files.upload_dir(&there, "/root/x").unwrap_err(), ErrorKind::PermissionDenied, "/root/x"),
        (files.upload_dir(&there, "/dev/shm/x").unwrap_err(), ErrorKind::StorageFull, "/dev/shm/x"),
        (
            files.upload_dir(&there, "clash").unwrap_err(),
            ErrorKind::IsADirectory,
            "a directory is where a file should go",
        ),
        (files.transfer().resume(true).upload_dir(&there, "x").unwrap_err(), ErrorKind::InvalidArgument, "resumed"),
        (files.transfer().resume(true).download_dir("t", &back).unwrap_err(), ErrorKind::InvalidArgument, "resumed"),
        (files.download_dir("none", &back).unwrap_err(), ErrorKind::FileNotFound, "none"),
        (files.download_dir("file", &back).unwrap_err(), ErrorKind::NotADirectory, "ot a directory"),
        (files.download_dir("t", &back).unwrap_err(), ErrorKind::PermissionDenied, "locked"),
        (files.download_dir("clash", scratch.path("file")).unwrap_err(), ErrorKind::NotADirectory, "file"),
        (files.download_dir("clash", scratch.path("no/x")).unwrap_err(), ErrorKind::FileNotFound, "no/x"),
        (files.transfer().max_entries(1).download_dir("t", &back).unwrap_err(), ErrorKind::Transfer, "entries"),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    assert_eq!((leftovers(&sandbox), scratch.names().len()), (String::new(), 2));
    // A file that grows is read up to where it was.
    let writer = sandbox.shell("mkdir log; while :; do echo line; done > log/growing").spawn().unwrap();
    common::await_that("the file to grow", || files.metadata("log/growing").is_ok_and(|found| found.len() > 1 << 20));
    let report = files.download_dir("log", &back).unwrap();
    writer.kill().unwrap();
    assert_eq!((report.files, fs::metadata(back.join("growing")).unwrap().len()), (1, report.bytes));
}

#[test]
fn a_cut_stream_leaves_what_was_there_and_can_be_repeated() {
    over_every_transport(|_, sandbox| {
        let (scratch, files) = (Scratch::new(), sandbox.files());
        let (there, back) = (scratch.path("there"), scratch.path("back"));
        fs::create_dir(&there).unwrap();
        for file in 0..16 {
            fs::write(there.join(format!("f{file}")), noise(8 << 20)).unwrap();
        }
        files.create_dir("old").unwrap();
        files.write("old/f0", "old").unwrap();
        fs::create_dir(&back).unwrap();
        fs::write(back.join("f0"), "old").unwrap();
        let cut = || {
            let mut is_cut = false;
            move |progress: &Progress<'_>| {
                if progress.done > 20 << 20 && !std::mem::replace(&mut is_cut, true) {
                    disconnect(sandbox);
                }
                Ok(())
            }
        };
        for target in ["old", "new"] {
            let error = files.transfer().progress(cut()).upload_dir(&there, target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
            assert!(error.to_string().contains(target) && error.to_string().contains("beyond 'f"), "{error}");
            assert!(!files.exists("new").unwrap() && files.read("old/f0").unwrap() == b"old");
            assert_eq!(leftovers(sandbox), "");
        }
        let cancel = |p: &Progress<'_>| if p.done > 9 << 20 { Err(Error::cancelled("enough")) } else { Ok(()) };
        let error = files.transfer().progress(cancel).upload_dir(&there, "new").unwrap_err();
        assert_eq!((error.kind(), leftovers(sandbox)), (ErrorKind::Cancelled, String::new()), "{error}");
        assert_eq!(files.upload_dir(&there, "new").unwrap().files, 16);

        for target in [&back, &scratch.path("fresh")] {
            let error = files.transfer().progress(cut()).download_dir("new", target).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
            assert!(error.to_string().contains("'new'") && error.to_string().contains("beyond 'f"), "{error}");
            assert_eq!((fs::read(back.join("f0")).unwrap(), scratch.names().len()), (b"old".to_vec(), 2));
            assert_eq!(fs::read_dir(&back).unwrap().count(), 1);
        }
        let error = files.transfer().progress(cancel).download_dir("new", &back).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
        assert_eq!(files.download_dir("new", &back).unwrap().files, 16);
        assert!(
            seen(&there)
                .into_iter()
                .map(|(name, found)| (name, found.2))
                .eq(seen(&back).into_iter().map(|(name, found)| (name, found.2)))
        );
    });
}

#[test]
fn a_frozen_server_ends_at_the_deadline() {
    for &transport in steady_transports() {
        let (patient, hasty) = (client_over(transport), config().transport(transport));
        let hasty = Client::new(hasty.transfer_timeout(Duration::from_secs(6))).unwrap();
        let sandbox = create(&patient);
        let (scratch, frozen) = (Scratch::new(), hasty.attach(sandbox.name()).unwrap());
        let there = scratch.path("there");
        fs::create_dir(&there).unwrap();
        fs::write(there.join("file"), noise(64 << 20)).unwrap();
        sandbox.files().upload_dir(&there, "big").unwrap();
        for is_upload in [true, false] {
            let mut ice = None;
            let freeze = |progress: &Progress<'_>| {
                if progress.done > 8 << 20 && ice.is_none() {
                    ice = Some(freeze_connections(&sandbox));
                }
                Ok(())
            };
            let began = Instant::now();
            let error = match is_upload {
                true => frozen.files().transfer().progress(freeze).upload_dir(&there, "new").unwrap_err(),
                false => {
                    frozen.files().transfer().progress(freeze).download_dir("big", scratch.path("back")).unwrap_err()
                }
            };
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
            assert!(error.to_string().contains("beyond 'file'"), "{error}");
            assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        }
        assert!(!sandbox.files().exists("new").unwrap() && scratch.names().len() == 1);
        common::await_that("the removal of what was left", || {
            // The frozen tar has to end first.
            sandbox.execute("rm -rf .sandbox-*.part").unwrap().status.success() && leftovers(&sandbox).is_empty()
        });
        sandbox.files().upload_dir(&there, "new").unwrap();
    }
}
