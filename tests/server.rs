//! What is said when the server takes no connection or is overrun.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::time::Duration;

use common::{await_that, beside, client, config, create, signal_guest, transports};
use rustix::process::Signal;
use sandbox::{Client, ErrorKind};

#[test]
fn a_server_that_takes_no_new_connection_is_a_failed_connect() {
    for &transport in transports() {
        let client = Client::new(config().transport(transport).connect_timeout(Duration::from_secs(20))).unwrap();
        let sandbox = create(&client);
        await_that("the address to be known", || sandbox.info().unwrap().pod_ip.is_some());
        // The second command needs a second session.
        let error = std::thread::scope(|scope| {
            let busy = scope.spawn(|| sandbox.execute("sleep 3"));
            await_that("the first session to be busy", || beside(&sandbox, "pgrep -c sleep || true") == "1\n");
            signal_guest(&sandbox, Signal::STOP);
            let error = sandbox.execute("echo run >> runs").unwrap_err();
            signal_guest(&sandbox, Signal::CONT);
            assert!(busy.join().unwrap().unwrap().status.success());
            error
        });
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(error.is_retryable(), "{error}");
        assert_eq!(sandbox.execute("cat runs 2> /dev/null || echo none").unwrap().stdout, b"none\n");
    }
}

#[test]
fn a_burst_of_commands_waits_its_turn() {
    let client = client();
    let sandboxes: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| create(&client))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for round in 0..2 {
        std::thread::scope(|scope| {
            for number in 0..200 {
                let sandbox = &sandboxes[if round == 0 { 0 } else { number % 8 }];
                scope.spawn(move || {
                    let output =
                        sandbox.shell("echo $NUMBER; exit 3").env("NUMBER", number.to_string()).output().unwrap();
                    assert_eq!(output.stdout_text(), format!("{number}\n"));
                    assert_eq!(output.status.code(), Some(3));
                });
            }
        });
    }
}
