//! What a timeout does, in a program of its own: nothing else takes the machine's time meanwhile.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::time::{Duration, Instant};

use common::over_every_transport;
use sandbox::ErrorKind;

#[test]
fn a_timeout_kills_all_processes_and_keeps_the_output() {
    over_every_transport(|_, sandbox| {
        // The server's process of an SFTP session can't be looked at, and is in nobody's way.
        sandbox.files().write("file", "").unwrap();
        // One ignores the polite signal, one leaves the process group, one is an ordinary child.
        let line = "echo before; trap '' TERM; sleep 1001 & setsid sleep 1002 & sleep 1003";
        let began = Instant::now();
        let error = sandbox.shell(line).timeout(Duration::from_secs(2)).output().unwrap_err();
        let took = began.elapsed();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(error.to_string().contains("all its processes were killed"), "{error}");
        assert_eq!(error.partial_output().unwrap().stdout, b"before\n");
        assert!(took < Duration::from_secs(2 + 10), "{took:?}");
        let left = sandbox.execute("pgrep -af 'sleep 100[123]' | grep -v pgrep").unwrap();
        assert_eq!(left.stdout_text(), "");
    });
}
