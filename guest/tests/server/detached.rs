//! Commands that outlive their connection.

use std::time::{Duration, Instant};

use sandbox_protocol::{
    Cause, DetachedFollow, DetachedKey, DetachedRead, DetachedSignal, DetachedStart, DetachedWait, FailureKind,
    Followed, FrameKind, Input, Request, Response, Run, Stage, Status, Stream,
};

use crate::client::{Answer, Client, run, shell};
use crate::guest::{Guest, wait_until};

fn start(key: &str, run: Run) -> Request {
    Request::DetachedStart(DetachedStart { key: key.to_owned(), run, output_limit: None })
}

fn wait(key: &str) -> Request {
    Request::DetachedWait(DetachedWait { key: key.to_owned(), timeout_ms: None })
}

fn status(key: &str) -> Request {
    Request::DetachedStatus(DetachedKey { key: key.to_owned() })
}

fn kill(key: &str) -> Request {
    Request::DetachedKill(DetachedKey { key: key.to_owned() })
}

fn remove(key: &str) -> Request {
    Request::DetachedRemove(DetachedKey { key: key.to_owned() })
}

fn read(key: &str, stream: Stream, offset: u64, limit: Option<u64>) -> Request {
    Request::DetachedRead(DetachedRead { key: key.to_owned(), stream, offset, limit })
}

fn follow(key: &str, stdout: u64, stderr: u64) -> Request {
    Request::DetachedFollow(DetachedFollow { key: key.to_owned(), stdout, stderr })
}

fn followed(answer: &Answer) -> &Followed {
    match &answer.response {
        Some(Response::Followed(followed)) => followed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_lives_on_and_is_found_again() {
    let guest = Guest::start();
    let go = guest.work().join("go");
    let line = format!("echo out; echo err >&2; until [ -e {} ]; do sleep 0.05; done; echo more; exit 5", go.display());
    let mut client = Client::new(&guest);
    let info = client.ask(&start("run-7", shell(&line)));
    assert!(info.detached().started && info.detached().ended.is_none() && info.detached().pid > 1);
    // The same request is the same command; another one is a conflict.
    assert!(!client.ask(&start("run-7", shell(&line))).detached().started);
    assert_eq!(client.ask(&start("run-7", run(&["true"]))).failure(), FailureKind::Conflict);
    assert_eq!(client.ask(&start("no key", run(&["true"]))).failure(), FailureKind::Invalid);
    drop(client);
    let mut client = Client::new(&guest);
    assert_eq!(client.ask(&status("run-7")).detached().ended, None);
    assert_eq!(client.ask(&remove("run-7")).failure(), FailureKind::Conflict);
    let timeout = Request::DetachedWait(DetachedWait { key: "run-7".to_owned(), timeout_ms: Some(50) });
    assert_eq!(client.ask(&timeout).detached().ended, None);
    // Three followers, of which one comes in the middle.
    let mut followers = [Client::new(&guest), Client::new(&guest), Client::new(&guest)];
    for (follower, from) in followers.iter_mut().zip([0, 0, 2]) {
        follower.request(&follow("run-7", from, 0));
    }
    let mut answers: Vec<Answer> = Vec::new();
    for (follower, expected) in followers.iter_mut().zip(["out\n", "out\n", "t\n"]) {
        let mut answer = Answer::default();
        let is_enough = |answer: &Answer| answer.stdout == expected.as_bytes() && answer.stderr == b"err\n";
        follower.receive_until(&mut answer, is_enough);
        answers.push(answer);
    }
    std::fs::write(go, "").unwrap();
    for (follower, answer) in followers.iter_mut().zip(answers) {
        let answer = follower.receive(answer);
        let followed = followed(&answer);
        assert_eq!((followed.stdout, followed.stderr), (9, 4));
        assert_eq!(followed.command.ended.as_ref().unwrap().status, Status::Code(5));
        assert!(answer.text().ends_with("more\n"));
    }
    let ended = client.ask(&wait("run-7")).detached().ended.clone().unwrap();
    assert_eq!((ended.status, ended.stdout, ended.stderr), (Status::Code(5), 9, 4));
    assert_eq!(client.ask(&read("run-7", Stream::Stdout, 0, None)).text(), "out\nmore\n");
    assert_eq!(client.ask(&read("run-7", Stream::Stdout, 4, Some(2))).text(), "mo");
    assert_eq!(client.ask(&read("run-7", Stream::Stderr, 1, Some(100))).stderr, b"rr\n");
    assert_eq!(client.ask(&read("run-7", Stream::Stdout, 1000, None)).stdout, b"");
    let Some(Response::DetachedList { commands }) = client.ask(&Request::DetachedList).response else { panic!("none") };
    assert_eq!(commands.iter().map(|command| command.key.as_str()).collect::<Vec<_>>(), ["run-7"]);
    assert_eq!(client.ask(&remove("run-7")).response, Some(Response::Done));
    for request in [status("run-7"), remove("run-7"), wait("run-7"), kill("run-7"), follow("run-7", 0, 0)] {
        assert_eq!(client.ask(&request).failure(), FailureKind::NotFound);
    }
    // The key is free for another command.
    assert!(client.ask(&start("run-7", run(&["true"]))).detached().started);
}

#[test]
fn it_starts_once() {
    let guest = Guest::start();
    let file = guest.work().join("runs");
    let line = format!("echo run >> {}", file.display());
    let started: Vec<bool> = std::thread::scope(|scope| {
        let one = || Client::new(&guest).ask(&start("once", shell(&line))).detached().started;
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(started.iter().filter(|started| **started).count(), 1);
    let mut client = Client::new(&guest);
    client.ask(&wait("once"));
    assert_eq!(std::fs::read_to_string(file).unwrap(), "run\n");
}

#[test]
fn input_comes_whole_or_it_does_not_start() {
    let guest = Guest::start();
    let file = guest.work().join("ran");
    let line = format!("touch {}; wc -c", file.display());
    let request = start("input", Run { stdin: Input::Frames, ..shell(&line) });
    let mut client = Client::new(&guest);
    client.request(&request);
    client.send(FrameKind::Stdin, b"half of it");
    drop(client);
    let mut client = Client::new(&guest);
    assert_eq!(client.ask(&status("input")).failure(), FailureKind::NotFound);
    client.request(&request);
    client.send(FrameKind::Stdin, b"half of it");
    client.send(FrameKind::Cancel, b"");
    assert_eq!(client.receive(Answer::default()).failure(), FailureKind::Cancelled);
    assert!(!file.exists());
    let upload = |client: &mut Client, input: &[u8]| {
        client.request(&request);
        input.chunks(100_000).for_each(|part| client.send(FrameKind::Stdin, part));
        client.send(FrameKind::StdinEof, b"");
        client.receive(Answer::default())
    };
    let input = vec![7; 1_500_000];
    assert!(upload(&mut client, &input).detached().started);
    assert!(!upload(&mut client, &input).detached().started);
    assert_eq!(upload(&mut client, b"other").failure(), FailureKind::Conflict);
    client.ask(&wait("input"));
    assert_eq!(client.ask(&read("input", Stream::Stdout, 0, None)).text().trim(), "1500000");
}

#[test]
fn what_never_ran_has_no_key() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let answer = client.ask(&start("gone", run(&["/no/such/program"])));
    assert_eq!((answer.never_ran().stage, answer.never_ran().errno), (Stage::Program, libc::ENOENT));
    assert_eq!(client.ask(&status("gone")).failure(), FailureKind::NotFound);
    assert!(client.ask(&start("gone", run(&["true"]))).detached().started);
}

#[test]
fn kills_are_proved() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let mark = guest.mark();
    client.ask(&start("long", shell(&format!("setsid env -i sleep {mark} & sleep {mark}"))));
    wait_until("the child", || guest.has_process(&mark));
    let ended = client.ask(&kill("long")).detached().ended.clone().unwrap();
    assert_eq!((ended.status, ended.cause, ended.proved), (Status::Signal("KILL".to_owned()), Cause::Cancelled, true));
    assert!(!guest.has_process(&mark));
    // Again is harmless, and so is a signal.
    assert!(client.ask(&kill("long")).detached().ended.is_some());
    let signal = DetachedSignal { key: "long".to_owned(), signal: "TERM".to_owned(), all: false };
    assert_eq!(client.ask(&Request::DetachedSignal(signal)).response, Some(Response::Done));
    // What an ended command left in the background is killed, too.
    client.ask(&start("left", shell(&format!("sleep {mark} & exit 3"))));
    let ended = client.ask(&wait("left")).detached().ended.clone().unwrap();
    assert_eq!(ended.status, Status::Code(3));
    wait_until("the background process", || guest.has_process(&mark));
    let ended = client.ask(&kill("left")).detached().ended.clone().unwrap();
    assert_eq!((ended.status, ended.cause, ended.proved), (Status::Code(3), Cause::Itself, true));
    assert!(!guest.has_process(&mark));
}

#[test]
fn its_own_time_limit_holds_without_a_client() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let mark = guest.mark();
    client.ask(&start(
        "limited",
        Run { time_limit_ms: Some(300), ..shell(&format!("setsid sleep {mark} & sleep {mark}")) },
    ));
    drop(client);
    wait_until("the child", || !guest.has_process(&mark));
    let mut client = Client::new(&guest);
    let ended = client.ask(&wait("limited")).detached().ended.clone().unwrap();
    assert_eq!((ended.cause, ended.proved), (Cause::TimeLimit, true));
}

#[test]
fn a_signal_reaches_it() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    client.ask(&start("signalled", run(&["sleep", &guest.mark()])));
    let signal = DetachedSignal { key: "signalled".to_owned(), signal: "INT".to_owned(), all: false };
    assert_eq!(client.ask(&Request::DetachedSignal(signal)).response, Some(Response::Done));
    let ended = client.ask(&wait("signalled")).detached().ended.clone().unwrap();
    assert_eq!(ended.status, Status::Signal("INT".to_owned()));
}

#[test]
fn output_has_a_limit_with_a_clear_end() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let run = shell("head -c 3000000 /dev/zero; echo end >&2; exit 2");
    let request = DetachedStart { key: "much".to_owned(), run, output_limit: Some(1_000_000) };
    client.ask(&Request::DetachedStart(request));
    let answer = client.ask(&wait("much"));
    let info = answer.detached();
    assert_eq!(info.ended.as_ref().unwrap().status, Status::Code(2));
    assert_eq!((info.stdout.kept, info.stdout.dropped), (1_000_000, 2_000_000));
    assert_eq!((info.stderr.kept, info.stderr.dropped), (4, 0));
    assert_eq!(client.ask(&read("much", Stream::Stdout, 0, None)).stdout.len(), 1_000_000);
}

#[test]
fn nothing_of_it_has_a_name() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let line = "head -c 100000 /dev/zero; sleep 100";
    client.ask(&start("files", shell(line)));
    let kept = |client: &mut Client| client.ask(&status("files")).detached().stdout.kept;
    wait_until("the output", || kept(&mut client) == 100_000);
    let found = client.shell("find /tmp /var/tmp /dev/shm -newer /proc/1 -user $(id -u) -size +90k 2> /dev/null");
    assert_eq!(found.text(), "");
    assert_eq!(client.shell("ls /proc/1/fd 2> /dev/null").text(), "");
}

#[test]
fn a_wait_ends_when_it_is_cancelled() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    client.ask(&start("waited", run(&["sleep", &guest.mark()])));
    for request in [wait("waited"), follow("waited", 0, 0)] {
        client.request(&request);
        let began = Instant::now();
        client.send(FrameKind::Cancel, b"");
        client.receive(Answer::default());
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(client.ask(&status("waited")).detached().ended, None);
}
