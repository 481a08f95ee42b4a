//! What a timeout and an interruption do to a command's processes, and to a wait.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::cell::Cell;
use std::io::Read;
use std::time::{Duration, Instant};

use common::{client, create, over_every_transport};
use sandbox::{Error, ErrorKind, Sandbox, interruptible};

/// What ends the work of a thread once the sandbox has a process like this. It looks ten times, since what was written
/// before has to arrive as well.
fn once_there_is(sandbox: &Sandbox, pattern: &'static str) -> impl Fn() -> bool + 'static {
    let (sandbox, seen) = (sandbox.clone(), Cell::new(0));
    move || {
        let is_there = sandbox.command("pgrep").args(["-f", pattern]).status().unwrap().success();
        seen.set(seen.get() + u32::from(is_there));
        seen.get() == 10
    }
}

#[test]
fn an_interruption_kills_all_processes_and_keeps_the_output() {
    over_every_transport(|_, sandbox| {
        let command = sandbox.shell("echo before; trap '' TERM; sleep 1011 & setsid sleep 1012 & sleep 1013");
        let error = interruptible(once_there_is(sandbox, "slee[p] 1013"), || command.output()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(error.to_string().contains("all its processes were killed: interrupted"), "{error}");
        assert_eq!(error.partial_output().unwrap().stdout, b"before\n");
        let left = sandbox.execute("pgrep -af 'sleep 101[123]' | grep -v pgrep").unwrap();
        assert_eq!(left.stdout_text(), "");
    });
}

#[test]
fn an_interruption_ends_the_wait_for_what_runs_elsewhere() {
    let client = client();
    let sandbox = &create(&client);
    let mut child = sandbox.command("sleep").arg("1021").spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let is_up = || once_there_is(sandbox, "slee[p] 1021");
    let error = interruptible(is_up(), || child.wait()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let error = interruptible(is_up(), || stdout.read(&mut [0])).unwrap_err().downcast::<Error>().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    let child = sandbox.shell("echo before; exec sleep 1022").spawn().unwrap();
    let error = interruptible(once_there_is(sandbox, "slee[p] 1022"), || child.wait_with_output()).unwrap_err();
    assert_eq!((error.kind(), &error.partial_output().unwrap().stdout[..]), (ErrorKind::Cancelled, &b"before\n"[..]));
    let detached = sandbox.command("sleep").arg("1023").detach("interrupted").unwrap();
    let error = interruptible(once_there_is(sandbox, "slee[p] 1023"), || detached.wait(None)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.to_string().contains("the command itself goes on"), "{error}");
    assert!(detached.try_wait().unwrap().is_none());
    detached.kill().unwrap();
}

#[test]
fn a_timeout_kills_all_processes_and_keeps_the_output() {
    over_every_transport(|_, sandbox| {
        // One ignores the polite signal, one leaves the process group, one is an ordinary child.
        let line = "echo before; trap '' TERM; sleep 1001 & setsid sleep 1002 & sleep 1003";
        let began = Instant::now();
        let error = sandbox.shell(line).timeout(Duration::from_secs(5)).output().unwrap_err();
        let took = began.elapsed();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("all its processes were killed"), "{error}");
        assert_eq!(error.partial_output().unwrap().stdout, b"before\n");
        assert!(took < Duration::from_secs(30), "{took:?}");
        let left = sandbox.execute("pgrep -af 'sleep 100[123]' | grep -v pgrep").unwrap();
        assert_eq!(left.stdout_text(), "");
    });
}
