//! A command runs at most once: the connection is cut before, while and after it is requested, by a server that ends it
//! and by one that stands still. What a pulled cable does is in `cable.rs`, and a server that lies in `hostile.rs`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::time::{Duration, Instant};

use common::{
    await_that, beside, client_over, create, disconnect, freeze_connections, is_late_end, over_every_transport,
    steady_transports, transports, waits_to_be_read,
};
use sandbox::{ErrorKind, Sandbox};

fn runs(sandbox: &Sandbox) -> usize {
    beside(sandbox, "cat runs 2> /dev/null || true").lines().count()
}

/// Lines of a script so long that not all of it is sent while nobody reads.
const LINES: usize = 600_000;

fn long_script() -> String {
    "echo run >> runs\n".repeat(LINES)
}

/// Does `then` when a long script has arrived in part at a server that stands still, which goes on afterwards.
fn with_half_a_script<T: Send>(sandbox: &Sandbox, run: impl FnOnce() -> T + Send, then: impl FnOnce()) -> T {
    sandbox.execute("true").unwrap();
    let frozen = freeze_connections(sandbox);
    std::thread::scope(|scope| {
        let running = scope.spawn(run);
        await_that("the script to arrive in part", || waits_to_be_read(sandbox));
        then();
        let result = running.join().unwrap();
        drop(frozen);
        result
    })
}

#[test]
fn cut_before_the_request_it_runs_on_another_connection() {
    for &transport in transports() {
        let sandbox = &create(&client_over(transport));
        sandbox.execute("true").unwrap();
        disconnect(sandbox);
        match sandbox.execute("echo run >> runs") {
            Err(e) if is_late_end(transport, &e) => {
                assert!(runs(sandbox) <= 1, "{e}");
            }
            result => {
                assert!(result.unwrap().status.success());
                assert_eq!(runs(sandbox), 1);
            }
        }
    }
}

#[test]
fn stopped_before_the_request_its_outcome_is_not_known() {
    for &transport in steady_transports() {
        let sandbox = &create(&client_over(transport));
        sandbox.execute("true").unwrap();
        let frozen = freeze_connections(sandbox);
        let began = Instant::now();
        let command = sandbox.shell("echo run >> runs").timeout(Duration::from_millis(500));
        let error = command.output().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("did not confirm"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        drop(frozen);
        assert!(command.timeout(None).status().unwrap().success());
        // The one that had timed out: it was sent, and cancelled.
        assert!((1..=2).contains(&runs(sandbox)));
    }
}

#[test]
fn cut_while_a_long_script_is_on_its_way_it_runs_once_on_another_connection() {
    for &transport in steady_transports() {
        let sandbox = &create(&client_over(transport));
        let result = with_half_a_script(sandbox, || sandbox.execute(long_script()), || disconnect(sandbox));
        assert!(result.unwrap().status.success());
        assert_eq!(runs(sandbox), LINES);
    }
}

#[test]
fn stopped_while_a_long_script_is_on_its_way_no_part_of_it_runs() {
    for &transport in steady_transports() {
        let sandbox = &create(&client_over(transport));
        // Enough for the script to arrive in part.
        let run = || sandbox.shell(long_script()).timeout(Duration::from_secs(8)).output().unwrap_err();
        let error = with_half_a_script(sandbox, run, || ());
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("no request was sent"), "{error}");
        assert!(sandbox.execute("true").unwrap().status.success());
        assert_eq!(runs(sandbox), 0);
    }
}

#[test]
fn cut_after_the_request_it_may_have_run() {
    over_every_transport(|_, sandbox| {
        let error = std::thread::scope(|scope| {
            let running = scope.spawn(|| sandbox.execute("echo run >> runs; sleep 1000").unwrap_err());
            await_that("the command to run", || runs(sandbox) == 1);
            disconnect(sandbox);
            running.join().unwrap()
        });
        assert_eq!(error.kind(), ErrorKind::OutcomeUnknown, "{error}");
        assert!(!error.is_retryable());
        assert_eq!(runs(sandbox), 1);
        // It was killed, since nobody waits for it any more.
        await_that("the command to end", || beside(sandbox, "pgrep -c sleep || true") == "0\n");
    });
}

#[test]
fn stopped_after_the_request_it_is_told_apart_from_a_confirmed_end() {
    over_every_transport(|_, sandbox| {
        let began = Instant::now();
        let (error, took) = std::thread::scope(|scope| {
            let running = scope.spawn(|| {
                let command = sandbox.shell("echo run >> runs; sleep 1000").timeout(Duration::from_secs(5));
                let error = command.output().unwrap_err();
                (error, began.elapsed())
            });
            await_that("the command to run", || runs(sandbox) == 1);
            let frozen = freeze_connections(sandbox);
            let result = running.join().unwrap();
            // Other connections are not affected.
            assert!(sandbox.execute("true").unwrap().status.success());
            // The time limit is kept in the sandbox too.
            await_that("the command to end", || beside(sandbox, "pgrep -c sleep || true") == "0\n");
            drop(frozen);
            result
        });
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("did not confirm"), "{error}");
        assert!(took < Duration::from_secs(40), "{took:?}");
        assert_eq!(runs(sandbox), 1);
    });
}
