//! Commands that outlive their connection: one start per key, found again by another client, read on, waited for,
//! killed.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::time::{Duration, Instant};

use common::{
    await_that, beside, client, client_over, config, create, disconnect, freeze_connections, noise,
    over_every_transport, steady_transports, waits_to_be_read,
};
use sandbox::{Client, Error, ErrorKind, OutputStream, Position, Sandbox, Transport};

const MINUTE: Duration = Duration::from_secs(60);

/// The same sandbox as another process would have it.
fn from_elsewhere(sandbox: &Sandbox) -> Sandbox {
    client().attach(sandbox.name()).unwrap()
}

#[test]
fn it_runs_on_without_its_client_and_is_found_again() {
    over_every_transport(|_, sandbox| {
        // A client of its own, which is gone with its connections before the command ends.
        let starter = from_elsewhere(sandbox);
        let line = "echo first; until [ -e go ]; do sleep 0.05; done; cat; echo last >&2; exit 5";
        let started = starter.shell(line).env("NAME", "value").stdin("its input").detach("job-1").unwrap();
        assert_eq!((started.key(), started.try_wait().unwrap()), ("job-1", None));
        drop((started, starter));
        let found = from_elsewhere(sandbox).detached("job-1").unwrap();
        await_that("the first line", || found.read(OutputStream::Stdout, 0, 100).unwrap() == b"first\n");
        assert_eq!(found.wait(Duration::from_millis(300)).unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(found.try_wait().unwrap(), None, "waiting does it no harm");
        sandbox.files().write("go", "").unwrap();
        assert_eq!(found.wait(MINUTE).unwrap().code(), Some(5));
        assert_eq!(found.try_wait().unwrap().unwrap().code(), Some(5));
        assert_eq!(found.read(OutputStream::Stdout, 6, 100).unwrap(), b"its input");
        assert_eq!(found.read(OutputStream::Stdout, 6, 3).unwrap(), b"its");
        assert_eq!(found.read(OutputStream::Stdout, 1000, 100).unwrap(), b"");
        assert_eq!(found.read(OutputStream::Stderr, 0, 100).unwrap(), b"last\n");
        found.remove().unwrap();
        assert_eq!(found.try_wait().unwrap_err().kind(), ErrorKind::DetachedNotFound);
        assert_eq!(sandbox.execute("ls -A /tmp /dev/shm").unwrap().stdout, b"/dev/shm:\n\n/tmp:\n", "no trace is left");
    });
}

#[test]
fn a_key_starts_once_however_many_ask() {
    let client = client();
    let sandbox = create(&client);
    let command = sandbox.shell("echo run >> runs; sleep 0.3; cat").stdin(noise(300_000));
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..20).map(|_| scope.spawn(|| command.detach("once").unwrap().wait(MINUTE).unwrap())).collect();
        all.into_iter().for_each(|one| assert_eq!(one.join().unwrap().code(), Some(0)));
    });
    assert_eq!(command.detach("once").unwrap().wait(None).unwrap().code(), Some(0));
    assert_eq!(sandbox.execute("cat runs").unwrap().stdout, b"run\n");
    let again = sandbox.detached("once").unwrap();
    assert!(again.read(OutputStream::Stdout, 0, 1 << 20).unwrap() == noise(300_000));
    // Anything else under the same key is a mistake.
    for other in [sandbox.command("true"), command.clone().env("A", "b"), command.clone().stdin("other")] {
        assert_eq!(other.detach("once").unwrap_err().kind(), ErrorKind::Conflict);
    }
    again.remove().unwrap();
    command.detach("once").unwrap().wait(MINUTE).unwrap();
    assert_eq!(sandbox.execute("cat runs").unwrap().stdout, b"run\nrun\n");
}

#[test]
fn a_start_that_loses_its_connection_is_no_second_start() {
    for &transport in steady_transports() {
        let sandbox = &create(&client_over(transport));
        let line = "echo run >> runs; sleep 0.3; echo done";
        // The input is so long that its connection is cut while it is on its way.
        let command = sandbox.shell(line).stdin(noise(30 << 20));
        sandbox.execute("true").unwrap();
        let detached = std::thread::scope(|scope| {
            let frozen = freeze_connections(sandbox);
            let starting = scope.spawn(|| command.detach("job").unwrap());
            await_that("the input to arrive in part", || waits_to_be_read(sandbox));
            disconnect(sandbox);
            drop(frozen);
            starting.join().unwrap()
        });
        assert_eq!(detached.wait(MINUTE).unwrap().code(), Some(0));
        assert_eq!(beside(sandbox, "cat runs"), "run\n");
        assert_eq!(detached.read(OutputStream::Stdout, 0, 100).unwrap(), b"done\n");
    }
}

#[test]
fn a_wait_and_a_stream_outlive_their_connections() {
    over_every_transport(|_, sandbox| {
        let line = "until [ -e go ]; do sleep 0.05; done; for n in 1 2 3 4 5 6; do seq 1 20000; echo $n >&2; sleep 0.2; done; exit 3";
        let detached = sandbox.shell(line).detach("job").unwrap();
        let (mut position, mut out, mut err, mut cuts) = (Position::default(), Vec::new(), Vec::new(), 0);
        let status = std::thread::scope(|scope| {
            let elsewhere = from_elsewhere(sandbox).detached("job").unwrap();
            assert_eq!(elsewhere.try_wait().unwrap(), None, "it is connected");
            sandbox.files().write("go", "").unwrap();
            let waiting = scope.spawn(move || elsewhere.wait(MINUTE));
            let status = detached.stream(&mut position, |stream, bytes| {
                match stream {
                    OutputStream::Stdout => out.extend_from_slice(bytes),
                    OutputStream::Stderr => err.extend_from_slice(bytes),
                }
                if cuts == 0 && out.len() > 100_000 {
                    cuts += 1;
                    disconnect(sandbox);
                }
                Ok(())
            });
            assert_eq!(waiting.join().unwrap().unwrap().code(), Some(3));
            status.unwrap()
        });
        assert_eq!((status.code(), cuts), (Some(3), 1));
        assert!(out == (1..=20_000).flat_map(|n| format!("{n}\n").into_bytes()).collect::<Vec<_>>().repeat(6));
        assert_eq!(err, b"1\n2\n3\n4\n5\n6\n");
        assert_eq!(position, Position::new(out.len() as u64, 12));
        // From where one left off.
        let (mut position, mut rest) = (Position::new(out.len() as u64 - 6, 10), Vec::new());
        let gather = |_, bytes: &[u8]| {
            rest.extend_from_slice(bytes);
            Ok(())
        };
        detached.stream(&mut position, gather).unwrap();
        rest.sort_unstable();
        assert_eq!(rest, b"\n\n000026");
    });
}

#[test]
fn a_receiver_that_fails_leaves_the_command_alone() {
    let client = client();
    let sandbox = create(&client);
    let detached = sandbox.shell("echo one; sleep 0.5; echo two").detach("job").unwrap();
    let mut position = Position::default();
    let error = detached.stream(&mut position, |_, _| Err(Error::cancelled("enough"))).unwrap_err();
    assert!(error.to_string().contains("the command itself goes on: enough"), "{error}");
    assert_eq!((error.kind(), position), (ErrorKind::Cancelled, Position::default()));
    let mut text = Vec::new();
    let gather = |_, bytes: &[u8]| {
        text.extend_from_slice(bytes);
        Ok(())
    };
    assert!(detached.stream(&mut position, gather).unwrap().success());
    assert_eq!((text, position.stdout), (b"one\ntwo\n".to_vec(), 8));
}

#[test]
fn a_kill_reaches_all_and_a_signal_is_not_an_exit_code() {
    over_every_transport(|_, sandbox| {
        let line = "trap '' TERM; sleep 1001 & setsid sleep 1002 & sleep 1003";
        let detached = sandbox.shell(line).detach("stubborn").unwrap();
        assert_eq!(detached.remove().unwrap_err().kind(), ErrorKind::Conflict);
        await_that("its children to be there", || {
            sandbox.execute("pgrep -xfc 'sleep 100[123]'").unwrap().stdout == b"3\n"
        });
        detached.kill().unwrap();
        assert_eq!(detached.try_wait().unwrap().unwrap().signal(), Some("KILL"));
        assert_eq!(sandbox.execute("pgrep -xf 'sleep 100[123]'").unwrap().stdout, b"");
        detached.kill().unwrap();
        let polite = sandbox.command("sleep").arg("1000").detach("polite").unwrap();
        polite.signal("TERM").unwrap();
        assert_eq!(polite.wait(MINUTE).unwrap().signal(), Some("TERM"));
        assert_eq!(polite.signal("no signal").unwrap_err().kind(), ErrorKind::InvalidArgument);
        let exits = sandbox.shell("exit 137").detach("exits").unwrap();
        assert_eq!(exits.wait(MINUTE).unwrap().code(), Some(137));
        let handled = sandbox.shell("trap 'exit 9' INT; while :; do sleep 0.05; done").detach("handled").unwrap();
        handled.signal("INT").unwrap();
        let status = handled.wait(MINUTE).unwrap();
        // Before its trap is set, the signal ends it.
        assert!(status.code() == Some(9) || status.signal() == Some("INT"), "{status}");
        let running = sandbox.command("sleep").arg("1000").detach("running").unwrap();
        assert!(running.signal("NOSUCH").is_err_and(|e| e.kind() == ErrorKind::InvalidArgument));
        running.kill().unwrap();
    });
}

#[test]
fn its_own_timeout_counts_without_anybody_there() {
    // The configured timeout does not count for it.
    let client = Client::new(config().command_timeout(Duration::from_secs(8)).transport(Transport::Tunnel)).unwrap();
    let sandbox = create(&client);
    let line = "echo before; setsid sleep 1002 & sleep 1001";
    let limited = sandbox.shell(line).timeout(Duration::from_secs(5)).detach("limited").unwrap();
    let free = sandbox.shell("sleep 12; echo over").detach("free").unwrap();
    let error = limited.wait(MINUTE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(error.to_string().contains("reached its timeout"), "{error}");
    assert_eq!(limited.read(OutputStream::Stdout, 0, 100).unwrap(), b"before\n");
    assert_eq!(sandbox.execute("pgrep -xf 'sleep 100[12]'").unwrap().stdout, b"");
    assert_eq!(free.wait(MINUTE).unwrap().code(), Some(0));
}

#[test]
fn what_never_ran_and_what_can_not_be_is_told() {
    let client = client_over(Transport::Tunnel);
    let sandbox = create(&client);
    let error = sandbox.command("no-such-program").detach("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command, "{error}");
    assert!(error.to_string().contains("there is no program 'no-such-program'"), "{error}");
    assert!(sandbox.command("true").detach("a").unwrap().wait(MINUTE).unwrap().success(), "the key is free");
    assert_eq!(sandbox.shell("exit 127").detach("b").unwrap().wait(MINUTE).unwrap().code(), Some(127));
    for wrong in ["", "-x", ".x", "a/b", "a b", "a\n", &"x".repeat(65)] {
        assert_eq!(sandbox.detached(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert_eq!(sandbox.command("true").detach(wrong).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    assert_eq!(sandbox.detached("nobody").unwrap().kill().unwrap_err().kind(), ErrorKind::DetachedNotFound);
    let on_a_terminal = sandbox.command("true").terminal("vt100", 80, 24);
    assert_eq!(on_a_terminal.detach("c").unwrap_err().kind(), ErrorKind::InvalidArgument);
    let from_a_reader = sandbox.command("cat").stdin(sandbox::Stdin::reader(std::io::empty()));
    assert_eq!(from_a_reader.detach("d").unwrap_err().kind(), ErrorKind::InvalidArgument);
    // The one who would know the status is killed.
    let watched =
        sandbox.shell("until [ -e go ]; do sleep 0.05; done; kill -9 $PPID; sleep 1000").detach("watched").unwrap();
    sandbox.files().write("go", "").unwrap();
    let began = Instant::now();
    let error = watched.wait(MINUTE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
    assert!(began.elapsed() < MINUTE);
}

#[test]
fn a_megabyte_of_script_runs_detached() {
    let client = client();
    let sandbox = create(&client);
    let script = format!("{}printf done", ": a comment of a script\n".repeat(45_000));
    let detached = sandbox.shell(script).detach("long").unwrap();
    assert!(detached.wait(MINUTE).unwrap().success());
    assert_eq!(detached.read(OutputStream::Stdout, 0, 100).unwrap(), b"done");
}
