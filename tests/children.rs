//! Commands that run beside their caller: streams, signals, terminals, waiting.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use common::{await_that, client, create, disconnect, noise, over_every_transport};
use sandbox::ErrorKind;

#[test]
fn a_conversation_with_a_running_command() {
    over_every_transport(|_, sandbox| {
        let mut child = sandbox.shell("while read -r line; do echo \"got $line\"; done; exit 4").spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for round in 0..5 {
            writeln!(stdin, "{round}").unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), format!("got {round}"));
        }
        assert_eq!(child.try_wait().unwrap(), None);
        drop(stdin);
        assert!(lines.next().is_none());
        assert_eq!(child.wait().unwrap().code(), Some(4));
        assert_eq!(child.wait().unwrap().code(), Some(4));
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(4));
    });
}

#[test]
fn large_streams_in_all_directions_at_once() {
    over_every_transport(|_, sandbox| {
        let bytes = noise(32 << 20);
        let mut child = sandbox.shell("tee /dev/stderr").spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                stdin.write_all(&bytes).unwrap();
                drop(stdin);
            });
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success() && output.stdout == bytes && output.stderr == bytes);
        });
    });
}

#[test]
fn bytes_given_before_come_before_those_written() {
    let client = client();
    let sandbox = create(&client);
    let mut child = sandbox.command("cat").stdin("first ").spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"second").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"first second");
}

#[test]
fn signals_reach_the_command() {
    over_every_transport(|_, sandbox| {
        let line = "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done";
        let mut child = sandbox.shell(line).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        child.signal("INT").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "interrupted");
        assert_eq!(child.wait().unwrap().code(), Some(9));
        let mut child = sandbox.command("sleep").arg("100").spawn().unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some("KILL"));
        child.kill().unwrap();
        assert_eq!(child.signal("kill -9").unwrap_err().kind(), ErrorKind::InvalidArgument);
    });
}

#[test]
fn what_can_not_start_says_so_and_what_never_ran_too() {
    let client = client();
    let sandbox = create(&client);
    let error = sandbox.command("no-such-program").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command, "{error}");
    assert!(error.to_string().contains("there is no program 'no-such-program'"), "{error}");
    let error = sandbox.command("a\0b").spawn().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    sandbox.delete().unwrap();
    assert_eq!(sandbox.command("true").spawn().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_timeout_and_a_lost_connection_reach_the_waiter() {
    over_every_transport(|_, sandbox| {
        // A login is not part of what the time is for.
        sandbox.execute("true").unwrap();
        let mut child = sandbox.command("sleep").arg("1234").timeout(Duration::from_secs(5)).spawn().unwrap();
        let error = child.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert_eq!(child.wait().unwrap_err().to_string(), error.to_string());
        assert_eq!(sandbox.execute("pgrep -f 'sleep 123[4]'").unwrap().stdout, b"");
        let mut child = sandbox.command("sleep").arg("5").spawn().unwrap();
        disconnect(sandbox);
        assert_eq!(child.wait().unwrap_err().kind(), ErrorKind::OutcomeUnknown);
    });
}

#[test]
fn a_terminal_has_its_kind_and_size_and_can_change_it() {
    over_every_transport(|_, sandbox| {
        let line =
            "trap 'stty size; exit' WINCH; tty > /dev/null && echo $TERM; stty size; while :; do sleep 0.05; done";
        let mut child = sandbox.shell(line).terminal("vt100", 90, 33).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "vt100");
        assert_eq!(lines.next().unwrap().unwrap(), "33 90");
        child.resize(120, 40);
        assert_eq!(lines.next().unwrap().unwrap(), "40 120");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_dropped_child_runs_on_and_a_reader_that_goes_holds_nobody_up() {
    let client = client();
    let sandbox = create(&client);
    drop(sandbox.shell("sleep 0.5; seq 1 200000; echo done > finished").spawn().unwrap());
    await_that("the command to finish alone", || sandbox.files().read("finished").is_ok_and(|text| text == b"done\n"));
    let mut child = sandbox.shell("seq 1 2000000; exit 5").spawn().unwrap();
    let mut first = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}

#[test]
fn a_command_whose_output_nobody_reads_waits_and_loses_nothing() {
    let client = client();
    let sandbox = create(&client);
    let mut child = sandbox.shell("head -c 30000000 /dev/zero; echo over > over").spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().unwrap(), None, "the buffers are full");
    assert!(sandbox.files().read("over").is_err());
    let mut stdout = child.stdout.take().unwrap();
    let began = Instant::now();
    let copied = std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert_eq!((copied, child.wait().unwrap().code()), (30_000_000, Some(0)));
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_wait_ends_with_the_command_even_if_nobody_reads() {
    over_every_transport(|_, sandbox| {
        // Another process goes on writing, and its output fills all buffers.
        let mut child = sandbox.shell("yes & sleep 1000").spawn().unwrap();
        await_that("both to run", || {
            ["^ye[s]$", "^sleep 100[0]$"]
                .iter()
                .all(|pattern| sandbox.command("pgrep").args(["-f", pattern]).status().unwrap().success())
        });
        let began = Instant::now();
        child.signal("TERM").unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some("TERM"));
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    });
}

#[test]
fn a_signal_right_after_the_start_is_not_lost() {
    over_every_transport(|_, sandbox| {
        for _ in 0..20 {
            for name in ["KILL", "TERM", "INT"] {
                let mut child = sandbox.command("sleep").arg("100").spawn().unwrap();
                child.signal(name).unwrap();
                assert_eq!(child.wait().unwrap().signal(), Some(name));
            }
        }
    });
}

#[test]
fn a_size_given_before_an_input_is_there_when_that_is_read() {
    over_every_transport(|_, sandbox| {
        let line = "stty -echo; echo ready; while read -r line; do stty size; done";
        let mut child = sandbox.shell(line).terminal("vt100", 90, 33).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        for columns in 100..200 {
            child.resize(columns, 40);
            writeln!(stdin).unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), format!("40 {columns}"));
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some("KILL"));
    });
}
