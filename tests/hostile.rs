//! What a program gets from a sandbox whose SSH server misbehaves: an error in time, never a made-up exit code, and no command
//! twice. These tests need no cluster; `make test` runs them with
//! the library and libssh2 under AddressSanitizer.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, reason = "a test program")]

mod common;
mod sshd;

use std::io;
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Scratch, noise};
use openssl::pkey::PKey;
use parking_lot::RwLock;
use sandbox::{Error, ErrorKind, Result, Sandbox};
use sshd::cipher::{AES_128, AES_256, CHACHA20};
use sshd::connection::{Connection, Event};
use sshd::transport::Packet;
use sshd::wire::*;
use sshd::{Script, Server};

/// How long the operations of a trial may take.
#[derive(Clone, Copy)]
struct Limits {
    connect: Duration,
    /// A command.
    operation: Duration,
    /// A file's way.
    transfer: Duration,
    /// Nothing else can be in time while a server sends as fast as it can.
    is_alone: bool,
}

/// Long enough for all to log in where the machine is busy: what fails is to fail for its own reason.
const AFTER_LOGIN: Limits = within(30_000, 30_000);
/// Where files wait for an answer that does not come, and only the commands count.
const FOR_COMMANDS: Limits = Limits { transfer: Duration::from_secs(3), ..AFTER_LOGIN };
/// For what ends by its time only.
const EXPIRES: Limits = within(30_000, 3000);
/// The same, but it has to get somewhere before.
const EXPIRES_LATE: Limits = within(30_000, 12_000);
const BEFORE_LOGIN: Limits = within(1500, 20_000);
const FLOOD: Limits = Limits { is_alone: true, ..within(30_000, 1500) };
const FLOOD_BEFORE_LOGIN: Limits = Limits { is_alone: true, ..BEFORE_LOGIN };

const fn within(connect: u64, operation: u64) -> Limits {
    let operation = Duration::from_millis(operation);
    Limits { connect: Duration::from_millis(connect), operation, transfer: operation, is_alone: false }
}

/// What a killed command and its channel have to be confirmed in.
const CONFIRMATION: Duration = Duration::from_millis(5500);
/// What Kubernetes is asked in, if a connection fails.
const VERDICT: Duration = Duration::from_secs(3);
/// A machine that is busy with all of these tests at once is slow.
const SLACK: Duration = Duration::from_secs(15);

const CIPHERS: [&str; 3] = [AES_128, AES_256, CHACHA20];

/// The largest of any cipher.
const BLOCK: u8 = 16;

const GARBAGE: [u8; 4096] = [0xa5; 4096];

/// What a packet can say of itself that is not true.
const LIES: [fn(&mut Packet); 5] = [
    |packet| packet.length = 0,
    |packet| packet.length = 1,
    |packet| packet.length = 0x7fff_ffff,
    |packet| packet.length = u32::MAX,
    |packet| packet.padding = 255,
];

/// What no client can go on after.
const SPOILERS: [fn(&mut Connection) -> io::Result<()>; 10] = [
    |client| client.transport.write(&GARBAGE),
    |client| client.transport.send_changed(&ignore().0, LIES[0]),
    |client| client.transport.send_changed(&ignore().0, LIES[2]),
    |client| client.transport.send_changed(&ignore().0, LIES[3]),
    |client| client.transport.send_changed(&ignore().0, LIES[4]),
    // Without its last byte; the next packet gives a wrong one.
    |client| client.transport.send_part(&ignore().0, 31).and_then(|()| client.transport.write(&GARBAGE)),
    |client| client.stdout([b'x'; 39_000]),
    |client| client.send(Message::new(DISCONNECT).u32(2).string(vec![0xff; 30_000]).string("")),
    |client| client.send(Message::new(DISCONNECT).u32(2).u32(u32::MAX)),
    |client| client.send(client.to_channel(CHANNEL_WINDOW_ADJUST).u32(u32::MAX)),
];

fn ignore() -> Message {
    Message::new(IGNORE).string([0; 10])
}

/// What one operation came to: the exit code of a command, nothing for a file.
type Outcome = Result<Option<i32>>;

type Operation = fn(&Sandbox, &Scratch) -> Outcome;

type Named = (&'static str, Operation);

const COMMANDS: [(&str, Operation); 4] = [
    ("output", |sandbox, _| {
        let output = sandbox.shell("work").stdin(noise(100_000)).output()?;
        Ok(output.status.code())
    }),
    ("status", |sandbox, _| Ok(sandbox.command("work").status()?.code())),
    ("stream", |sandbox, _| Ok(sandbox.shell("work").stream(|_, _| Ok(()))?.code())),
    ("spawn and wait", |sandbox, _| Ok(sandbox.shell("work").spawn()?.wait()?.code())),
];

const FILES: [(&str, Operation); 4] = [
    ("upload", |sandbox, scratch| {
        let local = scratch.path("local");
        std::fs::write(&local, noise(100_000)).unwrap();
        sandbox.files().upload(local, "file").map(|_| None)
    }),
    ("download", |sandbox, scratch| sandbox.files().download("file", scratch.path("copy")).map(|_| None)),
    ("read", |sandbox, _| sandbox.files().read("file").map(|_| None)),
    ("write", |sandbox, _| sandbox.files().write("file", "x").map(|()| None)),
];

/// What all operations came to against one server.
struct Trial {
    /// The command lines that the server was asked to run.
    requests: Vec<String>,
    commands: Vec<(&'static str, Outcome)>,
    files: Vec<(&'static str, Outcome)>,
}

/// Makes a trial with each case, some at the same time.
fn with_each<C: Clone + Sync>(cases: &[C], make: impl Fn(C) + Sync) {
    let make = &make;
    for some in cases.chunks(4) {
        thread::scope(|scope| some.iter().for_each(|case| drop(scope.spawn(|| make(case.clone())))));
    }
}

impl Trial {
    /// Does each operation at the same time, with a client of its own, against a server with this script.
    fn of(limits: Limits, script: impl Script) -> Self {
        Self::run(limits, &COMMANDS, &FILES, script)
    }

    /// The same with this command only.
    fn of_command(limits: Limits, command: Operation, script: impl Script) -> Self {
        Self::run(limits, &[("command", command)], &[], script)
    }

    fn run(limits: Limits, commands: &[Named], files: &[Named], script: impl Script) -> Self {
        static RUNNING: RwLock<()> = RwLock::new(());
        let _alone = limits.is_alone.then(|| RUNNING.write());
        let _together = (!limits.is_alone).then(|| RUNNING.read());
        let server = Server::start(script);
        let (commands, files) = (begin(limits, &server, commands), begin(limits, &server, files));
        let (commands, files) = (await_all(limits, commands), await_all(limits, files));
        let mut requests = server.requests();
        requests.retain(|request| request != "sftp");
        let count = requests.len();
        requests.sort();
        requests.dedup();
        assert_eq!(requests.len(), count, "each run has an id of its own, so one of these came twice: {requests:#?}");
        Self { requests, commands, files }
    }

    /// The commands end with errors of this kind.
    fn fails_commands(self, kind: ErrorKind) -> Self {
        for (operation, outcome) in &self.commands {
            assert_eq!(error(operation, outcome).kind(), kind, "{operation}: {outcome:?}");
        }
        self
    }

    fn fails_files(self, kinds: &[ErrorKind]) -> Self {
        for (operation, outcome) in &self.files {
            assert!(kinds.contains(&error(operation, outcome).kind()), "{operation}: {outcome:?}");
        }
        self
    }

    fn fails_all(self, kind: ErrorKind) -> Self {
        self.fails_commands(kind).fails_files(&[kind])
    }

    /// What came before the end of the commands is not lost where it is collected.
    fn has_output(self, stdout: &str) -> Self {
        let (operation, outcome) = &self.commands[0];
        assert_eq!(error(operation, outcome).partial_output().unwrap().stdout, stdout.as_bytes());
        self
    }

    /// The commands end with this exit code, or by a signal.
    fn ends_commands(self, code: Option<i32>) -> Self {
        for (operation, outcome) in &self.commands {
            assert_eq!(outcome.as_ref().expect(operation), &code, "{operation}");
        }
        self
    }
}

fn error<'a>(operation: &str, outcome: &'a Outcome) -> &'a Error {
    outcome.as_ref().expect_err(operation)
}

type Answer = mpsc::Receiver<(Outcome, Duration)>;

fn begin(limits: Limits, server: &Server, operations: &[Named]) -> Vec<(&'static str, Answer)> {
    let begin_one = |&(name, operation): &Named| {
        let (told, answer) = mpsc::channel();
        let client = sshd::client(|config| {
            let config = config.connect_timeout(limits.connect);
            config.command_timeout(limits.operation).transfer_timeout(limits.transfer)
        });
        let sandbox = client.attach(server.name()).unwrap();
        thread::spawn(move || {
            let (scratch, began) = (Scratch::new(), Instant::now());
            let outcome = operation(&sandbox, &scratch);
            let took = began.elapsed();
            // Before the answer, since the test program may end right after.
            drop(sandbox);
            let left = scratch.names();
            assert!(left.iter().all(|file| file == "local"), "{name} left {left:?}");
            told.send((outcome, took)).unwrap();
        });
        (name, answer)
    };
    operations.iter().map(begin_one).collect()
}

fn await_all(limits: Limits, answers: Vec<(&'static str, Answer)>) -> Vec<(&'static str, Outcome)> {
    let await_one = |(operation, answer): (&'static str, Answer)| {
        let (outcome, took) = answer.recv_timeout(Duration::from_secs(90)).expect(operation);
        println!("{operation} took {took:?}: {outcome:?}");
        let is_explained = outcome.as_ref().is_err_and(|e| e.kind() != ErrorKind::TimedOut);
        let limit = limits.connect.min(limits.operation)
            + CONFIRMATION
            + SLACK
            + if is_explained { VERDICT } else { Duration::ZERO };
        assert!(took < limit, "{operation} took {took:?}: {outcome:?}");
        (operation, outcome)
    };
    answers.into_iter().map(await_one).collect()
}

#[test]
fn a_server_that_behaves() {
    with_each(&CIPHERS, |cipher| {
        Trial::of(FOR_COMMANDS, |client| {
            client.transport.cipher = cipher;
            behave(client)
        })
        .ends_commands(Some(3));
    });
}

fn behave(client: &mut Connection) -> io::Result<()> {
    client.log_in()?;
    run_one(client)?;
    client.hold()
}

/// All of one command.
fn run_one(client: &mut Connection) -> io::Result<()> {
    client.open_channel(1 << 20)?;
    client.await_start()?;
    client.succeed()?;
    client.stdout("out")?;
    client.stderr("err")?;
    client.until(|event| *event == Event::Eof)?;
    client.exit_status(3)?;
    client.eof()?;
    client.close_channel()
}

// Before the login.

#[test]
fn nothing_is_said() {
    Trial::of(BEFORE_LOGIN, |client| client.hold()).fails_all(ErrorKind::Connect);
}

#[test]
fn closed_at_once() {
    Trial::of(BEFORE_LOGIN, |_| Ok(())).fails_all(ErrorKind::Connect);
}

#[test]
fn closed_in_the_middle_of_a_packet() {
    Trial::of(BEFORE_LOGIN, |client| client.transport.write(b"SSH-2.0-x\r\n\0\0\x01")).fails_all(ErrorKind::Connect);
}

#[test]
fn an_endless_banner_in_one_line() {
    Trial::of(FLOOD_BEFORE_LOGIN, |client| client.transport.repeat(&[b'x'; 4096])).fails_all(ErrorKind::Connect);
}

#[test]
fn an_endless_banner_of_many_lines() {
    Trial::of(FLOOD_BEFORE_LOGIN, |client| client.transport.repeat(&b"have patience\r\n".repeat(300)))
        .fails_all(ErrorKind::Connect);
}

#[test]
fn a_banner_in_pieces_that_never_ends() {
    Trial::of(BEFORE_LOGIN, |client| {
        for byte in b"SSH-2.0-x" {
            client.transport.write(&[*byte])?;
        }
        client.hold()
    })
    .fails_all(ErrorKind::Connect);
}

#[test]
fn garbage_instead_of_packets() {
    Trial::of(FLOOD_BEFORE_LOGIN, |client| {
        client.transport.exchange_versions()?;
        client.transport.repeat(&GARBAGE)
    })
    .fails_all(ErrorKind::Connect);
}

#[test]
fn lengths_that_are_lies_before_the_key_exchange() {
    with_each(&LIES, |change| {
        Trial::of(BEFORE_LOGIN, move |client| {
            client.transport.exchange_versions()?;
            client.transport.send_changed(&[IGNORE, 0, 0, 0, 0], change)?;
            client.hold()
        })
        .fails_all(ErrorKind::Connect);
    });
}

#[test]
fn an_endless_wait_for_the_key_exchange() {
    Trial::of(FLOOD_BEFORE_LOGIN, |client| {
        client.transport.exchange_versions()?;
        client.flood(&ignore())
    })
    .fails_all(ErrorKind::Connect);
}

/// With these, a packet that is no multiple of their blocks ends the whole process in an assertion of libssh2's.
#[test]
fn ciphers_that_are_not_offered() {
    with_each(&["aes256-ctr", "aes128-cbc"], |cipher| {
        Trial::of(BEFORE_LOGIN, |client| {
            client.transport.cipher = cipher;
            client.log_in()
        })
        .fails_all(ErrorKind::Connect);
    });
}

#[test]
fn a_key_exchange_that_stops() {
    Trial::of(BEFORE_LOGIN, |client| {
        client.transport.exchange_versions()?;
        client.transport.begin_key_exchange()?;
        client.hold()
    })
    .fails_all(ErrorKind::Connect);
}

#[test]
fn offers_that_are_cut_off() {
    with_each(&[1, 5, 17, 20, 40], |length| {
        Trial::of(BEFORE_LOGIN, move |client| {
            client.transport.exchange_versions()?;
            let offer = client.transport.offer();
            client.transport.send(&offer[..length])?;
            client.hold()
        })
        .fails_all(ErrorKind::Connect);
    });
}

#[test]
fn replies_that_are_no_key_exchange() {
    let key = |length: usize| Message(Vec::new()).string("ssh-ed25519").string(vec![9; length]).0;
    let replies = [
        Message::new(KEX_ECDH_REPLY),
        Message::new(KEX_ECDH_REPLY).u32(u32::MAX),
        Message::new(KEX_ECDH_REPLY).string("").string("").string(""),
        Message::new(KEX_ECDH_REPLY).string(key(32)).string([0; 32]).string(key(64)),
        Message::new(KEX_ECDH_REPLY).string(key(32)).string([9; 3]).string(key(64)),
        Message::new(KEX_ECDH_REPLY).string(key(0)).string([9; 32]).string(key(0)),
        Message::new(KEX_ECDH_REPLY).string(key(30_000)).string([9; 32]).string(key(64)),
        Message::new(KEX_ECDH_REPLY).string(key(32)).string([9; 32]).string(key(64)),
    ];
    with_each(&replies, |reply| {
        Trial::of(BEFORE_LOGIN, move |client| {
            client.transport.exchange_versions()?;
            client.transport.begin_key_exchange()?;
            client.await_message(KEX_ECDH_INIT)?;
            client.send(reply.clone())?;
            client.hold()
        })
        .fails_all(ErrorKind::Connect);
    });
}

#[test]
fn another_host_key() {
    Trial::of(AFTER_LOGIN, |client| {
        client.transport.host_key = PKey::generate_ed25519()?;
        client.log_in()
    })
    .fails_all(ErrorKind::HostKeyMismatch);
}

#[test]
fn garbage_once_encryption_has_begun() {
    for cipher in CIPHERS {
        Trial::of(FLOOD_BEFORE_LOGIN, |client| {
            client.transport.cipher = cipher;
            client.transport.exchange_versions()?;
            client.transport.exchange_keys()?;
            client.transport.repeat(&GARBAGE)
        })
        .fails_all(ErrorKind::Connect);
    }
}

#[test]
fn a_login_that_is_not_answered() {
    Trial::of(BEFORE_LOGIN, |client| {
        client.transport.exchange_versions()?;
        client.transport.exchange_keys()?;
        client.hold()
    })
    .fails_all(ErrorKind::Connect);
}

#[test]
fn a_login_that_is_refused() {
    Trial::of(BEFORE_LOGIN, |client| {
        client.transport.exchange_versions()?;
        client.transport.exchange_keys()?;
        client.await_message(SERVICE_REQUEST)?;
        client.send(Message::new(SERVICE_ACCEPT).string("ssh-userauth"))?;
        loop {
            client.await_message(USERAUTH_REQUEST)?;
            client.send(Message::new(USERAUTH_FAILURE).string("publickey").byte(0))?;
        }
    });
}

#[test]
fn endless_banners_at_the_login() {
    Trial::of(FLOOD_BEFORE_LOGIN, |client| {
        client.transport.exchange_versions()?;
        client.transport.exchange_keys()?;
        client.await_message(SERVICE_REQUEST)?;
        client.send(Message::new(SERVICE_ACCEPT).string("ssh-userauth"))?;
        client.flood(&Message::new(USERAUTH_BANNER).string([b'x'; 20_000]).string(""))
    })
    .fails_all(ErrorKind::Connect);
}

// After the login, before anything is requested.

#[test]
fn a_channel_that_is_not_opened() {
    Trial::of(EXPIRES, |client| {
        client.log_in()?;
        client.hold()
    })
    .fails_all(ErrorKind::TimedOut);
}

#[test]
fn a_channel_that_is_refused() {
    Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.until(|event| *event == Event::Open)?;
        client.send(client.to_channel(CHANNEL_OPEN_FAILURE).u32(1).string(vec![0xff; 30_000]).string(""))?;
        client.hold()
    })
    .fails_all(ErrorKind::Connect);
}

#[test]
fn another_channel_is_opened() {
    Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.until(|event| *event == Event::Open)?;
        client.channel += 1;
        client.confirm_channel(1 << 20)?;
        client.hold()
    })
    .fails_all(ErrorKind::Connect);
}

#[test]
fn cut_before_the_request() {
    let trial = Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.until(|event| *event == Event::Open).map(drop)
    });
    assert_eq!(trial.requests, [""; 0]);
    trial.fails_all(ErrorKind::Disconnected);
}

// The request.

#[test]
fn cut_while_the_request_is_read() {
    let trial = Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.open_channel(1 << 20)?;
        client.transport.read_bytes(30)
    });
    assert_eq!(trial.requests, [""; 0]);
    trial.fails_commands(ErrorKind::OutcomeUnknown).fails_files(&[ErrorKind::Disconnected]);
}

#[test]
fn cut_after_the_request() {
    Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.open_channel(1 << 20)?;
        client.await_start()
    })
    .fails_commands(ErrorKind::OutcomeUnknown)
    .fails_files(&[ErrorKind::Disconnected]);
}

/// Runs two commands, the second over the first one's session.
const TWO_COMMANDS: Operation = |sandbox, _| {
    assert_eq!(sandbox.shell("one").output()?.status.code(), Some(3));
    assert_eq!(sandbox.session_counts(), (1, 0));
    Ok(sandbox.shell("two").output()?.status.code())
};

#[test]
fn an_old_session_that_is_cut_before_the_request() {
    let trial = Trial::of_command(AFTER_LOGIN, TWO_COMMANDS, |client| {
        client.log_in()?;
        run_one(client)?;
        client.until(|event| *event == Event::Open).map(drop)
    });
    // The second one ran on another session.
    assert_eq!(trial.requests.len(), 2);
    trial.ends_commands(Some(3));
}

#[test]
fn an_old_session_that_is_cut_after_the_request() {
    let trial = Trial::of_command(AFTER_LOGIN, TWO_COMMANDS, |client| {
        client.log_in()?;
        run_one(client)?;
        client.open_channel(1 << 20)?;
        client.await_start()
    });
    assert_eq!(trial.requests.len(), 2);
    trial.fails_commands(ErrorKind::OutcomeUnknown);
}

#[test]
fn a_request_that_is_refused() {
    Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.open_channel(1 << 20)?;
        client.await_start()?;
        client.refuse()?;
        client.hold()
    })
    .fails_commands(ErrorKind::Command)
    .fails_files(&[ErrorKind::Connect]);
}

#[test]
fn a_request_that_is_not_answered() {
    Trial::of(EXPIRES, |client| {
        client.log_in()?;
        client.open_channel(1 << 20)?;
        client.await_start()?;
        client.hold()
    })
    .fails_all(ErrorKind::TimedOut);
}

/// The command may run by then, so nothing of this is a refusal.
#[test]
fn a_request_that_is_answered_by_lies() {
    with_each(&SPOILERS, |spoil| {
        Trial::of(AFTER_LOGIN, move |client| {
            client.log_in()?;
            client.open_channel(1 << 20)?;
            client.await_start()?;
            spoil(client)?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown)
        .fails_files(&[ErrorKind::Disconnected, ErrorKind::Connect]);
    });
}

// The command runs.

#[test]
fn lies_while_the_command_runs() {
    with_each(&SPOILERS, |spoil| {
        Trial::of(AFTER_LOGIN, move |client| {
            client.start()?;
            client.stdout("some")?;
            spoil(client)?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

#[test]
fn cut_while_the_command_runs() {
    Trial::of(AFTER_LOGIN, |client| {
        client.start()?;
        client.stdout("some")
    })
    .fails_commands(ErrorKind::OutcomeUnknown);
}

#[test]
fn a_command_that_never_ends() {
    Trial::of(EXPIRES_LATE, |client| {
        client.start()?;
        client.stdout("some")?;
        client.hold()
    })
    .fails_commands(ErrorKind::TimedOut)
    .has_output("some");
}

#[test]
fn a_status_that_never_comes() {
    Trial::of(FOR_COMMANDS, |client| {
        client.start()?;
        client.stdout("some")?;
        client.eof()?;
        client.close_channel()?;
        client.hold()
    })
    .fails_commands(ErrorKind::OutcomeUnknown)
    .has_output("some");
}

#[test]
fn statuses_that_are_none() {
    let statuses: [fn(&Connection) -> Message; 6] = [
        |client| client.request("exit-status", false),
        |client| client.request("exit-status", false).raw(&[0; 3]),
        |client| client.request("exit-signal", false).u32(u32::MAX),
        |client| client.request("exit-signal", false).string("").byte(0).string("").string(""),
        |client| client.to_channel(CHANNEL_REQUEST).u32(u32::MAX),
        // For a channel that is not there.
        |_| Message::new(CHANNEL_REQUEST).u32(7).string("exit-status").byte(0).u32(0),
    ];
    with_each(&statuses, |status| {
        Trial::of(AFTER_LOGIN, move |client| {
            client.start()?;
            client.send(status(client))?;
            client.eof()?;
            client.close_channel()?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

#[test]
fn two_statuses() {
    let trial = Trial::of(AFTER_LOGIN, |client| {
        client.start()?;
        client.exit_status(0)?;
        client.exit_status(7)?;
        client.eof()?;
        client.close_channel()?;
        client.hold()
    });
    // The server has said both.
    for (operation, outcome) in &trial.commands {
        assert!(matches!(outcome, Ok(Some(0 | 7))), "{operation}: {outcome:?}");
    }
}

#[test]
fn a_status_and_a_signal() {
    let trial = Trial::of(AFTER_LOGIN, |client| {
        client.start()?;
        client.exit_status(0)?;
        client.exit_signal("KILL")?;
        client.eof()?;
        client.close_channel()?;
        client.hold()
    });
    // The server has said both.
    for (operation, outcome) in &trial.commands {
        assert!(matches!(outcome, Ok(Some(0) | None)), "{operation}: {outcome:?}");
    }
}

#[test]
fn signals_that_are_none() {
    let names = [vec![b'K'; 30_000], b"KI\0LL".to_vec(), vec![0xff; 8], b"\0".to_vec()];
    with_each(&names, |name| {
        Trial::of(AFTER_LOGIN, move |client| {
            client.start()?;
            client.exit_signal(&name)?;
            client.eof()?;
            client.close_channel()?;
            client.hold()
        })
        .ends_commands(None);
    });
}

#[test]
fn an_end_of_output_that_is_no_end() {
    Trial::of(EXPIRES, |client| {
        client.start()?;
        client.eof()?;
        client.hold()
    })
    .fails_commands(ErrorKind::TimedOut);
}

#[test]
fn a_channel_that_is_never_closed() {
    Trial::of(AFTER_LOGIN, |client| {
        client.start()?;
        client.exit_status(3)?;
        client.eof()?;
        client.hold()
    })
    .ends_commands(Some(3));
}

#[test]
fn a_channel_that_is_closed_without_an_end_of_output() {
    Trial::of(FOR_COMMANDS, |client| {
        client.start()?;
        client.stdout("some")?;
        client.exit_status(3)?;
        client.close_channel()?;
        client.hold()
    })
    .ends_commands(Some(3));
}

/// The channel stays open, as when another process has the output: what the server answers tells whether more is to come.
#[test]
fn only_a_status() {
    let is_question = |event: &Event| matches!(event, Event::Request { wants_reply: true, .. });
    Trial::of(FOR_COMMANDS, move |client| {
        client.start()?;
        client.exit_status(3)?;
        // Output before an answer: there is another question.
        for output in ["some", "more", ""] {
            client.until(is_question)?;
            client.stdout(output)?;
            client.refuse()?;
        }
        client.hold()
    })
    .ends_commands(Some(3));
    let trial = Trial::of(FOR_COMMANDS, |client| {
        client.start()?;
        client.exit_status(3)?;
        client.hold()
    });
    // Who collects the output can't have all of it. Who only waits has what he wants.
    let [(_, output), _, _, (_, waited)] = &trial.commands[..] else { unreachable!() };
    assert_eq!(error("output", output).kind(), ErrorKind::OutcomeUnknown);
    assert_eq!(*waited.as_ref().unwrap(), Some(3));
}

/// As where the reader is slow: what fills the windows and the server's buffers comes after the status, and is not lost.
#[test]
fn much_output_after_the_status() {
    const MUCH: usize = 6_000_000;
    let command: Operation = |sandbox, _| {
        let output = sandbox.shell("work").output()?;
        assert_eq!(output.stdout.len(), MUCH);
        Ok(output.status.code())
    };
    Trial::of_command(AFTER_LOGIN, command, |client| {
        client.start()?;
        client.exit_status(3)?;
        vec![b'x'; MUCH].chunks(30_000).try_for_each(|piece| client.say(piece))?;
        client.eof()?;
        client.close_channel()?;
        client.hold()
    })
    .ends_commands(Some(3));
}

#[test]
fn a_status_and_a_cut() {
    Trial::of(AFTER_LOGIN, |client| {
        client.start()?;
        client.exit_status(3)?;
        client.eof()?;
        client.close_channel()?;
        client.transport.end()?;
        client.hold()
    })
    .ends_commands(Some(3));
}

#[test]
fn output_for_nobody() {
    Trial::of(AFTER_LOGIN, |client| {
        client.start()?;
        client.stdout("some")?;
        // After the end, in a stream without a name, for other channels, and beyond what a packet may hold.
        client.eof()?;
        client.stdout("more")?;
        client.extended(2, "what")?;
        client.extended(u32::MAX, "what")?;
        client.stdout([b'x'; 33_000])?;
        let ours = client.channel;
        for other in [1, 77, u32::MAX] {
            client.channel = other;
            client.stdout("lost")?;
            client.stderr("lost")?;
            client.eof()?;
            client.close_channel()?;
        }
        client.channel = ours;
        // Lengths that are not those of the packet.
        client.send(client.to_channel(CHANNEL_DATA).u32(u32::MAX))?;
        client.send(client.to_channel(CHANNEL_DATA).u32(100).raw(b"short"))?;
        client.send(client.to_channel(CHANNEL_DATA))?;
        client.send(client.to_channel(CHANNEL_EXTENDED_DATA).u32(1))?;
        client.exit_status(3)?;
        client.eof()?;
        client.close_channel()?;
        client.stdout("after all")?;
        client.hold()
    })
    .ends_commands(Some(3));
}

#[test]
fn messages_that_are_cut_off() {
    Trial::of(EXPIRES, |client| {
        client.start()?;
        // Every number there is, but for those that end the connection or exchange keys.
        for number in (2..=255).filter(|number| !(KEXINIT..50).contains(number)) {
            for length in [0, 1, 4, 5, 8, 12, 16] {
                client.send(Message::new(number).raw(&[0; 16][..length]))?;
                client.send(Message::new(number).raw(&[0xff; 16][..length]))?;
            }
        }
        client.hold()
    });
}

#[test]
fn floods_while_the_command_runs() {
    let floods: [fn(&Connection) -> Message; 9] = [
        |_| ignore(),
        |_| Message::new(DEBUG).byte(1).string([b'x'; 1000]).string(""),
        |_| Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1),
        |client| client.to_channel(CHANNEL_DATA).string(""),
        |client| client.to_channel(CHANNEL_DATA).string([b'x'; 30_000]),
        |client| client.to_channel(CHANNEL_EXTENDED_DATA).u32(2).string([b'x'; 30_000]),
        |_| Message::new(CHANNEL_DATA).u32(77).string([b'x'; 30_000]),
        |client| client.to_channel(CHANNEL_SUCCESS),
        |client| client.request("what@example.org", true),
    ];
    for flood in floods {
        Trial::of(FLOOD, move |client| {
            client.start()?;
            client.flood(&flood(client))
        })
        .fails_commands(ErrorKind::TimedOut);
    }
}

#[test]
fn floods_after_the_command() {
    let floods: [fn(&Connection) -> Message; 4] = [
        |_| ignore(),
        |client| client.to_channel(CHANNEL_DATA).string(""),
        |client| client.to_channel(CHANNEL_DATA).string([b'x'; 30_000]),
        |_| Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1),
    ];
    for flood in floods {
        Trial::of(FLOOD, move |client| {
            client.start()?;
            client.exit_status(3)?;
            client.flood(&flood(client))
        });
    }
}

/// Not even a command that may take as long as it likes is held by what comes after its end.
#[test]
fn floods_after_a_command_without_a_timeout() {
    let command: Operation = |sandbox, _| {
        let output = sandbox.shell("work").timeout(None).output_limit(1 << 20).output()?;
        assert!(output.stdout.len() <= 1 << 20);
        Ok(output.status.code())
    };
    let with = |flood: fn(&Connection) -> Message| {
        Trial::of_command(FLOOD, command, move |client: &mut Connection| {
            client.start()?;
            client.exit_status(3)?;
            client.flood(&flood(client))
        })
    };
    with(|client| client.to_channel(CHANNEL_DATA).string([b'x'; 30_000])).ends_commands(Some(3));
    with(|_| Message::new(IGNORE).string([0; 20_000])).fails_commands(ErrorKind::OutcomeUnknown);
}

#[test]
fn a_server_that_exchanges_keys_again() {
    exchange_keys_for(&[AES_128; 3]);
}

/// What one cipher has set up must not be taken for another one's.
#[test]
fn a_server_that_exchanges_keys_for_another_cipher() {
    exchange_keys_for(&[CHACHA20, AES_256, AES_128, AES_128, AES_256, CHACHA20]);
}

/// Exchanges keys in the midst of a command's output, for one cipher after the other. The first ones are for AES_128.
fn exchange_keys_for(ciphers: &'static [&'static str]) {
    Trial::of(AFTER_LOGIN, move |client| {
        client.start()?;
        for cipher in ciphers {
            client.stdout("out")?;
            client.transport.cipher = cipher;
            client.transport.exchange_keys()?;
            client.stderr("err")?;
        }
        client.until(|event| *event == Event::Eof)?;
        client.exit_status(3)?;
        client.eof()?;
        client.close_channel()?;
        client.hold()
    })
    .ends_commands(Some(3));
}

/// An assertion of libssh2's is about these.
#[test]
fn packets_that_are_no_multiple_of_a_block() {
    with_each(&CIPHERS, |cipher| {
        Trial::of(FOR_COMMANDS, |client| {
            client.transport.cipher = cipher;
            client.log_in()?;
            for more in 1..BLOCK {
                client.transport.send_changed(&ignore().0, |packet| {
                    packet.body.resize(packet.body.len() + usize::from(more), 0);
                    packet.length += u32::from(more);
                    packet.padding += more;
                })?;
            }
            run_one(client)?;
            client.hold()
        })
        .ends_commands(Some(3));
    });
}

#[test]
fn a_later_key_exchange_that_stops() {
    Trial::of(EXPIRES_LATE, |client| {
        client.start()?;
        client.stdout("some")?;
        client.transport.begin_key_exchange()?;
        client.hold()
    })
    .fails_commands(ErrorKind::TimedOut)
    .has_output("some");
}

#[test]
fn questions_of_the_server() {
    Trial::of(AFTER_LOGIN, |client| {
        client.start()?;
        for _ in 0..20 {
            client.send(Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1))?;
            client.until(|event| *event == Event::Other(REQUEST_FAILURE))?;
            for kind in ["x11", "forwarded-tcpip", "auth-agent@openssh.com"] {
                let open = Message::new(CHANNEL_OPEN).string(kind).u32(9).u32(1 << 20).u32(32768);
                client.send(open.string("here").u32(1).string("there").u32(2))?;
                client.until(|event| *event == Event::Other(CHANNEL_OPEN_FAILURE))?;
            }
        }
        client.exit_status(3)?;
        client.eof()?;
        client.close_channel()?;
        client.hold()
    })
    .ends_commands(Some(3));
}

#[test]
fn a_window_that_never_opens() {
    let trial = Trial::of(EXPIRES_LATE, |client| {
        client.log_in()?;
        client.open_channel(0)?;
        client.await_start()?;
        client.succeed()?;
        client.until(|event| *event == Event::Eof)?;
        client.exit_status(3)?;
        client.eof()?;
        client.close_channel()?;
        client.hold()
    });
    // Only this one has input.
    assert_eq!(error("output", &trial.commands[0].1).kind(), ErrorKind::TimedOut);
    assert!(trial.commands[1..].iter().all(|(_, outcome)| matches!(outcome, Ok(Some(3)))));
    trial.fails_files(&[ErrorKind::TimedOut]);
}

#[test]
fn a_channel_for_packets_of_nothing() {
    let trial = Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.until(|event| *event == Event::Open)?;
        client.send(client.to_channel(CHANNEL_OPEN_CONFIRMATION).u32(0).u32(u32::MAX).u32(0))?;
        client.await_start()?;
        client.succeed()?;
        client.hold()
    });
    trial.fails_all(ErrorKind::Connect);
}

#[test]
fn a_server_that_reads_no_more() {
    static MUCH: LazyLock<Vec<u8>> = LazyLock::new(|| noise(30_000_000));
    LazyLock::force(&MUCH);
    let command: Operation =
        |sandbox, _| sandbox.shell("work").stdin(MUCH.clone()).output().map(|output| output.status.code());
    Trial::of_command(EXPIRES, command, |client| {
        client.log_in()?;
        client.open_channel(u32::MAX)?;
        client.await_start()?;
        client.succeed()?;
        client.transport.stop_reading()
    })
    .fails_commands(ErrorKind::TimedOut);
}
