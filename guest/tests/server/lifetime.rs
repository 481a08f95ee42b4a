//! The start and the end of a guest.

use std::time::{Duration, Instant};

use sandbox_protocol::{ExitCode, Expiry, Renew, Request, Response};

use crate::client::Client;
use crate::guest::Guest;

fn renew(client: &mut Client, seconds: u64, shorten: bool) -> Expiry {
    let request = Request::Renew(Renew { lifetime_ms: Some(seconds * 1000), shorten });
    match client.ask(&request).response {
        Some(Response::Expiry(expiry)) => expiry,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_expires() {
    let began = Instant::now();
    let mut guest = Guest::with_arguments(&["--lifetime", "2"]);
    assert_eq!(guest.wait(), Some(ExitCode::Expired.code()));
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(guest.termination_log(), ExitCode::Expired.message().unwrap());
}

#[test]
fn it_is_renewed() {
    let mut guest = Guest::with_arguments(&["--lifetime", "3", "--hard-limit", "3600"]);
    let began = Instant::now();
    let mut client = Client::new(&guest);
    let expiry = renew(&mut client, 1000, false);
    assert!((990_000..=1_000_000).contains(&expiry.remaining_ms.unwrap()) && !expiry.limited, "{expiry:?}");
    assert!((3_590_000..=3_600_000).contains(&expiry.hard_remaining_ms.unwrap()), "{expiry:?}");
    // A second, shorter renewal does not shorten it, unless it says so.
    assert!(renew(&mut client, 10, false).remaining_ms.unwrap() > 900_000);
    let expiry = renew(&mut client, 1_000_000, false);
    assert!(expiry.limited && expiry.remaining_ms.unwrap() <= 3_600_000, "{expiry:?}");
    while began.elapsed() < Duration::from_millis(3200) {
        assert_eq!(client.shell("sleep 0.1; exit 1").code(), 1);
    }
    renew(&mut client, 1, true);
    assert_eq!(guest.wait(), Some(ExitCode::Expired.code()));
}

#[test]
fn what_it_can_not_start_with_is_in_the_termination_log() {
    let first = Guest::start();
    let directory = first.work();
    let try_with = |arguments: &[&str]| {
        let log = directory.join("reason");
        std::fs::write(&log, "").unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandbox-guest"));
        command.args(["serve", "--termination-log", log.to_str().unwrap(), "--address", "127.0.0.1"]).args(arguments);
        let status = command.stderr(std::process::Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(ExitCode::CannotStart.code()), "{arguments:?}");
        std::fs::read_to_string(log).unwrap()
    };
    let port = first.port.to_string();
    assert!(try_with(&["--port", &port]).contains(&format!("port {port} can't be listened on")));
    assert!(try_with(&["--port", "0", "--key", "no key"]).contains("a public key"));
}

#[test]
fn it_finds_its_way_without_a_home() {
    use crate::guest::Setting;
    let environment = vec![("HOME".to_owned(), "/".to_owned()), ("TMPDIR".to_owned(), "/no/such/directory".to_owned())];
    let guest = Guest::with(Setting { environment, ..Setting::default() });
    let mut client = Client::new(&guest);
    // A user that no file names, for whom a runtime says `/`.
    let answer = client.shell("echo $HOME; cd && touch x && pwd");
    let work = guest.work();
    assert_eq!(answer.text(), format!("{0}\n{0}\n", work.display()));
}

#[test]
fn it_ends_when_nothing_has_used_it() {
    let mut guest = Guest::with_arguments(&["--idle-timeout", "4"]);
    assert_eq!(Client::new(&guest).shell("sleep 6").code(), 0);
    let session = crate::client::connect(&guest);
    let file = session.sftp().unwrap().create(std::path::Path::new("open")).unwrap();
    let opened = Instant::now();
    while opened.elapsed() < Duration::from_secs(6) {
        assert!(!guest.has_ended(), "a file is open");
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(file);
    // What is connected and does nothing is no use.
    assert_eq!(guest.wait(), Some(ExitCode::Idle.code()));
    assert_eq!(guest.termination_log(), ExitCode::Idle.message().unwrap());
    drop(session);
}
