//! Commands in a real sandbox: status, streams, environment, timeout, at most once.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use common::{client, create, create_from, noise, over_every_transport};
use sandbox::{Error, ErrorKind, OutputStream, SandboxSpec};

#[test]
fn status_and_streams_are_kept_apart() {
    over_every_transport(|_, sandbox| {
        let output = sandbox.execute("echo out; echo err >&2; exit 7").unwrap();
        assert_eq!((output.status.code(), output.status.signal()), (Some(7), None));
        assert_eq!((&output.stdout[..], &output.stderr[..], output.truncated), (&b"out\n"[..], &b"err\n"[..], 0));
        assert!(sandbox.execute("true").unwrap().status.success());
        let error = output.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CommandFailed);
        assert!(error.to_string().contains("exit code 7: err"), "{error}");
    });
}

#[test]
fn a_signal_is_a_signal() {
    let client = client();
    let sandbox = create(&client);
    for name in ["KILL", "TERM", "SEGV"] {
        let output = sandbox.execute(format!("kill -{name} $$")).unwrap();
        assert_eq!((output.status.code(), output.status.signal()), (None, Some(name)));
        assert!(!output.status.success());
    }
}

#[test]
fn a_hundred_mebibytes_on_each_stream_do_not_hang() {
    const SIZE: usize = 100 << 20;
    over_every_transport(|_, sandbox| {
        let zeros = format!("head -c {SIZE} /dev/zero");
        let one = sandbox.execute(&zeros).unwrap();
        assert_eq!((one.stdout.len(), one.stderr.len()), (SIZE, 0));
        let other = sandbox.execute(format!("{zeros} >&2")).unwrap();
        assert_eq!((other.stdout.len(), other.stderr.len()), (0, SIZE));
        let both = sandbox.execute(format!("{zeros} & {zeros} >&2; wait")).unwrap();
        assert_eq!((both.stdout.len(), both.stderr.len(), both.truncated), (SIZE, SIZE, 0));
    });
}

#[test]
fn binary_input_comes_back_as_it_was() {
    over_every_transport(|_, sandbox| {
        let bytes = noise(20 << 20);
        let output = sandbox.command("cat").stdin(bytes.clone()).output().unwrap();
        assert!(output.stdout == bytes && output.status.success());
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(sandbox.command("cat").stdin(all.clone()).output().unwrap().stdout, all);
        assert_eq!(sandbox.command("wc").arg("-c").output().unwrap().stdout, b"0\n");
    });
}

#[test]
fn a_command_that_ignores_its_input_is_no_failure() {
    let client = client();
    let sandbox = create(&client);
    let output = sandbox.command("head").args(["-c", "3"]).stdin(noise(8 << 20)).output().unwrap();
    assert_eq!((output.stdout, output.status.code()), (noise(3), Some(0)));
}

#[test]
fn output_beyond_the_limit_is_counted() {
    let client = client();
    let sandbox = create(&client);
    let command = sandbox.shell("head -c 1000000 /dev/zero; echo no >&2").output_limit(1000);
    let output = command.output().unwrap();
    assert_eq!((output.stdout.len(), &output.stderr[..], output.truncated), (1000, &b"no\n"[..], 999_000));
}

#[test]
fn arguments_arrive_exactly() {
    let client = client();
    let sandbox = create(&client);
    let odd = OsStr::from_bytes(b"a 'b' \"c\" $HOME `id` \\ \n\t*?[\xff\xfe]");
    let output = sandbox.command("printf").args(["%s|%s|%s"]).arg("").arg(odd).arg("-n").output().unwrap();
    assert_eq!(output.stdout, [b"|", odd.as_bytes(), b"|-n"].concat());
    let output = sandbox.shell("printf '%s,' \"$@\"").arg("one two").arg("'").output().unwrap();
    assert_eq!(output.stdout, b"one two,',");
    let error = sandbox.command("echo").arg("a\0b").output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_megabyte_of_script_runs() {
    over_every_transport(|_, sandbox| {
        let script = format!("{}printf done", ": a comment of a script\n".repeat(45_000));
        assert!(script.len() > 1 << 20);
        let output = sandbox.shell(script).stdin("and its input").output().unwrap();
        assert_eq!(output.stdout, b"done");
        // As a short one: its name and arguments, its end, its lines, its input, and no other descriptor.
        let run = |comment: &str, rest: &str| {
            let command = sandbox.shell(format!("#{comment}\n{rest}")).args(["one", "two words"]);
            let output = command.env("odd.name", "1").stdin("its input\n").output().unwrap();
            (output.stdout_text().into_owned(), output.stderr_text().into_owned(), output.status)
        };
        for rest in [
            "printf '%s,' \"$0\" \"$@\"; exit 7",
            "cat <<E\nhi",
            "echo a \\",
            "echo \"line $LINENO\"; false",
            "ls /proc/self/fd",
            "read -r line; echo \"got $line\"",
            "no-such-program 2> /dev/null",
            "kill -TERM $$",
            "trap 'echo end' EXIT; return 3; echo not reached",
        ] {
            assert_eq!(run(&"x".repeat(200_000), rest), run("", rest), "{rest}");
        }
        // As they end for a shell that has them as its argument.
        for (rest, expected) in [("cat <<E\nhi", "hi"), ("echo a \\", "a \\\n")] {
            assert_eq!(run(&"x".repeat(200_000), rest).0, expected, "{rest}");
        }
        assert_eq!(run(&"x".repeat(200_000), "if").2.code(), Some(2), "a syntax error");
        let words: Vec<String> = (0..20_000).map(|n| format!("argument-{n}")).collect();
        let output = sandbox.command("printf").arg("%s\n").args(&words).output().unwrap();
        assert_eq!(output.stdout_text().lines().count(), words.len());
    });
}

#[test]
fn the_environments_of_image_spec_and_command_are_seen_in_that_order() {
    let client = client();
    let value = "lines\nand 'quotes' \"of\" $(two) kinds $$ \u{e9}";
    let spec = SandboxSpec::new().env("SPEC", value).env("BOTH", "spec");
    let sandbox = create_from(&client, &spec);
    let seen = |name: &str| sandbox.shell("printenv \"$1\"").arg(name).output().unwrap().stdout;
    assert_eq!(seen("LANG"), b"C.UTF-8\n");
    assert_eq!(seen("SPEC"), format!("{value}\n").into_bytes());
    let bytes = OsStr::from_bytes(b"\xff\n'");
    let output = sandbox.shell("printenv BOTH RAW").env("BOTH", "command").env("RAW", bytes).output().unwrap();
    assert_eq!(output.stdout, b"command\n\xff\n'\n");
    // The shell itself has no such names, but a program may see them.
    let odd = sandbox.command("printenv").arg("odd.name").env("odd.name", "odd").output().unwrap();
    assert_eq!(odd.stdout, b"odd\n");
    let path = kubectl_path(&sandbox);
    assert_eq!(seen("PATH"), path);
    assert_eq!(seen("SSH_CONNECTION"), b"");
    for wrong in ["", "A=B"] {
        let error = sandbox.command("true").env(wrong, "").output().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}

/// The `PATH` of a process that the container runtime itself starts.
fn kubectl_path(sandbox: &sandbox::Sandbox) -> Vec<u8> {
    common::kubectl(&["exec", sandbox.name(), "--", "printenv", "PATH"]).into_bytes()
}

#[test]
fn no_start_up_file_runs() {
    let client = client();
    let sandbox = create(&client);
    let setup = "for file in .profile .bashrc .bash_profile .shrc .ssh/rc; do \
                 mkdir -p .ssh; echo 'echo from a start-up file' > $file; done; pwd";
    assert_eq!(sandbox.execute(setup).unwrap().stdout, b"/home/sandbox\n");
    assert_eq!(sandbox.execute("echo only this").unwrap().stdout, b"only this\n");
}

#[test]
fn what_never_ran_is_told_from_what_failed() {
    over_every_transport(|_, sandbox| {
        let error = sandbox.command("no-such-program").output().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command);
        assert!(error.to_string().contains("there is no program 'no-such-program': No such file"), "{error}");
        let error = sandbox.command("true").current_dir("/no/such/place").status().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command);
        assert!(error.to_string().contains("there is no directory '/no/such/place'"), "{error}");
        let error = sandbox.command("nothing").stream(|_, _| Ok(())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command);
        sandbox.execute("printf '#!/bin/sh\nexit 126' > not-executable; mkdir closed; chmod 0 closed").unwrap();
        for program in ["./not-executable", "/etc/passwd", "/tmp"] {
            let error = sandbox.command(program).output().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Command, "{error}");
            let said = format!("the program '{program}' can't be executed: Permission denied");
            assert!(error.to_string().contains(&said), "{error}");
        }
        let error = sandbox.command("pwd").current_dir("closed").output().unwrap_err();
        assert!(error.to_string().contains("'/home/sandbox/closed' can't be entered: Permission denied"), "{error}");
        sandbox.execute("printf '#!/no/shell\n' > no-shell; echo text > text; chmod +x no-shell text").unwrap();
        for (program, said) in [
            ("./no-shell", "there is no '/no/shell', which the program needs to run"),
            ("./text", "the program './text' can't be executed: Exec format error"),
        ] {
            let error = sandbox.command(program).output().unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        sandbox.execute("chmod +x not-executable; printf '#!/bin/sh\nexit 127' > seven; chmod +x seven").unwrap();
        assert_eq!(sandbox.command("./not-executable").status().unwrap().code(), Some(126));
        assert_eq!(sandbox.command("./seven").status().unwrap().code(), Some(127));
        for code in [126, 127, 255] {
            assert_eq!(sandbox.execute(format!("exit {code}")).unwrap().status.code(), Some(code));
        }
        assert_eq!(sandbox.execute("no-such-program").unwrap().status.code(), Some(127), "the shell ran");
    });
}

#[test]
fn what_linux_refuses_is_said() {
    let client = client();
    let sandbox = create(&client);
    let longest = "x".repeat((128 << 10) - 1);
    assert!(sandbox.command("true").arg(&longest).status().unwrap().success());
    for (command, what) in [
        (sandbox.command("true").arg("a").arg(format!("{longest}x")), "argument 2 has 131072 bytes"),
        (sandbox.command("true").env("LONG", &longest), "the variable LONG has 131076 bytes"),
        (sandbox.command("true").args(vec!["x".repeat(100_000); 30]), "the arguments have 3000004 bytes"),
    ] {
        let error = command.output().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command, "{error}");
        assert!(error.to_string().contains("did not run") && error.to_string().contains(what), "{error}");
        assert!(!error.is_retryable());
    }
}

#[test]
fn the_directory_is_the_one_asked_for() {
    let client = client();
    let sandbox = create(&client);
    let output = sandbox.command("pwd").current_dir("/tmp").output().unwrap();
    assert_eq!(output.stdout, b"/tmp\n");
    sandbox.execute("mkdir -p 'a b'").unwrap();
    assert_eq!(sandbox.command("pwd").current_dir("a b").output().unwrap().stdout, b"/home/sandbox/a b\n");
}

#[test]
fn a_directory_that_was_removed_is_no_other_one() {
    let template = serde_json::json!({"spec": {
        "volumes": [{"name": "work", "emptyDir": {}}],
        "containers": [{"name": "sandbox", "workingDir": "/w/work", "volumeMounts": [{"name": "work", "mountPath": "/w"}]}],
    }});
    let spec = SandboxSpec::new().pod_template(&template.to_string()).unwrap();
    let sandbox = create_from(&client(), &spec);
    let pwd = || sandbox.command("pwd").output();
    assert_eq!(pwd().unwrap().stdout, b"/w/work\n");
    sandbox.execute("mv /w/work /w/elsewhere").unwrap().check().unwrap();
    let error = pwd().unwrap_err();
    assert!(error.kind() == ErrorKind::Command && error.to_string().contains("no directory '/w/work'"), "{error}");
    sandbox.command("rmdir").arg("/w/elsewhere").current_dir("/").output().unwrap().check().unwrap();
    assert_eq!(pwd().unwrap_err().kind(), ErrorKind::Command);
    let error = sandbox.files().write("x", "1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileNotFound, "{error}");
    let output = sandbox.command("id").current_dir("/").output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn variables_of_any_name_arrive() {
    let spec = SandboxSpec::new().env("discovery.seed_hosts", "1").env("with-dash", "2");
    let sandbox = create_from(&client(), &spec);
    let output = sandbox.command("env").env("x.y", "3").output().unwrap();
    for line in ["discovery.seed_hosts=1", "with-dash=2", "x.y=3"] {
        assert!(output.stdout_text().lines().any(|one| one == line), "{line}");
    }
}

#[test]
fn input_of_a_terminal_has_an_end() {
    let sandbox = create(&client());
    for (input, seen) in [("hi\n", "hi"), ("hi", "hi"), ("", "")] {
        let output = sandbox.command("cat").terminal("vt100", 80, 24).stdin(input).output().unwrap();
        assert!(output.status.success() && output.stdout_text().contains(seen), "{input:?}: {output:?}");
    }
}

#[test]
fn a_background_child_does_not_hold_the_call() {
    over_every_transport(|_, sandbox| {
        let began = Instant::now();
        let output = sandbox.execute("head -c 50000 /dev/zero; sleep 100 & echo last").unwrap();
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert_eq!((output.stdout.len(), output.status.code()), (50_005, Some(0)));
        assert_eq!(sandbox.execute("pgrep -c sleep | head -1").unwrap().status.code(), Some(0));
    });
}

#[test]
fn a_stream_hands_over_everything_in_order() {
    over_every_transport(|_, sandbox| {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let status = sandbox
            .shell("seq 1 200000; seq 1 1000 >&2; exit 3")
            .stream(|stream, bytes| {
                match stream {
                    OutputStream::Stdout => out.extend_from_slice(bytes),
                    OutputStream::Stderr => err.extend_from_slice(bytes),
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(out, (1..=200_000).flat_map(|n| format!("{n}\n").into_bytes()).collect::<Vec<_>>());
        assert_eq!(err.len(), (1..=1000).map(|n| format!("{n}\n").len()).sum::<usize>());
    });
}

#[test]
fn a_receiver_that_fails_stops_the_command() {
    let client = client();
    let sandbox = create(&client);
    let mut received = 0;
    let result = sandbox.shell("yes").stream(|_, bytes| {
        received += bytes.len();
        if received > 100_000 { Err(Error::cancelled("enough")) } else { Ok(()) }
    });
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(error.to_string().contains("enough"), "{error}");
    assert_eq!(sandbox.execute("pgrep -c yes").unwrap().stdout, b"0\n");
}
