//! A command runs at most once: the connection is cut before, while and after it is requested, by a server that is killed and by
//! one that stops. What a pulled cable does is in `cable.rs`, and a server that lies in `hostile.rs`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::time::{Duration, Instant};

use common::{
    CONNECTIONS, await_that, beside, client_over, create, create_with_slow_head, over_every_transport,
    steady_transports, transports,
};
use sandbox::{ErrorKind, Sandbox};

fn cut(sandbox: &Sandbox) {
    beside(sandbox, &format!("pkill -9 -f '{CONNECTIONS}'; while pgrep -f '{CONNECTIONS}'; do sleep 0.01; done"));
}

fn runs(sandbox: &Sandbox) -> usize {
    beside(sandbox, "cat runs 2> /dev/null || true").lines().count()
}

/// A line so long that it travels as input, whose beginning alone would run too.
fn long_line() -> String {
    "echo run >> runs\n".repeat(200_000)
}

/// Does `then` when a long line has arrived in part, and lets what there is of it be read afterwards.
fn with_half_a_line<T: Send>(sandbox: &Sandbox, run: impl FnOnce() -> T + Send, then: impl FnOnce()) -> T {
    std::thread::scope(|scope| {
        let running = scope.spawn(run);
        await_that("the line to arrive in part", || beside(sandbox, "ls waits 2> /dev/null || true") == "waits\n");
        then();
        let result = running.join().unwrap();
        let goes_on = format!("pkill -CONT -f '{CONNECTIONS}'; touch go");
        beside(sandbox, &format!("{goes_on}; while pgrep -x head > /dev/null; do sleep 0.01; done"));
        result
    })
}

#[test]
fn cut_before_the_request_it_runs_on_another_connection() {
    over_every_transport(|_, sandbox| {
        sandbox.execute("true").unwrap();
        cut(sandbox);
        assert!(sandbox.execute("echo run >> runs").unwrap().status.success());
        assert_eq!(runs(sandbox), 1);
    });
}

#[test]
fn stopped_before_the_request_nothing_was_asked() {
    for &transport in steady_transports() {
        let sandbox = &create(&client_over(transport));
        sandbox.execute("true").unwrap();
        beside(sandbox, &format!("pkill -STOP -f '{CONNECTIONS}'"));
        let began = Instant::now();
        let command = sandbox.shell("echo run >> runs").timeout(Duration::from_millis(500));
        let error = command.output().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("nothing was asked"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        beside(sandbox, &format!("pkill -CONT -f '{CONNECTIONS}'"));
        assert!(command.timeout(None).status().unwrap().success());
        assert_eq!(runs(sandbox), 1);
    }
}

#[test]
fn cut_while_a_long_line_is_on_its_way_no_part_of_it_runs() {
    for &transport in transports() {
        let sandbox = &create_with_slow_head(&client_over(transport));
        let error = with_half_a_line(sandbox, || sandbox.execute(long_line()).unwrap_err(), || cut(sandbox));
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        assert!(!error.is_retryable());
        assert_eq!(runs(sandbox), 0);
    }
}

#[test]
fn stopped_while_a_long_line_is_on_its_way_no_part_of_it_runs() {
    for &transport in transports() {
        let sandbox = &create_with_slow_head(&client_over(transport));
        // Enough for the line to arrive in part and for the server to be stopped.
        let run = || sandbox.shell(long_line()).timeout(Duration::from_secs(15)).output().unwrap_err();
        let stop = || drop(beside(sandbox, &format!("pkill -STOP -f '{CONNECTIONS}'")));
        let error = with_half_a_line(sandbox, run, stop);
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("did not confirm"), "{error}");
        assert!(sandbox.execute("true").unwrap().status.success());
        assert_eq!(runs(sandbox), 0);
    }
}

#[test]
fn cut_after_the_request_it_may_have_run() {
    over_every_transport(|_, sandbox| {
        // The parent of the command's shell is the server's process for this connection.
        let error = sandbox.execute("echo run >> runs; kill -9 $PPID; sleep 5").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        assert!(!error.is_retryable());
        assert_eq!(runs(sandbox), 1);
    });
}

#[test]
fn stopped_after_the_request_it_is_told_apart_from_a_confirmed_end() {
    over_every_transport(|_, sandbox| {
        sandbox.execute("true").unwrap();
        let began = Instant::now();
        let line = "echo run >> runs; kill -STOP $PPID; sleep 1000";
        let error = sandbox.shell(line).timeout(Duration::from_secs(5)).output().unwrap_err();
        let took = began.elapsed();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("did not confirm"), "{error}");
        assert!(took < Duration::from_secs(40), "{took:?}");
        // Other sessions are not affected.
        assert!(sandbox.execute("true").unwrap().status.success());
        assert_eq!(runs(sandbox), 1);
    });
}
