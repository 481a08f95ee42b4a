//! Commands of the library.

use std::time::{Duration, Instant};

use sandbox_protocol::{
    Bytes, Cause, Claim, FailureKind, FrameKind, Input, Limit, Output, Renew, Request, Resize, Response, Run,
    STDIN_WINDOW, SignalCommand, Stage, Status, Terminal, User, header,
};

use crate::client::{Answer, Client, connect, run, shell};
use crate::guest::{Guest, USER, wait_until};

#[test]
fn one_after_another() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let Some(Response::Hello(hello)) = client.ask(&Request::Hello).response else { panic!("no hello") };
    assert_eq!((hello.protocol, hello.uid, hello.instance.len()), (sandbox_protocol::PROTOCOL, USER, 16));
    let promises = hello.promises;
    assert!(promises.first_process && promises.not_dumpable && promises.fenced && promises.untampered, "{hello:?}");
    assert_eq!(hello.cwd.0, guest.work().as_os_str().as_encoded_bytes());
    for code in 0..20 {
        let answer = client.shell(&format!("echo {code}; echo error >&2; exit {code}"));
        assert_eq!((answer.code(), answer.text(), &answer.stderr[..]), (code, &*format!("{code}\n"), &b"error\n"[..]));
        assert!(answer.started.as_ref().unwrap().pid > 1);
        assert_eq!((answer.ended().cause, answer.ended().tampered), (Cause::Itself, false));
    }
    let answer = client.shell("kill -s TERM $$");
    assert_eq!(answer.ended().status, Status::Signal("TERM".to_owned()));
    // Two channels of one connection do not disturb each other.
    let mut other = Client::on(client.session.clone());
    client.request(&Request::Run(run(&["cat"])));
    assert_eq!(other.shell("exit 3").code(), 3);
    assert_eq!(client.receive(Answer::default()).code(), 0);
}

#[test]
fn a_claim_gives_variables_a_lifetime_and_a_limit() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let claim = |env: &[(&str, &str)], lifetime_ms, hard_limit_ms| {
        let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Request::Claim(Claim { env, lifetime_ms, hard_limit_ms, idle_timeout_ms: None })
    };
    // Each is made twice, as after a lost connection.
    for _ in 0..2 {
        let request = claim(&[("TASK", "7"), ("MARK", "mine")], Some(600_000), Some(900_000));
        let Some(Response::Expiry(expiry)) = client.ask(&request).response else { panic!("no expiry") };
        assert!(expiry.remaining_ms.is_some_and(|left| (500_000..=600_000).contains(&left)), "{expiry:?}");
        assert!(expiry.hard_remaining_ms.is_some_and(|left| (800_000..=900_000).contains(&left)), "{expiry:?}");
    }
    // For other connections too; a command's own win.
    let mut other = Client::new(&guest);
    assert_eq!(other.shell("echo $TASK $MARK").text(), "7 mine\n");
    let answer = other.run(Run { env: vec![("TASK".into(), "8".into())], ..run(&["/bin/sh", "-c", "echo $TASK"]) });
    assert_eq!(answer.text(), "8\n");
    let answer = other.run(Run { clear_env: true, ..run(&["/usr/bin/env"]) });
    assert_eq!(answer.text(), "");
    // A claim that can't be does nothing.
    for name in ["", "A=B", "A\0B"] {
        let answer = client.ask(&claim(&[("LATER", "1"), (name, "x")], Some(1), None));
        assert!(
            matches!(&answer.response, Some(Response::Failed(why)) if why.kind == FailureKind::Invalid),
            "{name:?}"
        );
    }
    assert_eq!(client.shell("echo ${LATER:-unset}").text(), "unset\n");
}

#[test]
fn everything_is_data() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let odd = Bytes::from(b"\xff\xfe$(id)\n'\"".to_vec());
    let mut command =
        run(&["/bin/sh", "-c", "printf '%s|%s|%s|' \"$1\" \"$ODD\" \"$MARK\"; pwd; umask; ulimit -n", "sh"]);
    command.argv.push(odd.clone());
    command.env = vec![("ODD".into(), odd.clone())];
    command.cwd = Some("..".into());
    command.umask = Some(0o27);
    command.limits = vec![Limit { resource: "nofile".to_owned(), soft: Some(77), hard: Some(88) }];
    let answer = client.run(command);
    let expected =
        [&odd.0[..], b"|", &odd.0, b"|of the image|", guest.directory.as_os_str().as_encoded_bytes(), b"\n0027\n77\n"];
    assert_eq!((answer.code(), answer.stdout), (0, expected.concat()));
    let answer = client.run(Run { clear_env: true, env: vec![("A".into(), "1".into())], ..run(&["/usr/bin/env"]) });
    assert_eq!(answer.text(), "A=1\n");
    // More than an exec request of SSH can carry.
    let long = "x".repeat(100_000);
    let answer = client.run(run(&["/bin/sh", "-c", "echo ${#1} ${#2} ${#3} ${#4}", "sh", &long, &long, &long, &long]));
    assert_eq!(answer.text(), "100000 100000 100000 100000\n");
    // The variables that commands need are there though nobody said them.
    let answer = client.shell("cd \"$HOME\" && echo ok > \"${TMPDIR:-/tmp}/sandbox-guest-test-$$\" && rm \"${TMPDIR:-/tmp}/sandbox-guest-test-$$\"");
    assert_eq!(answer.code(), 0, "{}", String::from_utf8_lossy(&answer.stderr));
}

#[test]
fn what_never_ran() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    std::fs::write(guest.work().join("script"), "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(guest.work().join("script"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let huge = "x".repeat(8 << 20);
    let cases = [
        (run(&["no-such-program"]), Stage::Program, libc::ENOENT),
        (run(&["/etc/passwd"]), Stage::Program, libc::EACCES),
        (run(&["./script"]), Stage::Interpreter, libc::ENOENT),
        (run(&[]), Stage::Arguments, libc::EINVAL),
        (run(&["true", "nul\0byte"]), Stage::Arguments, libc::EINVAL),
        (run(&["true", &huge]), Stage::Arguments, libc::E2BIG),
        (Run { cwd: Some("/no/such/directory".into()), ..run(&["true"]) }, Stage::Directory, libc::ENOENT),
        (Run { cwd: Some("/etc/passwd".into()), ..run(&["true"]) }, Stage::Directory, libc::ENOTDIR),
        (Run { user: Some(User::Name("nobody-of-that-name".to_owned())), ..run(&["true"]) }, Stage::User, libc::ENOENT),
        (Run { user: Some(User::Name("root".to_owned())), ..run(&["true"]) }, Stage::User, libc::EPERM),
    ];
    for (command, stage, errno) in cases {
        let answer = client.run(command);
        let reason = answer.never_ran();
        assert_eq!((reason.stage, reason.errno), (stage, errno), "{reason:?}");
    }
    let unknown = Limit { resource: "luck".to_owned(), soft: None, hard: None };
    assert_eq!(client.run(Run { limits: vec![unknown], ..run(&["true"]) }).failure(), FailureKind::Invalid);
    assert_eq!(
        client.run(Run { env: vec![("A=B".into(), "".into())], ..run(&["true"]) }).failure(),
        FailureKind::Invalid
    );
    // And the channel works on.
    assert_eq!(client.run(run(&["true"])).code(), 0);
}

#[test]
fn requests_that_make_no_sense() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    for (text, kind) in [
        (&b"{\"op\":\"levitate\"}"[..], FailureKind::Unsupported),
        (b"{", FailureKind::Invalid),
        (b"", FailureKind::Invalid),
        (b"[[[[[[[[", FailureKind::Invalid),
        (b"{\"op\":\"run\",\"argv\":7}", FailureKind::Invalid),
    ] {
        client.send(FrameKind::Request, text);
        assert_eq!(client.receive(Answer::default()).failure(), kind, "{}", text.escape_ascii());
    }
    let deep = "[".repeat(1 << 20);
    client.send(FrameKind::Request, deep.as_bytes());
    assert_eq!(client.receive(Answer::default()).failure(), FailureKind::Invalid);
    // What belongs to no request is ignored.
    client.send(FrameKind::Cancel, b"");
    client.send(FrameKind::Stdin, b"late");
    client.send(FrameKind::Signal, b"KILL");
    assert_eq!(client.run(run(&["true"])).code(), 0);
    // A second request at a time ends the channel, and with it the first.
    let mark = guest.mark();
    client.request(&Request::Run(run(&["sleep", &mark])));
    client.receive_start();
    client.request(&Request::Hello);
    assert!(client.is_closed_by_guest());
    wait_until("the end of the command", || !guest.has_process(&mark));
}

#[test]
fn half_a_request_never_runs() {
    let guest = Guest::start();
    let file = guest.work().join("ran");
    let session = connect(&guest);
    let mut client = Client::on(session);
    let request = serde_json::to_vec(&Request::Run(run(&["touch", file.to_str().unwrap()]))).unwrap();
    let mut frame = sandbox_protocol::header(FrameKind::Request, request.len() as u32).to_vec();
    frame.extend_from_slice(&request[..request.len() - 1]);
    client.write(&frame);
    drop(client);
    let mut client = Client::new(&guest);
    assert_eq!(client.run(run(&["true"])).code(), 0);
    assert!(!file.exists());
}

#[test]
fn input_and_output_of_any_length() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let bytes: Vec<u8> = (0..STDIN_WINDOW as u32 - 1).map(|number| ((number * 31) >> 3) as u8).collect();
    let answer = client.run_with(run(&["cat"]), &bytes);
    assert_eq!(answer.code(), 0);
    assert!(answer.stdout == bytes);
    let answer = client.shell("head -c 50000000 /dev/zero; head -c 3000000 /dev/zero >&2; exit 9");
    assert_eq!((answer.code(), answer.stdout.len(), answer.stderr.len()), (9, 50_000_000, 3_000_000));
    let quiet = Run { stdout: Output::Discarded, stderr: Output::Discarded, ..shell("echo out; echo err >&2") };
    let answer = client.run(quiet);
    assert_eq!((answer.code(), answer.stdout.len(), answer.stderr.len()), (0, 0, 0));
    let merged = Run { stderr: Output::Merged, ..shell("echo 1; echo 2 >&2; echo 3") };
    assert_eq!(client.run(merged).text(), "1\n2\n3\n");
    // Without input it is empty; and one that ends before it has read all is no error.
    assert_eq!(client.run(run(&["cat"])).stdout, b"");
    assert_eq!(client.run_with(run(&["true"]), &vec![1; STDIN_WINDOW - 1]).code(), 0);
    // The next command gets nothing of what the one before left.
    assert_eq!(client.run_with(run(&["cat"]), b"mine").stdout, b"mine");
}

#[test]
fn input_is_credited() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    client.request(&Request::Run(Run { stdin: Input::Frames, ..run(&["wc", "-c"]) }));
    let (mut answer, mut sent, part) = (Answer::default(), 0usize, vec![0; 64 << 10]);
    while sent < 20 << 20 {
        if sent + part.len() > STDIN_WINDOW + answer.credit as usize {
            let before = answer.credit;
            client.receive_until(&mut answer, |answer| answer.credit > before);
        }
        client.send(FrameKind::Stdin, &part);
        sent += part.len();
    }
    client.send(FrameKind::StdinEof, b"");
    let answer = client.receive(answer);
    assert_eq!((answer.code(), answer.text().trim()), (0, &*sent.to_string()));
    // A client that sends much more than it may is not kept.
    client.request(&Request::Run(Run { stdin: Input::Frames, ..run(&["sleep", &guest.mark()]) }));
    let mut sent = 0;
    // libssh2 waits for room in the window of a closed channel.
    client.session.set_timeout(5_000);
    while client.try_send(FrameKind::Stdin, &part) {
        sent += part.len();
        assert!(sent < 64 << 20);
    }
    // Credits come before the end.
    while !client.is_closed_by_guest() {}
}

#[test]
fn a_signal_passes_input_that_nobody_reads() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    client.request(&Request::Run(Run { stdin: Input::Frames, ..run(&["sleep", &guest.mark()]) }));
    let part = vec![0; 64 << 10];
    for _ in 0..STDIN_WINDOW / part.len() {
        client.send(FrameKind::Stdin, &part);
    }
    // A second channel is answered meanwhile.
    let mut other = Client::on(client.session.clone());
    assert_eq!(other.run(run(&["true"])).code(), 0);
    client.send(FrameKind::Signal, b"USR1");
    assert_eq!(client.receive(Answer::default()).ended().status, Status::Signal("USR1".to_owned()));
}

/// One that comes in the same packet as the request: nothing runs yet.
#[test]
fn a_signal_before_the_start_is_kept() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let request = serde_json::to_vec(&Request::Run(run(&["sleep", &guest.mark()]))).unwrap();
    let frames: [(FrameKind, &[u8]); 3] =
        [(FrameKind::Request, &request), (FrameKind::Signal, b"USR1"), (FrameKind::Signal, b"USR1")];
    let bytes = frames.map(|(kind, payload)| [&header(kind, payload.len() as u32)[..], payload].concat()).concat();
    client.write(&bytes);
    assert_eq!(client.receive(Answer::default()).ended().status, Status::Signal("USR1".to_owned()));
}

#[test]
fn a_time_limit_is_proved() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let mark = guest.mark();
    let line =
        format!("echo before; setsid env -i sleep {mark} & (sleep {mark} & setsid sleep {mark} &) ; sleep {mark}");
    let began = Instant::now();
    let answer = client.run(Run { time_limit_ms: Some(500), ..shell(&line) });
    assert!(began.elapsed() >= Duration::from_millis(500));
    let ended = answer.ended();
    assert_eq!((ended.cause, ended.proved, ended.left, answer.text()), (Cause::TimeLimit, true, 0, "before\n"));
    assert!(!guest.has_process(&mark));
    assert_eq!(client.run(run(&["true"])).code(), 0);
}

#[test]
fn a_cancelled_command_is_killed() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let mark = guest.mark();
    client.request(&Request::Run(shell(&format!("echo so far; setsid sleep {mark} & sleep {mark}"))));
    let mut answer = Answer::default();
    client.receive_until(&mut answer, |answer| answer.stdout == b"so far\n");
    wait_until("the child", || guest.has_process(&mark));
    client.send(FrameKind::Cancel, b"");
    let answer = client.receive(answer);
    let ended = answer.ended();
    assert_eq!((ended.cause, ended.proved), (Cause::Cancelled, true));
    assert_eq!(ended.status, Status::Signal("KILL".to_owned()));
    assert!(!guest.has_process(&mark));
    // At once after the request, before anything is known.
    client.request(&Request::Run(run(&["sleep", &mark])));
    client.send(FrameKind::Cancel, b"");
    assert!(client.receive(Answer::default()).ended().proved);
}

#[test]
fn the_end_of_a_connection_ends_its_commands() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let mark = guest.mark();
    client.request(&Request::Run(shell(&format!("setsid env -i sleep {mark} & sleep {mark}"))));
    client.receive_start();
    wait_until("the child", || guest.has_process(&mark));
    drop(client);
    wait_until("the end of all", || !guest.has_process(&mark));
    // What is in the background of a command that has ended stays, as after sshd.
    let mut client = Client::new(&guest);
    let began = Instant::now();
    assert_eq!(client.shell(&format!("sleep {mark} & exit 4")).code(), 4);
    assert!(began.elapsed() < Duration::from_secs(30), "it was not waited for what holds the pipes");
    drop(client);
    let mut client = Client::new(&guest);
    wait_until("the background process", || guest.has_process(&mark));
    let Some(Response::Commands { commands }) = client.ask(&Request::List).response else { panic!("no list") };
    assert_eq!(commands.len(), 1);
    assert!(commands[0].background);
    let signal = SignalCommand { id: commands[0].id, signal: "KILL".to_owned(), all: true };
    assert_eq!(client.ask(&Request::Signal(signal)).response, Some(Response::Done));
    wait_until("the end of the background process", || !guest.has_process(&mark));
}

#[test]
fn commands_are_listed_and_signalled_by_any_client() {
    let guest = Guest::start();
    let (mut one, mut other) = (Client::new(&guest), Client::new(&guest));
    let mark = guest.mark();
    one.request(&Request::Run(run(&["sleep", &mark])));
    let started = one.receive_start().started.unwrap();
    let Some(Response::Commands { commands }) = other.ask(&Request::List).response else { panic!("no list") };
    let [command] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!((command.id, command.pid), (started.id, started.pid));
    assert_eq!(command.argv, ["sleep".into(), Bytes::from(&*mark)]);
    assert!(command.client.starts_with("SHA256:") && !command.background && !command.terminal);
    let signal = |id, signal: &str| Request::Signal(SignalCommand { id, signal: signal.to_owned(), all: false });
    assert_eq!(other.ask(&signal(started.id, "levitate")).failure(), FailureKind::Invalid);
    assert_eq!(other.ask(&signal(u64::MAX, "TERM")).failure(), FailureKind::NotFound);
    assert_eq!(other.ask(&signal(started.id, "INT")).response, Some(Response::Done));
    assert_eq!(one.receive(Answer::default()).ended().status, Status::Signal("INT".to_owned()));
    assert_eq!(other.ask(&Request::List).response, Some(Response::Commands { commands: Vec::new() }));
}

#[test]
fn a_terminal() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let terminal = Terminal { kind: "vt100".to_owned(), columns: 91, rows: 17 };
    let on_terminal = |line: &str| Run { terminal: Some(terminal.clone()), ..shell(line) };
    let answer = client.run(on_terminal("test -t 0 && test -t 2 && stty size && echo $TERM >&2; exit 6"));
    assert_eq!((answer.code(), answer.text()), (6, "17 91\r\nvt100\r\n"));
    client.request(&Request::Run(on_terminal(
        "trap 'stty size' WINCH; echo ready; while :; do read line && echo \"<$line>\"; done",
    )));
    let mut answer = Answer::default();
    client.receive_until(&mut answer, |answer| answer.text().contains("ready"));
    client.send(FrameKind::Resize, &serde_json::to_vec(&Resize { columns: 33, rows: 44 }).unwrap());
    client.send(FrameKind::Stdin, b"typed\n");
    client.receive_until(&mut answer, |answer| answer.text().contains("<typed>") && answer.text().contains("44 33"));
    client.send(FrameKind::Stdin, b"\x03");
    let answer = client.receive(answer);
    assert_eq!(answer.ended().status, Status::Signal("INT".to_owned()));
}

#[test]
fn what_the_sandbox_uses() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let Some(Response::Usage(usage)) = client.ask(&Request::Usage).response else { panic!("no usage") };
    assert!(usage.guest_memory.unwrap() > 100_000 && usage.changed_limits.is_empty());
    assert_eq!((usage.commands, usage.connections), (0, 1));
    let Some(Response::Expiry(expiry)) = client.ask(&Request::Renew(Renew::default())).response else { panic!("none") };
    assert_eq!((expiry.remaining_ms, expiry.hard_remaining_ms, expiry.limited), (None, None, false));
}

#[test]
fn another_user_under_root() {
    let guest = Guest::root();
    let mut client = Client::new(&guest);
    let user = |user| Run { user: Some(user), ..shell("id -u; id -g; echo $HOME; echo $USER") };
    let nobody = client.run(user(User::Name("nobody".to_owned())));
    let lines: Vec<&str> = nobody.text().lines().collect();
    assert_eq!((nobody.code(), lines[0], lines[3]), (0, "65534", "nobody"));
    let ids = client.run(user(User::Ids { uid: 4242, gid: 4343, groups: vec![4444] }));
    assert!(ids.text().starts_with("4242\n4343\n"), "{}", ids.text());
}

#[test]
fn digests_of_files() {
    use std::io::Write;
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let sftp = client.session.sftp().unwrap();
    let path = guest.work().join("file");
    let flags = ssh2::OpenFlags::WRITE | ssh2::OpenFlags::CREATE | ssh2::OpenFlags::TRUNCATE;
    let flags = ssh2::OpenFlags::from_bits_retain(flags.bits() | u64::from(sandbox_protocol::SFTP_OPEN_DIGEST));
    let mut file = sftp.open_mode(&path, flags, 0o600, ssh2::OpenType::File).unwrap();
    file.write_all(b"hello\n").unwrap();
    drop(file);
    let Some(Response::Digests { digests }) = client.ask(&Request::Digests).response else { panic!("no digests") };
    let [digest] = &digests[..] else { panic!("{digests:?}") };
    assert_eq!((digest.length, digest.path.0.as_slice()), (6, path.as_os_str().as_encoded_bytes()));
    let expected = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    assert_eq!(digest.sha256.as_deref(), Some(expected));
    assert_eq!(client.ask(&Request::Digests).response, Some(Response::Digests { digests: Vec::new() }));
}
