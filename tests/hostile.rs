//! What a program gets from a sandbox whose SSH server misbehaves: an error in time, never a made-up exit code, and no
//! command twice. These tests need no cluster; `make test` runs them with the library and libssh2 under
//! AddressSanitizer.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, reason = "a test program")]

mod common;
mod sshd;

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use common::{Scratch, noise, session_counts, unique};
use openssl::pkey::PKey;
use parking_lot::{Condvar, Mutex, RwLock};
use sandbox::{Error, ErrorKind, OutputStream, Result, Sandbox};
use sandbox_protocol::{
    Cause, DetachedInfo, Ended, Expiry, Failure, FailureKind, Followed, FrameKind, Hello, NeverRan, Request, Resize,
    Response, STDIN_WINDOW, Stage, Status,
};
use sshd::cipher::{AES_128, AES_256, CHACHA20};
use sshd::commands::{Frame, frame, frame_of};
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

/// What the end of a killed command has to be confirmed in.
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
    |client| client.data([b'x'; 39_000]),
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

/// Each command that is asked for is another one, so that none can come twice unnoticed.
const COMMANDS: [Named; 4] = [
    ("output", |sandbox, _| {
        let output = sandbox.shell("work").arg(unique()).stdin(noise(100_000)).output()?;
        Ok(output.status.code())
    }),
    ("status", |sandbox, _| Ok(sandbox.command("work").arg(unique()).status()?.code())),
    ("stream", |sandbox, _| Ok(sandbox.shell("work").arg(unique()).stream(|_, _| Ok(()))?.code())),
    ("spawn and wait", |sandbox, _| Ok(sandbox.shell("work").arg(unique()).spawn()?.wait()?.code())),
];

const FILES: [Named; 4] = [
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
    /// What the server was asked for.
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

    /// The same with the commands only.
    fn of_commands(limits: Limits, script: impl Script) -> Self {
        Self::run(limits, &COMMANDS, &[], script)
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
        let count = requests.len();
        requests.sort();
        requests.dedup();
        assert_eq!(requests.len(), count, "one of these came twice: {requests:#?}");
        Self { requests, commands, files }
    }

    /// The commands end with errors of this kind.
    fn fails_commands(self, kind: ErrorKind) -> Self {
        self.fails_commands_as(&[kind])
    }

    /// The commands end with errors of one of these kinds, whose texts can be shown on a terminal.
    fn fails_commands_as(self, kinds: &[ErrorKind]) -> Self {
        for (operation, outcome) in &self.commands {
            let error = error(operation, outcome);
            assert!(kinds.contains(&error.kind()), "{operation}: {outcome:?}");
            let text = error.to_string();
            assert!(text.len() < 5000 && !text.chars().any(char::is_control), "{operation}: {text:?}");
        }
        self
    }

    /// Nothing was asked of the server.
    fn asks_nothing(self) -> Self {
        assert_eq!(self.requests, [""; 0]);
        self
    }

    /// The errors of the commands say so.
    fn says(self, text: &str) -> Self {
        for (operation, outcome) in &self.commands {
            let error = error(operation, outcome);
            assert!(error.to_string().contains(text), "{operation}: {error}");
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
        Trial::of_commands(AFTER_LOGIN, |client| {
            client.transport.cipher = cipher;
            behave(client)
        })
        .ends_commands(Some(3));
    });
}

fn behave(client: &mut Connection) -> io::Result<()> {
    client.open_commands()?;
    client.run_one()?;
    client.hold()
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
    })
    // The key can't be added to this Pod: it is there, but the API server finds none to add it to.
    .fails_all(ErrorKind::Connect);
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
    .asks_nothing()
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
fn a_channel_for_packets_of_nothing() {
    Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.until(|event| *event == Event::Open)?;
        client.send(client.to_channel(CHANNEL_OPEN_CONFIRMATION).u32(0).u32(u32::MAX).u32(0))?;
        client.await_start()?;
        client.succeed()?;
        client.hold()
    })
    .fails_all(ErrorKind::Connect);
}

#[test]
fn cut_before_the_channel() {
    Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.until(|event| *event == Event::Open).map(drop)
    })
    .fails_all(ErrorKind::Disconnected);
}

#[test]
fn a_subsystem_that_is_not_there() {
    Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.open_channel(1 << 20)?;
        client.await_start()?;
        client.refuse()?;
        client.hold()
    })
    .asks_nothing()
    .fails_all(ErrorKind::Connect);
}

#[test]
fn a_subsystem_that_is_not_answered() {
    Trial::of(EXPIRES, |client| {
        client.log_in()?;
        client.open_channel(1 << 20)?;
        client.await_start()?;
        client.hold()
    })
    .asks_nothing()
    .fails_all(ErrorKind::TimedOut);
}

#[test]
fn cut_before_the_subsystem() {
    Trial::of(AFTER_LOGIN, |client| {
        client.log_in()?;
        client.open_channel(1 << 20)?;
        client.await_start()
    })
    .asks_nothing()
    .fails_all(ErrorKind::Disconnected);
}

#[test]
fn a_subsystem_that_is_answered_by_lies() {
    with_each(&SPOILERS, |spoil| {
        let trial = Trial::of(AFTER_LOGIN, move |client| {
            client.log_in()?;
            client.open_channel(1 << 20)?;
            client.await_start()?;
            spoil(client)?;
            client.hold()
        });
        let kinds = [ErrorKind::Disconnected, ErrorKind::Connect];
        trial.asks_nothing().fails_files(&kinds).fails_commands_as(&kinds);
    });
}

// The request.

#[test]
fn cut_while_the_request_is_read() {
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.open_commands()?;
        client.transport.read_bytes(30)
    })
    .asks_nothing()
    .fails_commands(ErrorKind::OutcomeUnknown);
}

/// A command that does not fit into the window of the server.
const LONG: Operation = |sandbox, _| {
    let command = sandbox.command("work").arg(unique()).args(vec!["x".repeat(100_000); 10]);
    Ok(command.output()?.status.code())
};

/// Lets the client write this much.
fn open_narrow(client: &mut Connection, window: u32) -> io::Result<()> {
    client.log_in()?;
    client.open_channel(window)?;
    client.await_start()?;
    client.succeed()
}

/// Waits until so many bytes have come on the channel.
fn await_bytes(client: &mut Connection, mut count: usize) -> io::Result<()> {
    while count > 0 {
        if let Event::Data(bytes) = client.next()? {
            count = count.saturating_sub(bytes.len());
        }
    }
    Ok(())
}

/// A command begins only when its request is there as a whole.
#[test]
fn cut_in_the_middle_of_the_request() {
    Trial::of_command(AFTER_LOGIN, LONG, |client| {
        open_narrow(client, 64 << 10)?;
        await_bytes(client, 64 << 10)
    })
    .fails_commands(ErrorKind::Disconnected)
    .says("no request was sent to the sandbox");
}

#[test]
fn a_channel_that_ends_in_the_middle_of_the_request() {
    with_each(&[true, false], |is_closed| {
        Trial::of_command(AFTER_LOGIN, LONG, move |client| {
            open_narrow(client, 64 << 10)?;
            await_bytes(client, 64 << 10)?;
            client.eof()?;
            if is_closed {
                client.close_channel()?;
            }
            client.hold()
        })
        .fails_commands(ErrorKind::Disconnected)
        .says("no request was sent to the sandbox");
    });
}

#[test]
fn an_answer_in_the_middle_of_the_request() {
    Trial::of_command(AFTER_LOGIN, LONG, |client| {
        open_narrow(client, 64 << 10)?;
        await_bytes(client, 64 << 10)?;
        client.started()?;
        client.ended(0)?;
        client.hold()
    })
    .fails_commands(ErrorKind::Disconnected)
    .says("no request was sent to the sandbox");
}

/// The window never has room for it.
#[test]
fn a_request_that_can_not_be_sent() {
    let trial = Trial::of(EXPIRES, |client| {
        open_narrow(client, 0)?;
        client.hold()
    });
    trial.asks_nothing().fails_all(ErrorKind::TimedOut).says("no request was sent to the sandbox");
}

/// The window has room for a few bytes at a time.
#[test]
fn a_window_that_opens_slowly() {
    Trial::of_commands(AFTER_LOGIN, |client| {
        open_narrow(client, 1)?;
        // The packets and the input are cut anywhere.
        let mut sizes = [1, 2, 3, 5, 7, 11, 4099].into_iter().cycle();
        loop {
            match client.take_frame()? {
                Some(Frame::Request(request)) => {
                    client.started()?;
                    if !matches!(*request, Request::Run(run) if run.stdin == sandbox_protocol::Input::Frames) {
                        break;
                    }
                }
                Some(Frame::StdinEof) => break,
                Some(_) => {}
                None => {
                    if let Event::Data(bytes) = client.next()? {
                        client.keep(&bytes);
                        client.send(client.to_channel(CHANNEL_WINDOW_ADJUST).u32(sizes.next().unwrap()))?;
                    }
                }
            }
        }
        client.stdout("out")?;
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

#[test]
fn cut_after_the_request() {
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.open_commands()?;
        client.await_request().map(drop)
    })
    .fails_commands(ErrorKind::OutcomeUnknown);
}

#[test]
fn a_request_that_is_not_answered() {
    Trial::of_commands(EXPIRES, |client| {
        client.open_commands()?;
        client.await_request()?;
        client.hold()
    })
    .fails_commands(ErrorKind::TimedOut)
    .says("did not confirm");
}

/// The command may run by then, so nothing of this is a refusal.
#[test]
fn a_request_that_is_answered_by_lies() {
    with_each(&SPOILERS, |spoil| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.open_commands()?;
            client.await_request()?;
            spoil(client)?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

#[test]
fn a_command_that_never_runs() {
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.open_commands()?;
        client.await_request()?;
        let message = format!("\u{1b}[2Jno\r\nsuch\u{9b}31m program\u{202e}{}", "x".repeat(100_000));
        client.result(&Response::NeverRan(NeverRan { stage: Stage::Program, message, ..NeverRan::default() }))?;
        client.hold()
    })
    .fails_commands(ErrorKind::Command)
    .says("the command did not run");
}

#[test]
fn a_command_that_is_refused() {
    use FailureKind::{Cancelled, Conflict, Invalid, Limit, NotFound, Other, Unsupported};
    with_each(&[Cancelled, Conflict, Invalid, Limit, NotFound, Other, Unsupported], |kind| {
        let expected = if kind == Invalid { ErrorKind::InvalidArgument } else { ErrorKind::Command };
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.open_commands()?;
            client.await_request()?;
            client.result(&Response::Failed(Failure { kind, message: "\u{7}no".into(), errno: Some(-1) }))?;
            client.hold()
        })
        .fails_commands(expected);
    });
}

// One session for one command after another.

/// Runs two commands, the second over the first one's session.
const TWO_COMMANDS: Operation = |sandbox, _| {
    assert_eq!(sandbox.shell("one").arg(unique()).output()?.status.code(), Some(3));
    assert_eq!(session_counts(sandbox), (1, 0));
    Ok(sandbox.shell("two").arg(unique()).output()?.status.code())
};

#[test]
fn two_commands() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let trial = Trial::of_command(AFTER_LOGIN, TWO_COMMANDS, move |client| {
        counter.fetch_add(1, Ordering::Relaxed);
        client.open_commands()?;
        client.run_one()?;
        client.run_one()?;
        client.hold()
    });
    assert_eq!((trial.requests.len(), connections.load(Ordering::Relaxed)), (2, 1));
    trial.ends_commands(Some(3));
}

/// Nothing of the second one has been asked when its session turns out to be of no use, so it runs on another one.
#[test]
fn an_old_session_that_is_of_no_use() {
    const ENDS: [fn(&mut Connection) -> io::Result<()>; 6] = [
        |client| client.transport.end(),
        |client| client.send(Message::new(DISCONNECT).u32(2).string("no more").string("")),
        |client| client.eof(),
        |client| client.close_channel(),
        // What comes now belongs to no request.
        |client| client.frame(FrameKind::Stdout, "more"),
        |client| {
            client.started()?;
            client.ended(0)
        },
    ];
    with_each(&ENDS, |end| {
        let idle = Arc::new(Idle::default());
        let server_side = Arc::clone(&idle);
        let server = Server::start(move |client: &mut Connection| {
            client.open_commands()?;
            client.run_one()?;
            if server_side.has_reached(HAS_ENDED) {
                return client.hold();
            }
            server_side.await_that(IS_IDLE)?;
            end(client)?;
            client.transport.await_delivery()?;
            server_side.reach(HAS_ENDED);
            client.hold()
        });
        IDLE.lock().push((server.name().to_owned(), idle));
        let two: Operation = |sandbox, _| {
            assert_eq!(sandbox.shell("one").arg(unique()).output()?.status.code(), Some(3));
            let found = IDLE.lock().iter().find(|(name, _)| name == sandbox.name()).map(|(_, idle)| Arc::clone(idle));
            let idle = found.unwrap();
            idle.reach(IS_IDLE);
            idle.await_that(HAS_ENDED).unwrap();
            Ok(sandbox.shell("two").arg(unique()).output()?.status.code())
        };
        let commands = await_all(AFTER_LOGIN, begin(AFTER_LOGIN, &server, &[("two", two)]));
        let trial = Trial { requests: server.requests(), commands, files: Vec::new() };
        assert_eq!(trial.requests.len(), 2);
        trial.ends_commands(Some(3));
    });
}

/// How far a client and a server have got with a session that is idle.
#[derive(Default)]
struct Idle {
    reached: Mutex<u32>,
    changed: Condvar,
}

const IS_IDLE: u32 = 1;
const HAS_ENDED: u32 = 2;
/// By the name of the server.
static IDLE: Mutex<Vec<(String, Arc<Idle>)>> = Mutex::new(Vec::new());

impl Idle {
    fn reach(&self, stage: u32) {
        *self.reached.lock() = stage;
        self.changed.notify_all();
    }

    fn has_reached(&self, stage: u32) -> bool {
        *self.reached.lock() >= stage
    }

    fn await_that(&self, stage: u32) -> io::Result<()> {
        let mut reached = self.reached.lock();
        let result = self.changed.wait_while_for(&mut reached, |reached| *reached < stage, Duration::from_secs(60));
        if result.timed_out() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

#[test]
fn an_old_session_that_is_cut_after_the_request() {
    let trial = Trial::of_command(AFTER_LOGIN, TWO_COMMANDS, |client| {
        client.open_commands()?;
        client.run_one()?;
        client.await_request().map(drop)
    });
    assert_eq!(trial.requests.len(), 2);
    trial.fails_commands(ErrorKind::OutcomeUnknown);
}

#[test]
fn output_behind_a_result() {
    const BEHIND: [fn(&mut Connection) -> io::Result<()>; 4] = [
        |client| client.say(&both(&ended_with(3), &frame(FrameKind::Stdout, "after all"))),
        |client| client.say(&both(&ended_with(3), &ended_with(4))),
        |client| client.say(&both(&ended_with(3), &[FrameKind::Result as u8, 0])),
        |client| client.say(&both(&ended_with(3), &frame_of(200, 1000, b"some of it"))),
    ];
    with_each(&BEHIND, |say| {
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let two: Operation = |sandbox, _| {
            assert_eq!(sandbox.shell("one").arg(unique()).output()?.status.code(), Some(3));
            Ok(sandbox.shell("two").arg(unique()).output()?.status.code())
        };
        let trial = Trial::of_command(AFTER_LOGIN, two, move |client| {
            counter.fetch_add(1, Ordering::Relaxed);
            client.open_commands()?;
            client.await_request()?;
            client.started()?;
            say(client)?;
            client.hold()
        });
        // No session is used again on which more has come.
        assert_eq!((trial.requests.len(), connections.load(Ordering::Relaxed)), (2, 2));
        trial.ends_commands(Some(3));
    });
}

fn both(one: &[u8], other: &[u8]) -> Vec<u8> {
    [one, other].concat()
}

/// The result of a command without output.
fn ended_with(code: i32) -> Vec<u8> {
    result_of(&Response::Ended(Ended { status: Status::Code(code), ..Ended::default() }))
}

fn result_of(response: &Response) -> Vec<u8> {
    frame(FrameKind::Result, serde_json::to_vec(response).unwrap())
}

// The command runs.

#[test]
fn lies_while_the_command_runs() {
    with_each(&SPOILERS, |spoil| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
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
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.start()?;
        client.stdout("some")
    })
    .fails_commands(ErrorKind::OutcomeUnknown);
}

#[test]
fn a_result_that_never_comes() {
    with_each(&[true, false], |is_closed| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            client.stdout("some")?;
            client.eof()?;
            if is_closed {
                client.close_channel()?;
            }
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown)
        .has_output("some");
    });
}

/// Frames that no guest sends. What they are about may have happened.
#[test]
fn frames_that_are_none() {
    let cut = |bytes: Vec<u8>, length: usize| bytes[..length].to_vec();
    let frames = [
        // Too long to be kept.
        frame_of(FrameKind::Result as u8, u32::MAX, b"{"),
        frame_of(FrameKind::Result as u8, 33 << 20, b"{"),
        frame_of(FrameKind::Started as u8, u32::MAX, b"{"),
        frame_of(FrameKind::StdinCredit as u8, u32::MAX, &[0; 100]),
        // Cut.
        cut(ended_with(0), 1),
        cut(ended_with(0), 4),
        cut(ended_with(0), 5),
        cut(ended_with(0), 30),
        frame_of(FrameKind::Stdout as u8, u32::MAX, b"some"),
        frame_of(FrameKind::Stderr as u8, 1, b""),
        frame_of(99, u32::MAX, &[0; 1000]),
        // What only a client sends.
        frame(FrameKind::Request, "{\"op\":\"hello\"}"),
        frame(FrameKind::Stdin, "some"),
        frame(FrameKind::StdinEof, ""),
        frame(FrameKind::Signal, "KILL"),
        frame(FrameKind::Resize, "{}"),
        frame(FrameKind::Cancel, ""),
        // Credits that are no numbers.
        frame(FrameKind::StdinCredit, ""),
        frame(FrameKind::StdinCredit, [0; 3]),
        frame(FrameKind::StdinCredit, [0; 5]),
        // What has been said already, and what is not JSON.
        frame(FrameKind::Started, "{}"),
        frame(FrameKind::Started, "{\"id\":\"\u{1b}[2J\"}"),
    ];
    with_each(&frames, |bytes| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            client.say(&bytes)?;
            client.eof()?;
            client.close_channel()?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

#[test]
fn results_that_are_none() {
    let results = [
        "",
        "{",
        "null",
        "[]",
        "3",
        "\"ended\"",
        "{}",
        "{\"result\":3}",
        "{\"result\":\"ended\"",
        "{\"result\":\"ended\"} {\"result\":\"ended\"}",
        // Of a later protocol, or an earlier one.
        "{\"result\":\"levitated\",\"status\":{\"code\":0}}",
        "{\"result\":\"ended\"}",
        "{\"result\":\"ended\",\"status\":\"lost\"}",
        "{\"result\":\"ended\",\"status\":0}",
        "{\"result\":\"ended\",\"status\":{}}",
        "{\"result\":\"ended\",\"status\":{\"code\":\"0\"}}",
        "{\"result\":\"ended\",\"status\":{\"code\":0.5}}",
        "{\"result\":\"ended\",\"status\":{\"code\":0,\"signal\":\"KILL\"}}",
        "{\"result\":\"ended\",\"status\":{\"\u{1b}]0;title\u{7}\":0}}",
        "{\"result\":\"ended\",\"status\":{\"code\":0},\"cause\":\"\u{9b}2J\"}",
        // No process ends so.
        "{\"result\":\"ended\",\"status\":{\"code\":-1}}",
        "{\"result\":\"ended\",\"status\":{\"code\":256}}",
        "{\"result\":\"ended\",\"status\":{\"code\":9999999999}}",
        "{\"result\":\"ended\",\"status\":{\"signal\":\"\"}}",
        "{\"result\":\"ended\",\"status\":{\"signal\":\"kill\"}}",
        "{\"result\":\"ended\",\"status\":{\"signal\":\"KI\\u0000LL\"}}",
        "{\"result\":\"ended\",\"status\":{\"signal\":\"\\u001b[2J\"}}",
        "{\"result\":\"ended\",\"status\":{\"signal\":\"KKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKKK\"}}",
    ];
    with_each(&results, |json| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            client.frame(FrameKind::Result, json)?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
    let bytes: [&[u8]; 3] = [&[0xff; 20], b"\0", b"{\"result\":\"\xc3\x28\"}"];
    with_each(&bytes, |bytes| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            client.frame(FrameKind::Result, bytes)?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

#[test]
fn results_of_other_requests() {
    let results = [
        Response::Hello(Box::new(Hello { protocol: 2, ..Hello::default() })),
        Response::Done,
        Response::Expiry(Expiry::default()),
        Response::Commands { commands: Vec::new() },
        Response::Detached(Box::new(DetachedInfo { ended: Some(exited(0)), ..DetachedInfo::default() })),
        Response::DetachedList { commands: Vec::new() },
        Response::Followed(Followed::default()),
        Response::Digests { digests: Vec::new() },
        Response::Usage(sandbox_protocol::Usage::default()),
        // Both say that nothing was executed, after it was said that it was.
        Response::NeverRan(NeverRan::default()),
        Response::Failed(Failure::default()),
    ];
    with_each(&results, |response| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            client.result(&response)?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

fn exited(code: i32) -> Ended {
    Ended { status: Status::Code(code), ..Ended::default() }
}

#[test]
fn a_result_before_the_start() {
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.open_commands()?;
        client.await_request()?;
        client.ended(0)?;
        client.hold()
    })
    .fails_commands(ErrorKind::OutcomeUnknown);
}

#[test]
fn output_before_the_start() {
    with_each(&[FrameKind::Stdout, FrameKind::Stderr], |kind| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.open_commands()?;
            client.await_request()?;
            client.frame(kind, "early")?;
            client.started()?;
            client.ended(0)?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

#[test]
fn output_that_is_not_all_there() {
    let counts = [(3, 4), (4, 3), (0, 0), (u64::MAX, 4), (4, u64::MAX), (8, 0)];
    with_each(&counts, |(stdout, stderr)| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            client.stdout("some")?;
            client.stderr("more")?;
            client.result(&Response::Ended(Ended { stdout, stderr, ..exited(0) }))?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown)
        .has_output("some");
    });
}

/// A later guest of the same protocol may send frames that this client does not know.
#[test]
fn frames_of_a_later_guest() {
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.open_commands()?;
        client.await_request()?;
        let unknown = [frame_of(0, 0, b""), frame_of(7, 3, b"one"), frame_of(255, 100_000, &[0xff; 100_000])].concat();
        client.say_all(&unknown)?;
        client.started()?;
        client.say_all(&unknown)?;
        // Frames of nothing are no output.
        client.stdout("")?;
        client.stdout("out")?;
        client.say_all(&unknown)?;
        client.stderr("")?;
        client.await_input_end()?;
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

/// However its packets are cut, all of the output is there.
#[test]
fn output_in_pieces() {
    let command: Operation = |sandbox, _| {
        let output = sandbox.shell("work").output()?;
        assert_eq!((output.stdout_text(), output.stderr_text()), ("out".repeat(100).into(), "err".repeat(100).into()));
        Ok(output.status.code())
    };
    with_each(&[1, 3, 5, 7, 8, 1000, 30_000], |size| {
        Trial::of_command(AFTER_LOGIN, command, move |client| {
            client.open_commands()?;
            client.await_request()?;
            let mut said = frame(FrameKind::Started, "{\"id\":1}");
            for _ in 0..100 {
                said.extend(both(&frame(FrameKind::Stdout, "out"), &frame(FrameKind::Stderr, "err")));
            }
            said.extend(result_of(&Response::Ended(Ended { stdout: 300, stderr: 300, ..exited(3) })));
            said.chunks(size).try_for_each(|piece| client.say(piece))?;
            client.hold()
        })
        .ends_commands(Some(3));
    });
}

#[test]
fn signals_end_commands() {
    with_each(&["KILL", "RTMIN+3", "SEGV", "65"], |name| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            let ended = client.ending(Status::Signal(name.to_owned()), Cause::Itself);
            client.result(&Response::Ended(ended))?;
            client.hold()
        })
        .ends_commands(None);
    });
}

#[test]
fn a_result_and_a_cut() {
    const CUTS: [fn(&mut Connection) -> io::Result<()>; 2] =
        [|client| client.transport.end(), |client| client.eof().and_then(|()| client.close_channel())];
    with_each(&CUTS, |cut| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            client.stdout("some")?;
            client.ended(3)?;
            cut(client)?;
            client.hold()
        })
        .ends_commands(Some(3));
    });
}

/// As where the reader is slow: what fills the windows and the server's buffers is not lost.
#[test]
fn much_output() {
    const MUCH: usize = 6_000_000;
    let command: Operation = |sandbox, _| {
        let output = sandbox.shell("work").output()?;
        assert_eq!(output.stdout.len(), MUCH);
        Ok(output.status.code())
    };
    Trial::of_command(AFTER_LOGIN, command, |client| {
        client.start()?;
        client.stdout(vec![b'x'; MUCH])?;
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

/// What is sent beyond the window is lost, and that is noticed.
#[test]
fn output_beyond_the_window() {
    let command: Operation = |sandbox, _| {
        let mut child = sandbox.shell("work").spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        // Read only when more has been sent than anybody keeps.
        let found = child.wait();
        drop((stdout, stderr));
        Ok(found?.code())
    };
    Trial::of_command(EXPIRES_LATE, command, |client| {
        client.start()?;
        for _ in 0..2000 {
            client.data(frame(FrameKind::Stdout, [b'x'; 30_000]))?;
        }
        client.result(&Response::Ended(Ended { stdout: 60_000_000, ..exited(0) }))?;
        client.hold()
    })
    .fails_commands_as(&[ErrorKind::TimedOut, ErrorKind::OutcomeUnknown]);
}

#[test]
fn messages_for_nobody() {
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.start()?;
        client.stdout("some")?;
        let ours = client.channel;
        for other in [1, 77, u32::MAX] {
            client.channel = other;
            client.data("lost")?;
            client.extended(1, "lost")?;
            client.eof()?;
            client.close_channel()?;
        }
        client.channel = ours;
        // Lengths that are not those of the packet.
        client.send(client.to_channel(CHANNEL_DATA))?;
        client.send(client.to_channel(CHANNEL_EXTENDED_DATA).u32(1))?;
        client.send(client.to_channel(CHANNEL_DATA).string(""))?;
        client.await_input_end()?;
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

/// No guest sends anything on another stream of the channel than the first.
#[test]
fn another_stream() {
    with_each(&[0, 1, 2, u32::MAX], |stream| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            client.extended(stream, [0xa5; 5])?;
            client.extended(stream, vec![0; 30_000])?;
            client.ended(0)?;
            client.eof()?;
            client.close_channel()?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

#[test]
fn messages_that_are_cut_off() {
    Trial::of(EXPIRES, |client| {
        client.open_commands()?;
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

// The input.

/// So much can be sent without any credit; the guest has the room.
#[test]
fn input_without_credit() {
    let command: Operation = |sandbox, _| {
        let input = noise(STDIN_WINDOW);
        Ok(sandbox.shell("work").stdin(input).output()?.status.code())
    };
    Trial::of_command(AFTER_LOGIN, command, |client| {
        client.start()?;
        client.await_input_end()?;
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

/// Bytes of input that are more than anybody takes unasked.
static MUCH_INPUT: LazyLock<Vec<u8>> = LazyLock::new(|| noise(10 * STDIN_WINDOW));

const WITH_MUCH_INPUT: Operation =
    |sandbox, _| Ok(sandbox.shell("work").arg(unique()).stdin(MUCH_INPUT.clone()).output()?.status.code());

/// Takes this many bytes of input.
fn take_input(client: &mut Connection, mut count: usize) -> io::Result<()> {
    while count > 0 {
        if let Frame::Stdin(bytes) = client.next_frame()? {
            count = count.checked_sub(bytes.len()).ok_or(io::ErrorKind::InvalidData)?;
        }
    }
    Ok(())
}

/// A command that takes no more input may end all the same.
#[test]
fn credit_that_never_comes() {
    Trial::of_command(AFTER_LOGIN, WITH_MUCH_INPUT, |client| {
        open_narrow(client, u32::MAX)?;
        client.await_request()?;
        client.started()?;
        take_input(client, STDIN_WINDOW)?;
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
    // And not a byte more is sent.
    Trial::of_command(EXPIRES, WITH_MUCH_INPUT, |client| {
        open_narrow(client, u32::MAX)?;
        client.await_request()?;
        client.started()?;
        take_input(client, STDIN_WINDOW)?;
        assert_eq!(client.next_frame()?, Frame::Cancel);
        client.killed(Cause::Cancelled)?;
        client.hold()
    })
    .fails_commands(ErrorKind::TimedOut)
    .says("it and all its processes were killed");
}

#[test]
fn credit_byte_by_byte() {
    let command: Operation =
        |sandbox, _| Ok(sandbox.shell("work").stdin(noise(STDIN_WINDOW + 100)).output()?.status.code());
    Trial::of_command(AFTER_LOGIN, command, |client| {
        open_narrow(client, u32::MAX)?;
        client.await_request()?;
        client.started()?;
        take_input(client, STDIN_WINDOW)?;
        for _ in 0..100 {
            client.credit(1)?;
            take_input(client, 1)?;
            client.credit(0)?;
        }
        client.await_input_end()?;
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

/// However much is credited, no more than one window of input is on its way.
#[test]
fn credit_that_overflows() {
    Trial::of_command(AFTER_LOGIN, WITH_MUCH_INPUT, |client| {
        open_narrow(client, u32::MAX)?;
        client.await_request()?;
        for _ in 0..5 {
            client.credit(u32::MAX)?;
        }
        client.started()?;
        loop {
            match client.next_frame()? {
                Frame::StdinEof => break,
                Frame::Stdin(_) => client.credit(u32::MAX)?,
                frame => panic!("{frame:?}"),
            }
        }
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

#[test]
fn a_server_that_reads_no_more() {
    LazyLock::force(&MUCH_INPUT);
    Trial::of_command(EXPIRES, WITH_MUCH_INPUT, |client| {
        open_narrow(client, u32::MAX)?;
        client.await_request()?;
        client.started()?;
        for _ in 0..5 {
            client.credit(u32::MAX)?;
        }
        client.transport.stop_reading()
    })
    .fails_commands(ErrorKind::TimedOut);
}

// The end that the client wants.

/// Serves a command that goes on until it is cancelled.
fn run_until_cancelled(client: &mut Connection) -> io::Result<()> {
    client.start()?;
    client.stdout("some")?;
    client.until_frame(|frame| *frame == Frame::Cancel).map(drop)
}

#[test]
fn a_command_that_is_killed_in_time() {
    Trial::of_commands(EXPIRES, |client| {
        run_until_cancelled(client)?;
        client.stdout(" more")?;
        client.killed(Cause::Cancelled)?;
        client.hold()
    })
    .fails_commands(ErrorKind::TimedOut)
    .says("it and all its processes were killed")
    .has_output("some more");
}

/// The guest keeps the time, too.
#[test]
fn a_command_that_is_killed_by_the_guest() {
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.start()?;
        client.stdout("some")?;
        client.killed(Cause::TimeLimit)?;
        client.hold()
    })
    .fails_commands(ErrorKind::TimedOut)
    .says("it and all its processes were killed")
    .has_output("some");
}

#[test]
fn a_kill_that_is_not_proved() {
    with_each(&[(true, 1), (false, 0)], |(proved, left)| {
        Trial::of_commands(EXPIRES, move |client| {
            run_until_cancelled(client)?;
            let ended = client.ending(Status::Signal("KILL".into()), Cause::Cancelled);
            client.result(&Response::Ended(Ended { proved, left, ..ended }))?;
            client.hold()
        })
        .fails_commands(ErrorKind::TimedOut)
        .says("is not proved");
    });
}

#[test]
fn a_kill_that_is_not_confirmed() {
    let answers: [fn(&mut Connection) -> io::Result<()>; 8] = [
        |client| client.hold(),
        |client| client.transport.stop_reading(),
        |client| client.eof(),
        |client| client.close_channel(),
        |client| client.transport.end(),
        |client| client.transport.reset(),
        |client| client.frame(FrameKind::Result, "{}"),
        |client| client.say(&GARBAGE),
    ];
    with_each(&answers, |answer| {
        Trial::of_commands(EXPIRES, move |client| {
            run_until_cancelled(client)?;
            answer(client)?;
            client.hold()
        })
        .fails_commands(ErrorKind::TimedOut)
        .says("did not confirm")
        .has_output("some");
    });
}

/// The time of a command whose request was refused at that moment is over, nevertheless.
#[test]
fn a_refusal_that_comes_with_the_end() {
    let answers = [
        Response::Failed(Failure { kind: FailureKind::Cancelled, ..Failure::default() }),
        Response::Failed(Failure { kind: FailureKind::NotFound, ..Failure::default() }),
    ];
    with_each(&answers, |response| {
        Trial::of_commands(EXPIRES, move |client| {
            client.open_commands()?;
            client.await_request()?;
            client.until_frame(|frame| *frame == Frame::Cancel)?;
            client.result(&response)?;
            client.hold()
        })
        .fails_commands(ErrorKind::TimedOut);
    });
}

#[test]
fn output_without_end_after_a_kill() {
    Trial::of_commands(FLOOD, |client| {
        run_until_cancelled(client)?;
        client.flood(&client.to_channel(CHANNEL_DATA).string(frame(FrameKind::Stdout, [b'x'; 30_000])))
    })
    .fails_commands(ErrorKind::TimedOut);
}

/// The caller's own error is what he gets, whatever becomes of the command.
#[test]
fn a_receiver_that_has_enough() {
    let command: Operation = |sandbox, _| {
        let mut calls = 0;
        let result = sandbox.shell("work").arg(unique()).stream(|stream, bytes| {
            calls += 1;
            assert_eq!((stream, bytes), (OutputStream::Stdout, &b"some"[..]));
            Err(Error::cancelled("enough"))
        });
        assert_eq!(calls, 1);
        Ok(result?.code())
    };
    const ANSWERS: [fn(&mut Connection) -> io::Result<()>; 3] = [
        |client| client.stdout("more").and_then(|()| client.killed(Cause::Cancelled)),
        |client| client.ended(0),
        |client| client.hold(),
    ];
    with_each(&ANSWERS, |answer| {
        Trial::of_command(AFTER_LOGIN, command, move |client| {
            run_until_cancelled(client)?;
            answer(client)?;
            client.hold()
        })
        .fails_commands(ErrorKind::Cancelled)
        .says("enough");
    });
}

#[test]
fn an_interrupt() {
    // Once the command runs.
    let command: Operation = |sandbox, _| {
        let has_output = Rc::new(Cell::new(false));
        let is_interrupted = Rc::clone(&has_output);
        let run = || {
            sandbox.shell("work").arg(unique()).stream(|_, _| {
                has_output.set(true);
                Ok(())
            })
        };
        Ok(sandbox::interruptible(move || is_interrupted.get(), run)?.code())
    };
    type Answer = fn(&mut Connection) -> io::Result<()>;
    const ANSWERS: [(Answer, &str); 2] = [
        (|client| client.killed(Cause::Cancelled), "it and all its processes were killed"),
        (|client| client.hold(), "did not confirm"),
    ];
    with_each(&ANSWERS, |(answer, says)| {
        Trial::of_command(AFTER_LOGIN, command, move |client| {
            run_until_cancelled(client)?;
            answer(client)?;
            client.hold()
        })
        .fails_commands(ErrorKind::Cancelled)
        .says(says);
    });
}

/// What a child is asked for arrives in its order, and its end is not made up.
#[test]
fn what_a_child_is_told() {
    let command: Operation = |sandbox, _| {
        let mut child = sandbox.shell("work").terminal("vt100", 80, 24).spawn()?;
        child.signal("INT")?;
        child.resize(132, 50);
        child.kill()?;
        let status = child.wait()?;
        assert_eq!(status.signal(), Some("KILL"));
        Ok(status.code())
    };
    Trial::of_command(AFTER_LOGIN, command, |client| {
        client.start()?;
        let mut told = Vec::new();
        while told.len() < 3 {
            match client.next_frame()? {
                Frame::StdinEof => {}
                frame => told.push(frame),
            }
        }
        let size = Resize { columns: 132, rows: 50 };
        assert_eq!(told, [Frame::Signal("INT".into()), Frame::Resize(size), Frame::Cancel]);
        client.killed(Cause::Cancelled)?;
        client.hold()
    })
    .ends_commands(None);
}

/// Starts a child and reads its standard error only: it is told there when the other stream is full.
fn spawn_unread(sandbox: &Sandbox) -> Result<sandbox::Child> {
    let mut child = sandbox.shell("work").spawn()?;
    let mut ready = [0; 5];
    io::Read::read_exact(&mut child.stderr.take().unwrap(), &mut ready).unwrap();
    Ok(child)
}

/// Sends output until nobody takes any more, and what comes meanwhile until something is wanted. Returns how much that
/// was.
fn fill_up(client: &mut Connection, is_wanted: impl Fn(&Frame) -> bool) -> io::Result<usize> {
    client.stderr("ready")?;
    let mut sent = 0;
    loop {
        while client.room().is_some_and(|room| *room > 40_000) {
            client.stdout([b'x'; 30_000])?;
            sent += 30_000;
        }
        match client.take_frame()? {
            Some(frame) if is_wanted(&frame) => return Ok(sent),
            Some(_) => {}
            None => {
                if let Event::Data(bytes) = client.next()? {
                    client.keep(&bytes);
                }
            }
        }
    }
}

/// A child whose output nobody reads can be killed all the same, and has its end.
#[test]
fn a_kill_of_a_child_that_nobody_reads() {
    let command: Operation = |sandbox, _| {
        let child = spawn_unread(sandbox)?;
        child.kill()?;
        // The stream is still there, and still full.
        let status = child.wait_shared()?;
        let mut all = Vec::new();
        io::Read::read_to_end(&mut child.stdout.as_ref().unwrap(), &mut all).unwrap();
        assert!(all.len() > 2 << 20 && all.len() % 30_000 == 4, "{} bytes", all.len());
        Ok(status.code())
    };
    Trial::of_command(AFTER_LOGIN, command, |client| {
        client.start()?;
        fill_up(client, |frame| *frame == Frame::Cancel)?;
        client.exited()?;
        client.stdout("last")?;
        client.killed(Cause::Cancelled)?;
        client.hold()
    })
    .ends_commands(None);
}

/// One whose time is over, too. What nobody reads by then is not waited for where the guest does not say that it is the
/// last.
#[test]
fn the_time_of_a_child_that_nobody_reads() {
    let command: Operation = |sandbox, _| Ok(spawn_unread(sandbox)?.wait_shared()?.code());
    for (says_so, text) in [(true, "it and all its processes were killed"), (false, "did not confirm")] {
        Trial::of_command(EXPIRES, command, move |client| {
            client.start()?;
            fill_up(client, |frame| *frame == Frame::Cancel)?;
            if says_so {
                client.exited()?;
            }
            client.killed(Cause::Cancelled)?;
            client.hold()
        })
        .fails_commands(ErrorKind::TimedOut)
        .says(text);
    }
}

/// An end that is none keeps nobody busy, and fills no memory.
#[test]
fn an_end_that_is_none() {
    let command: Operation = |sandbox, _| Ok(spawn_unread(sandbox)?.wait_shared()?.code());
    Trial::of_command(Limits { is_alone: true, ..AFTER_LOGIN }, command, |client| {
        client.start()?;
        client.exited()?;
        fill_up(client, |_| false).map(drop)
    })
    .fails_commands(ErrorKind::OutcomeUnknown)
    .says("output without end");
    // One of another command.
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.start()?;
        client.send(client.request("exit-status", false).u32(77))?;
        client.send(client.request("exit-signal", false).string("KILL").byte(0).string("").string(""))?;
        client.stdout("out")?;
        client.await_input_end()?;
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
    // One that is cut.
    const CUT: [fn(&Connection) -> Message; 3] = [
        |client| client.request("exit-status", false),
        |client| client.request("exit-status", false).raw(&[0; 3]),
        |client| client.request("exit-signal", false).u32(u32::MAX),
    ];
    with_each(&CUT, |message| {
        Trial::of_commands(AFTER_LOGIN, move |client| {
            client.start()?;
            client.send(message(client))?;
            client.eof()?;
            client.close_channel()?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

// Floods.

#[test]
fn floods_while_the_command_runs() {
    let floods: [fn(&Connection) -> Message; 10] = [
        |_| ignore(),
        |client| client.to_channel(CHANNEL_SUCCESS),
        |client| client.request("what@example.org", true),
        |_| Message::new(DEBUG).byte(1).string([b'x'; 1000]).string(""),
        |_| Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1),
        |client| client.to_channel(CHANNEL_DATA).string(""),
        |client| client.to_channel(CHANNEL_DATA).string(frame(FrameKind::Stdout, [b'x'; 30_000])),
        |client| client.to_channel(CHANNEL_DATA).string(frame(FrameKind::Stdout, "").repeat(1000)),
        |client| client.to_channel(CHANNEL_DATA).string(frame_of(200, 30_000, &[0; 30_000])),
        |_| Message::new(CHANNEL_DATA).u32(77).string([b'x'; 30_000]),
    ];
    for flood in floods {
        Trial::of_commands(FLOOD, move |client| {
            client.start()?;
            client.flood(&flood(client))
        })
        .fails_commands_as(&[ErrorKind::TimedOut, ErrorKind::OutcomeUnknown]);
    }
}

/// What libssh2 keeps because it may be asked for yet. So there is a limit, whatever the command's time.
#[test]
fn what_nobody_asks_for_fills_no_memory() {
    static SENT: AtomicU64 = AtomicU64::new(0);
    let command: Operation = |sandbox, _| Ok(sandbox.shell("work").timeout(None).output()?.status.code());
    let floods: [fn(&Connection) -> Message; 5] = [
        |client| client.to_channel(CHANNEL_SUCCESS).raw(&[0; 20_000]),
        |client| client.to_channel(CHANNEL_FAILURE).raw(&[0; 20_000]),
        |client| client.to_channel(CHANNEL_EXTENDED_DATA).u32(2).string(""),
        |_| Message::new(IGNORE).string([b'x'; 20_000]),
        |_| Message::new(USERAUTH_BANNER).string([b'x'; 20_000]).string(""),
    ];
    for flood in floods {
        SENT.store(0, Ordering::Relaxed);
        let trial = Trial::of_command(Limits { is_alone: true, ..AFTER_LOGIN }, command, move |client| {
            client.start()?;
            let message = flood(client);
            loop {
                client.transport.check_age()?;
                client.send(message.clone())?;
                SENT.fetch_add(message.0.len() as u64, Ordering::Relaxed);
            }
        });
        let sent = SENT.load(Ordering::Relaxed);
        assert!(sent < 64 << 20, "{sent} bytes were taken: {:?}", trial.commands);
        trial.fails_commands(ErrorKind::OutcomeUnknown).says("sends data that was not requested");
    }
}

/// A result that is long, or that takes far more memory than its text.
#[test]
fn results_that_are_long() {
    let results = [
        format!("{{\"result\":\"detached_list\",\"commands\":[{}{{}}]}}", "{},".repeat(2_000_000)),
        format!("{{\"result\":\"ended\",\"more\":[{}0]}}", "0,".repeat(8_000_000)),
        format!("{{\"result\":\"ended\",\"more\":{}{}}}", "[".repeat(1_000_000), "]".repeat(1_000_000)),
        format!("{{\"result\":\"never_ran\",\"message\":\"{}\"}}", "x".repeat(5 << 20)),
    ];
    with_each(&results, |json| {
        Trial::of_command(AFTER_LOGIN, COMMANDS[1].1, move |client| {
            client.open_commands()?;
            client.await_request()?;
            client.frame(FrameKind::Result, &json)?;
            client.hold()
        })
        .fails_commands(ErrorKind::OutcomeUnknown);
    });
}

/// What comes behind a result holds nobody.
#[test]
fn floods_after_the_command() {
    let floods: [fn(&Connection) -> Message; 4] = [
        |_| Message::new(IGNORE).string([0; 20_000]),
        |client| client.to_channel(CHANNEL_DATA).string(""),
        |client| client.to_channel(CHANNEL_DATA).string(frame(FrameKind::Stdout, [b'x'; 30_000])),
        |_| Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1),
    ];
    for flood in floods {
        Trial::of_commands(Limits { is_alone: true, ..AFTER_LOGIN }, move |client| {
            client.start()?;
            client.ended(3)?;
            client.flood(&flood(client))
        })
        .ends_commands(Some(3));
    }
}

/// What the client answers to nobody who reads can't be sent to its end. The connection is given up in time all the
/// same.
#[test]
fn questions_of_a_server_that_does_not_listen() {
    let floods: [fn(&Connection) -> Message; 2] = [
        |_| Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1),
        |client| client.request("what@example.org", true),
    ];
    for flood in floods {
        Trial::of_commands(Limits { is_alone: true, ..EXPIRES_LATE }, move |client| {
            client.start()?;
            client.flood(&flood(client))
        })
        .fails_commands_as(&[ErrorKind::TimedOut, ErrorKind::OutcomeUnknown]);
    }
}

// SSH below it all.

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
    Trial::of_commands(AFTER_LOGIN, move |client| {
        client.start()?;
        for cipher in ciphers {
            client.stdout("out")?;
            client.transport.cipher = cipher;
            client.transport.exchange_keys()?;
            client.stderr("err")?;
        }
        client.await_input_end()?;
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

/// The client's part of a key exchange has to wait until there is room for it, and nothing is lost over that.
#[test]
fn a_key_exchange_while_nothing_can_be_sent() {
    Trial::of_command(AFTER_LOGIN, WITH_MUCH_INPUT, |client| {
        open_narrow(client, u32::MAX)?;
        client.await_request()?;
        client.started()?;
        for _ in 0..3 {
            client.credit(u32::MAX)?;
            client.transport.await_congestion()?;
            let ours = client.transport.begin_key_exchange()?;
            client.transport.continue_key_exchange(&ours)?;
        }
        loop {
            match client.next_frame()? {
                Frame::StdinEof => break,
                Frame::Stdin(_) => client.credit(u32::MAX)?,
                frame => panic!("{frame:?}"),
            }
        }
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

/// An assertion of libssh2's is about these.
#[test]
fn packets_that_are_no_multiple_of_a_block() {
    with_each(&CIPHERS, |cipher| {
        Trial::of_commands(AFTER_LOGIN, |client| {
            client.transport.cipher = cipher;
            client.log_in()?;
            for more in 1..BLOCK {
                client.transport.send_changed(&ignore().0, |packet| {
                    packet.body.resize(packet.body.len() + usize::from(more), 0);
                    packet.length += u32::from(more);
                    packet.padding += more;
                })?;
            }
            client.open_channel(1 << 20)?;
            client.await_start()?;
            client.succeed()?;
            client.run_one()?;
            client.hold()
        })
        .ends_commands(Some(3));
    });
}

#[test]
fn a_later_key_exchange_that_stops() {
    Trial::of_commands(EXPIRES_LATE, |client| {
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
    Trial::of_commands(AFTER_LOGIN, |client| {
        client.start()?;
        client.await_input_end()?;
        for _ in 0..20 {
            client.send(Message::new(GLOBAL_REQUEST).string("keepalive@openssh.com").byte(1))?;
            client.until(|event| *event == Event::Other(REQUEST_FAILURE))?;
            for kind in ["x11", "forwarded-tcpip", "auth-agent@openssh.com"] {
                let open = Message::new(CHANNEL_OPEN).string(kind).u32(9).u32(1 << 20).u32(32768);
                client.send(open.string("here").u32(1).string("there").u32(2))?;
                client.until(|event| *event == Event::Other(CHANNEL_OPEN_FAILURE))?;
            }
        }
        client.ended(3)?;
        client.hold()
    })
    .ends_commands(Some(3));
}

// Detached commands.

/// A detached command that has ended with this code.
fn detached(code: i32) -> Response {
    Response::Detached(Box::new(DetachedInfo {
        key: "key".into(),
        ended: Some(exited(code)),
        ..DetachedInfo::default()
    }))
}

const ASK: [Named; 6] = [
    ("detach", |sandbox, _| sandbox.command("work").stdin("some").detach("key").map(|_| None)),
    ("try_wait", |sandbox, _| Ok(sandbox.detached("key")?.try_wait()?.and_then(|status| status.code()))),
    ("wait", |sandbox, _| Ok(sandbox.detached("key")?.wait(Duration::from_secs(30))?.code())),
    ("read", |sandbox, _| sandbox.detached("key")?.read(OutputStream::Stdout, 0, 100).map(|_| None)),
    ("stream", |sandbox, _| {
        Ok(sandbox.detached("key")?.stream(&mut sandbox::Position::default(), |_, _| Ok(()))?.code())
    }),
    ("kill", |sandbox, _| sandbox.detached("key")?.kill().map(|()| None)),
];
const TELL: [Named; 2] = [
    ("signal", |sandbox, _| sandbox.detached("key")?.signal("TERM").map(|()| None)),
    ("remove", |sandbox, _| sandbox.detached("key")?.remove().map(|()| None)),
];

/// Does each with a server of its own, which answers all of its requests so; and gives what came to it and how often it
/// was asked.
fn with_detached(
    operations: &[Named],
    script: impl Fn(&mut Connection) -> io::Result<()> + Copy + Send + Sync + 'static,
    check: impl Fn(&str, &Outcome, usize) + Sync,
) {
    with_each(operations, |named| {
        let server = Server::start(script);
        let ended = await_all(AFTER_LOGIN, begin(AFTER_LOGIN, &server, &[named]));
        check(named.0, &ended[0].1, server.requests().len());
    });
}

/// What may be asked again is asked again where the connection is lost, but not for ever.
#[test]
fn detached_commands_and_lost_connections() {
    let cut = |client: &mut Connection| {
        client.open_commands()?;
        client.await_request().map(drop)
    };
    with_detached(&ASK, cut, |name, outcome, count| {
        assert_eq!((error(name, outcome).kind(), count), (ErrorKind::Disconnected, 3), "{name}: {outcome:?}");
    });
    with_detached(&TELL, cut, |name, outcome, count| {
        assert_eq!((error(name, outcome).kind(), count), (ErrorKind::OutcomeUnknown, 1), "{name}: {outcome:?}");
    });
}

/// No answer to something else is taken for success.
#[test]
fn detached_commands_and_results_of_other_requests() {
    let others = |client: &mut Connection| {
        client.open_commands()?;
        loop {
            client.await_request()?;
            client.await_input_end()?;
            client.result(&Response::Expiry(Expiry::default()))?;
        }
    };
    with_detached(&[&ASK[..], &TELL].concat(), others, |name, outcome, _| {
        let kind = error(name, outcome).kind();
        assert!(matches!(kind, ErrorKind::Disconnected | ErrorKind::OutcomeUnknown), "{name}: {outcome:?}");
    });
    let unknown = |client: &mut Connection| {
        client.open_commands()?;
        loop {
            client.await_request()?;
            client.await_input_end()?;
            client.frame(FrameKind::Result, "{\"result\":\"levitated\"}")?;
        }
    };
    with_detached(&[&ASK[..], &TELL].concat(), unknown, |name, outcome, _| {
        let kind = error(name, outcome).kind();
        assert!(matches!(kind, ErrorKind::Disconnected | ErrorKind::OutcomeUnknown), "{name}: {outcome:?}");
    });
}

#[test]
fn detached_commands_that_are_refused() {
    use FailureKind::{Cancelled, Conflict, NotFound, Other};
    let kinds = [
        (NotFound, ErrorKind::DetachedNotFound),
        (Conflict, ErrorKind::Conflict),
        (Cancelled, ErrorKind::Command),
        (Other, ErrorKind::Command),
    ];
    with_each(&kinds, |(kind, expected)| {
        let refuse = move |client: &mut Connection| {
            client.open_commands()?;
            client.await_request()?;
            client.result(&Response::Failed(Failure { kind, message: "\u{1b}no".into(), errno: None }))?;
            client.hold()
        };
        with_detached(&[&ASK[..], &TELL].concat(), refuse, |name, outcome, count| {
            assert_eq!((error(name, outcome).kind(), count), (expected, 1), "{name}: {outcome:?}");
        });
    });
}

/// Its output is that of the place that was asked for, no more and no less.
#[test]
fn output_of_detached_commands() {
    type Say = fn(&mut Connection) -> io::Result<()>;
    fn followed(client: &mut Connection, stdout: u64) -> io::Result<()> {
        let Response::Detached(command) = detached(3) else { unreachable!() };
        client.result(&Response::Followed(Followed { stdout, stderr: 0, command: *command }))
    }
    const HONEST: Say = |client| client.stdout("some").and_then(|()| followed(client, 4));
    const LIES: [Say; 4] = [
        |client| client.stdout("some").and_then(|()| followed(client, 3)),
        |client| client.stdout("some").and_then(|()| followed(client, 5)),
        |client| followed(client, u64::MAX),
        |client| client.stdout([b'x'; 200]).and_then(|()| followed(client, 4)),
    ];
    let script = |say: Say| {
        move |client: &mut Connection| {
            client.open_commands()?;
            loop {
                client.await_request()?;
                say(client)?;
            }
        }
    };
    let operations = &ASK[3..5];
    with_detached(operations, script(HONEST), |name, outcome, _| assert!(outcome.is_ok(), "{name}: {outcome:?}"));
    with_each(&LIES, |say| {
        with_detached(operations, script(say), |name, outcome, _| {
            let kind = error(name, outcome).kind();
            assert!(matches!(kind, ErrorKind::Disconnected | ErrorKind::OutcomeUnknown), "{name}: {outcome:?}");
        });
    });
}
