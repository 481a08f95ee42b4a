//! What is said when the server stops or is overrun.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::time::{Duration, Instant};

use common::{await_that, client, config, create, kubectl, over_every_transport, transports};
use sandbox::{Client, ErrorKind};

#[test]
fn a_server_that_stops_answering_is_told_from_one_that_confirms() {
    over_every_transport(|_, sandbox| {
        // The parent of the command's shell is the server's process for this connection.
        let began = Instant::now();
        let line = "echo before; kill -STOP $PPID; sleep 1000";
        let error = sandbox.shell(line).timeout(Duration::from_millis(700)).output().unwrap_err();
        let took = began.elapsed();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert!(error.to_string().contains("did not confirm"), "{error}");
        assert!(took < Duration::from_secs(6), "{took:?}");
        // Other sessions are not affected.
        assert!(sandbox.execute("true").unwrap().status.success());
    });
}

#[test]
fn a_server_that_takes_no_new_connection_is_a_failed_connect() {
    for &transport in transports() {
        let client = Client::new(config().transport(transport).connect_timeout(Duration::from_secs(2))).unwrap();
        let sandbox = create(&client);
        await_that("the address to be known", || sandbox.info().unwrap().pod_ip.is_some());
        // The main process of the container is the server that listens. The second command needs a second session.
        let error = std::thread::scope(|scope| {
            let busy =
                scope.spawn(|| sandbox.execute("pkill -STOP -o sshd; touch stopped; sleep 8; pkill -CONT -o sshd"));
            let look = ["exec", sandbox.name(), "--", "sh", "-c", "ls stopped 2> /dev/null || true"];
            await_that("the server to be stopped", || kubectl(&look).contains("stopped"));
            let error = sandbox.execute("echo run >> runs").unwrap_err();
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
    let sandboxes: Vec<_> = (0..2).map(|_| create(&client)).collect();
    for round in 0..2 {
        std::thread::scope(|scope| {
            for number in 0..200 {
                let sandbox = &sandboxes[if round == 0 { 0 } else { number % 2 }];
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
