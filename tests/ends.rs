//! How sandboxes end: one watch tells a client of all that it uses, before a connection does.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Cable, Guarded, Position, await_that, client, client_over, config, create, create_from, kubectl,
    kubectl_with_input, position, signal_guest, transports,
};
use rustix::process::Signal;
use sandbox::{Cause, Client, Error, ErrorKind, Filter, LogLevel, LogLine, SandboxSpec, Transport, set_log_handler};

/// What the watch has said of ends.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn listen() {
    static ONCE: Once = Once::new();
    let keep = |line: &LogLine<'_>| LINES.lock().unwrap().push(line.message.to_string());
    ONCE.call_once(|| set_log_handler(LogLevel::Info, Some(Box::new(keep))).unwrap());
}

fn await_end(name: &str) {
    let said = format!("sandbox {name} has ended");
    await_that(&said, || LINES.lock().unwrap().iter().any(|line| line.contains(&said)));
}

fn cause(error: &Error) -> Option<Cause> {
    error.verdict().map(|verdict| verdict.cause)
}

fn delete(sandbox: &Guarded) {
    kubectl(&["delete", "pod", sandbox.name(), "--grace-period=1", "--wait=false"]);
}

fn evict(sandbox: &Guarded) {
    let (name, namespace) = (sandbox.name(), sandbox.info().unwrap().namespace);
    let eviction = serde_json::json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"gracePeriodSeconds": 1},
    });
    let url = format!("/api/v1/namespaces/{namespace}/pods/{name}/eviction");
    kubectl_with_input(&["create", "--raw", &url, "-f", "-"], &eviction.to_string());
}

/// What the controller of nodes says of a Pod whose node does not answer.
fn lose_the_node(sandbox: &Guarded) {
    let status = r#"{"status": {"phase": "Failed", "reason": "NodeLost", "message": "Node is gone"}}"#;
    kubectl(&["patch", "pod", sandbox.name(), "--subresource=status", "-p", status]);
}

#[test]
fn every_end_is_known_before_the_next_call() {
    listen();
    type End = fn(&Guarded);
    let ends: [(End, Cause); 5] = [
        (delete, Cause::Deleted),
        (evict, Cause::Evicted),
        (lose_the_node, Cause::NodeLost),
        (|sandbox| _ = sandbox.renew(Duration::from_secs(1)).unwrap(), Cause::Expired),
        (|sandbox| signal_guest(sandbox, Signal::KILL), Cause::Exited),
    ];
    for &transport in transports() {
        let client = client_over(transport);
        thread::scope(|scope| {
            for (end, expected) in ends {
                let client = &client;
                scope.spawn(move || {
                    let sandbox = create(client);
                    sandbox.execute("true").unwrap();
                    end(&sandbox);
                    await_end(sandbox.name());
                    let error = sandbox.execute("true").unwrap_err();
                    assert_eq!(cause(&error), Some(expected), "{error}");
                    let kind = if expected == Cause::Deleted { ErrorKind::NotFound } else { ErrorKind::Disconnected };
                    assert_eq!(error.kind(), kind, "{error}");
                    assert_eq!(cause(&sandbox.files().read("/etc/passwd").unwrap_err()), Some(expected));
                    assert_eq!(cause(&sandbox.connect(80).unwrap_err()), Some(expected));
                });
            }
        });
    }
}

#[test]
fn a_call_under_way_ends_though_its_connection_says_nothing() {
    listen();
    if position() == Position::Outside {
        return;
    }
    let client = client_over(Transport::Direct);
    let sandbox = create(&client);
    let cable = Cable::of(&sandbox);
    let (error, took) = thread::scope(|scope| {
        let running = scope.spawn(|| sandbox.execute("touch here; sleep 1203").unwrap_err());
        await_that("the command to run", || sandbox.execute("test -e here").unwrap().status.success());
        cable.pull();
        delete(&sandbox);
        await_end(sandbox.name());
        let told = Instant::now();
        (running.join().unwrap(), told.elapsed())
    });
    assert_eq!((error.kind(), cause(&error)), (ErrorKind::OutcomeUnknown, Some(Cause::Deleted)), "{error}");
    // By itself the connection is given up after half a minute.
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn one_watch_is_enough_for_all() {
    const COUNT: u64 = 4;
    listen();
    let maker = Client::new(config().owner("ends")).unwrap();
    // Those of one's own owner are followed first, those of the others as soon as one of them is used.
    for (owner, most_watches) in [("ends", 1), ("somebody-else", 2)] {
        let made: Vec<_> = (0..COUNT).map(|_| create(&maker)).collect();
        let user = Client::new(config().owner(owner)).unwrap();
        let used: Vec<_> = made.iter().map(|sandbox| user.attach(sandbox.name()).unwrap()).collect();
        await_that("the watch to begin", || user.stats().api_requests > COUNT);
        made.iter().for_each(delete);
        for sandbox in &used {
            // Both clients say so.
            let said = format!("sandbox {} has ended", sandbox.name());
            await_that(&said, || LINES.lock().unwrap().iter().filter(|line| line.contains(&said)).count() == 2);
            assert_eq!(cause(&sandbox.execute("true").unwrap_err()), Some(Cause::Deleted));
        }
        let requests = user.stats().api_requests;
        assert!((COUNT + 1..=COUNT + most_watches).contains(&requests), "{requests}");
    }
}

/// What a kubelet says that has the kernel kill all of a container when its memory is used up. This one's does not.
fn run_out_of_memory(sandbox: &Guarded) {
    let terminated = r#"{"exitCode": 137, "reason": "OOMKilled"}"#;
    let container = format!(r#"[{{"name": "sandbox", "state": {{"running": null, "terminated": {terminated}}}}}]"#);
    let status = format!(r#"{{"status": {{"phase": "Failed", "containerStatuses": {container}}}}}"#);
    kubectl(&["patch", "pod", sandbox.name(), "--subresource=status", "-p", &status]);
}

#[test]
fn one_that_runs_out_of_memory_says_what_it_used() {
    listen();
    let client = client();
    let sandbox = create_from(&client, &SandboxSpec::new().memory("64Mi"));
    assert_eq!(sandbox.usage().unwrap().memory_limit, Some(64 << 20));
    run_out_of_memory(&sandbox);
    await_end(sandbox.name());
    for error in [sandbox.execute("true").unwrap_err(), sandbox.usage().unwrap_err()] {
        let verdict = error.verdict().unwrap();
        let says_usage = verdict.message.contains(" of 67108864 bytes of memory were in use");
        assert_eq!((verdict.cause, says_usage), (Cause::OutOfMemory, true), "{error}");
    }
}

#[test]
fn a_watch_is_begun_by_short_waits_and_closed_in_a_long_one() {
    let client = client();
    let sandbox = create_from(&client, &SandboxSpec::new().label("watched", "once"));
    let changes = client.watch(&Filter::new().label("watched", "once")).unwrap();
    await_that("the first change", || {
        changes.next_within(Duration::ZERO).unwrap().is_some_and(|change| change.info.name == sandbox.name())
    });
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            loop {
                if let Err(e) = changes.next_within(None) {
                    return e;
                }
            }
        });
        // Mostly it waits by then, which can't be seen; before or in the wait, the end is the same.
        thread::sleep(Duration::from_millis(100));
        changes.close();
        assert_eq!(waiting.join().unwrap().kind(), ErrorKind::Closed);
    });
    assert_eq!(changes.next_within(Duration::ZERO).unwrap_err().kind(), ErrorKind::Closed);
}
