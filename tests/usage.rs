//! What a sandbox uses, and `sandbox top`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Duration;

use common::{await_that, client, create, create_from, over_every_transport};
use sandbox::SandboxSpec;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sandbox");
const MIB: u64 = 1 << 20;

#[test]
fn it_tells_what_its_commands_use() {
    over_every_transport(|client, sandbox| {
        await_that("the host key to be noted", || sandbox.info().unwrap().host_key.is_some());
        let before = sandbox.usage().unwrap();
        let line =
            "head -c 32M /dev/zero > /dev/shm/kept; head -c 64M /dev/zero | sha256sum; sleep 1201 & exec sleep 1202";
        let mut running = sandbox.shell(line).spawn().unwrap();
        BufReader::new(running.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        // Each thread counts.
        await_that("both to run", || sandbox.usage().unwrap().processes >= before.processes.map(|count| count + 2));
        let requests = client.stats().api_requests;
        let after = sandbox.usage().unwrap();
        assert_eq!(client.stats().api_requests, requests);
        assert!(after.cpu > before.cpu, "{before:?} {after:?}");
        assert!(after.memory >= before.memory.map(|bytes| bytes + 30 * MIB), "{before:?} {after:?}");
        assert!(after.memory_peak >= after.memory && after.memory < after.memory_limit, "{after:?}");
        // What comes through the API server comes over loopback.
        assert!(after.sent >= before.sent && before.sent > Some(0) && after.received >= before.received, "{after:?}");
        assert!(after.disk.unwrap() <= after.disk_limit.unwrap() && after.oom_kills == Some(0), "{after:?}");
        assert!(after.guest_memory.unwrap() < 32 * MIB && after.connections > 0 && after.commands == 1, "{after:?}");
    });
}

#[test]
fn limits_are_told_with_what_they_did() {
    let client = client();
    let sandbox = create_from(&client, &SandboxSpec::new().cpu("200m").memory("96Mi"));
    let usage = sandbox.usage().unwrap();
    assert_eq!(usage.memory_limit, Some(96 * MIB));
    assert_eq!(usage.oom_kills, Some(0));
    // More than its share, for a second.
    sandbox.execute("timeout 1 sh -c 'while :; do :; done'").unwrap();
    let status = sandbox.command("python3").args(["-c", "x = bytearray(400 << 20)"]).status().unwrap();
    assert_eq!(status.signal(), Some("KILL"));
    let usage = sandbox.usage().unwrap();
    assert!(usage.throttled > Some(Duration::ZERO), "{usage:?}");
    assert!(usage.oom_kills >= Some(1) && usage.memory_peak >= Some(90 * MIB), "{usage:?}");
}

#[test]
fn top_shows_what_runs() {
    let client = client();
    let (one, other) = (create(&client), create(&client));
    let _running = one.command("sleep").arg("1203").spawn().unwrap();
    await_that("the command to run", || one.usage().unwrap().commands == 1);
    let top = |args: &[&str]| Command::new(PROGRAM).arg("top").args(args).output().unwrap();
    let shown = top(&[one.name(), other.name()]);
    let text = String::from_utf8(shown.stdout).unwrap();
    let rows: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "CPU%", "TIME", "MEMORY", "LIMIT", "PEAK", "PROCESSES", "COMMANDS"]);
    assert_eq!((rows.len(), rows[1][0], rows[1][7], rows[2][0], rows[2][7]), (3, one.name(), "1", other.name(), "0"));
    let shown = top(&["--json"]);
    let all: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    let found = all.as_array().unwrap().iter().find(|found| found["name"] == one.name()).unwrap();
    assert!(found["memory"].as_u64().unwrap() > 0 && found["cpu_seconds"].as_f64().unwrap() > 0.0, "{found}");
    assert_eq!(found["commands"], 1);
    // What can be told is told.
    let shown = top(&[one.name(), "no-such-box"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&shown.stdout).contains(one.name()));
    assert!(String::from_utf8_lossy(&shown.stderr).contains("no-such-box"), "{shown:?}");
}
