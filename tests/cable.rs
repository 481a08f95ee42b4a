//! What is said when the cable of a sandbox is pulled. These tests run in the cluster's network only.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{
    Cable, Scratch, await_that, beside, client_over, config, create, disconnect, freeze_connections, noise,
    waits_to_be_read,
};
use sandbox::{Client, ErrorKind, Transport};

#[test]
fn a_pulled_cable_while_a_command_runs_is_an_unknown_outcome() {
    let client = client_over(Transport::Direct);
    let sandbox = create(&client);
    let cable = Cable::of(&sandbox);
    let (error, took) = std::thread::scope(|scope| {
        // It writes all the time, so that this side has something to acknowledge.
        let running = scope.spawn(|| {
            let error = sandbox.shell("echo run >> runs; while :; do echo x; sleep 0.1; done").output().unwrap_err();
            (error, Instant::now())
        });
        await_that("the command to run", || beside(&sandbox, "cat runs 2> /dev/null || true") == "run\n");
        let pulled = Instant::now();
        cable.pull();
        let (error, at) = running.join().unwrap();
        (error, at - pulled)
    });
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert!(took < Duration::from_secs(60), "{took:?}");
    assert!(error.partial_output().unwrap().stdout.starts_with(b"x\n"));
    cable.plug_in();
    assert_eq!(sandbox.execute("cat runs").unwrap().stdout, b"run\n");
}

#[test]
fn a_cable_pulled_between_commands_repeats_none_of_them() {
    let config = config().transport(Transport::Direct).connect_timeout(Duration::from_secs(20));
    let client = Client::new(config).unwrap();
    let sandbox = create(&client);
    let cable = Cable::of(&sandbox);
    cable.pull();
    // An idle session is there: a request is sent over it, and nobody knows how far it came.
    let began = Instant::now();
    let error = sandbox.execute("echo run >> runs").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert!(!error.is_retryable() && began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    // No new one can be made.
    let error = sandbox.execute("echo run >> runs").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.is_retryable(), "{error}");
    cable.plug_in();
    let runs = sandbox.execute("echo last >> runs; cat runs").unwrap().stdout_text().into_owned();
    assert!(["last\n", "run\nlast\n"].contains(&&*runs), "{runs}");
}

#[test]
fn a_cable_pulled_while_a_long_line_is_on_its_way_runs_no_part_of_it() {
    let client = client_over(Transport::Direct);
    let sandbox = create(&client);
    let cable = Cable::of(&sandbox);
    sandbox.execute("true").unwrap();
    let frozen = freeze_connections(&sandbox);
    let error = std::thread::scope(|scope| {
        let running = scope.spawn(|| sandbox.execute("echo run >> runs\n".repeat(600_000)).unwrap_err());
        await_that("the line to arrive in part", || waits_to_be_read(&sandbox));
        cable.pull();
        running.join().unwrap()
    });
    // Nothing was asked, so it was tried again.
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.is_retryable(), "{error}");
    cable.plug_in();
    disconnect(&sandbox);
    drop(frozen);
    assert_eq!(sandbox.execute("cat runs 2> /dev/null || echo none").unwrap().stdout, b"none\n");
}

/// Does something that moves bytes, with the cable pulled in the midst of it, and says what came of it. The cable is in
/// again.
fn pulled(cable: &Cable, run: impl FnOnce(&mut dyn FnMut(u64)) -> sandbox::Result<()>) -> sandbox::Error {
    let mut is_pulled = false;
    let began = Instant::now();
    let error = run(&mut |done| {
        if done > 8 << 20 && !std::mem::replace(&mut is_pulled, true) {
            cable.pull();
        }
    })
    .unwrap_err();
    cable.plug_in();
    assert!(is_pulled && began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    error
}

#[test]
fn a_cable_pulled_while_files_move_names_them_and_leaves_what_was_there() {
    let client = client_over(Transport::Direct);
    let (sandbox, scratch) = (create(&client), Scratch::new());
    let (files, cable) = (sandbox.files(), Cable::of(&sandbox));
    let tree = scratch.path("tree");
    std::fs::create_dir(&tree).unwrap();
    let local = tree.join("local");
    std::fs::write(&local, noise(64 << 20)).unwrap();
    std::fs::write(scratch.path("back"), "old").unwrap();
    files.upload_dir(&tree, "tree").unwrap();
    files.write("file", "old").unwrap();

    let error = pulled(&cable, |at| {
        let mut transfer = files.transfer().progress(|progress| {
            at(progress.done);
            Ok(())
        });
        transfer.upload(&local, "file").map(drop)
    });
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(error.to_string().contains("'file' in the sandbox can't be written beyond byte"), "{error}");
    let error = pulled(&cable, |at| {
        let mut transfer = files.transfer().progress(|progress| {
            at(progress.done);
            Ok(())
        });
        transfer.download_dir("tree", scratch.path("new")).map(drop)
    });
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(error.to_string().contains("beyond 'local'"), "{error}");
    assert_eq!(files.read("file").unwrap(), b"old");
    assert_eq!((std::fs::read(scratch.path("back")).unwrap(), scratch.names().len()), (b"old".to_vec(), 2));
    assert_eq!(files.upload(&local, "file").unwrap(), 64 << 20);
    assert_eq!(files.download_dir("tree", scratch.path("new")).unwrap().files, 1);
}

#[test]
fn a_pulled_cable_breaks_connections_and_a_forward_goes_on_after_it() {
    let config = config().transport(Transport::Direct).connect_timeout(Duration::from_secs(10));
    let client = Client::new(config).unwrap();
    let sandbox = create(&client);
    sandbox.files().write("ports.py", include_str!("common/ports.py")).unwrap();
    sandbox.command("python3").arg("ports.py").detach("ports").unwrap();
    sandbox.wait_for_port(Path::new("/home/sandbox/echo.sock"), Duration::from_secs(60)).unwrap();
    let forward = sandbox.forward(0, 7001).unwrap();
    let at = (Ipv4Addr::LOCALHOST, forward.port());
    let mut streams = [sandbox.connect(7001).unwrap(), TcpStream::connect(at).unwrap()];
    for stream in &mut streams {
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let cable = Cable::of(&sandbox);
    cable.pull();
    let began = Instant::now();
    for mut stream in streams {
        // The second one may know already.
        let broken = stream.write_all(b"into nothing").and_then(|()| stream.read(&mut [0])).unwrap_err();
        assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
    }
    assert!(began.elapsed() < Duration::from_secs(90), "{:?}", began.elapsed());
    // It may have waited for the session that the forward tries to make.
    let error = sandbox.connect(7001).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Connect | ErrorKind::TimedOut), "{error}");
    assert!(forward.is_open() && forward.last_failure().is_some());
    cable.plug_in();
    await_that("the forward to go on", || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(b"x").and_then(|()| stream.read_exact(&mut [0])).is_ok()
    });
}
