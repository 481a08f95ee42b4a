//! The command `sandbox`: what it prints, how it ends, and what it does to streams, signals and the terminal.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use common::{
    Guarded, Namespace, Scratch, await_that, client, config, create, create_from, freeze_connections, noise, unique,
};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use sandbox::{Client, ErrorKind, Phase, SandboxSpec};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sandbox");

/// For `env`: these tests may themselves run under nohup, and what is ignored is inherited.
const ALL_SIGNALS: &str = "--default-signal=HUP,INT,QUIT,TERM";

fn command<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    common::position();
    let mut command = Command::new("env");
    command.arg(ALL_SIGNALS).arg(PROGRAM).args(args).stdin(Stdio::null());
    command
}

fn run<A: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = A>) -> Output {
    command(args).output().unwrap()
}

/// Runs a line of the sandbox's shell through the command.
fn shell(sandbox: &Guarded, line: &str) -> Command {
    command(["run", sandbox.name(), "--", "sh", "-c", line])
}

fn succeeded(output: Output) -> String {
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {err}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

fn json(output: Output) -> Value {
    serde_json::from_str(&succeeded(output)).unwrap()
}

/// The exit code of what failed, and its one line.
fn failed(output: Output) -> (Option<i32>, String) {
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.starts_with("sandbox: ") && err.ends_with('\n') && err.lines().count() == 1, "{err}");
    (output.status.code(), err)
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Reads what a child prints until it has printed this.
fn read_until(child: &mut Child, text: &str) {
    let (mut seen, mut byte) = (String::new(), [0]);
    while !seen.ends_with(text) {
        assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "{seen}");
        seen.push(byte[0].into());
    }
}

/// Whether a process of the sandbox has this in its arguments.
fn has_process(sandbox: &Guarded, pattern: &str) -> bool {
    sandbox.command("pgrep").args(["-f", pattern]).output().unwrap().status.success()
}

#[test]
fn a_life_in_verbs() {
    let (name, scratch) = (format!("verbs-{}", unique()), Scratch::new());
    fs::write(scratch.path("pod.json"), r#"{"metadata": {"labels": {"from": "template"}}}"#).unwrap();
    let created =
        command(["create", "--name", &name, "--env", "GREETING=a b", "-e", "FROM_HERE", "--label", "team=blue"])
            .args(["--cpu", "500m", "--memory", "256Mi", "--lifetime", "10m", "--set", "owner=verbs", "--json"])
            .arg("--pod-template")
            .arg(scratch.path("pod.json"))
            .env("FROM_HERE", "here")
            .output();
    let created = json(created.unwrap());
    let sandbox = Guarded(client().attach(&name).unwrap());
    assert_eq!((&created["name"], &created["owner"]), (&Value::from(name.as_str()), &Value::from("verbs")));
    assert_eq!(succeeded(run(["run", &name, "sh", "-c", "echo $GREETING $FROM_HERE"])), "a b here\n");

    let found = json(run(["info", &name, "--json"]));
    assert_eq!((&found["uid"], &found["labels"]["team"]), (&created["uid"], &Value::from("blue")));
    assert_eq!(found["labels"]["from"], "template");
    assert_eq!(found["host_key"], sandbox.host_key().unwrap(), "pinned by a process that is gone");
    assert_eq!((&found["ssh_port"], &found["verdict"]), (&Value::from(2222), &Value::Null));
    let text = succeeded(run(["info", &name]));
    let expected = format!("Expires:     {}\n", found["expires_at"].as_str().unwrap());
    assert!(text.starts_with(&format!("Name:        {name}\n")) && text.contains(&expected), "{text}");
    assert!(text.contains("team=blue"), "{text}");

    let told = run(["-v", "ls", "--owner", "nobody"]);
    let told = String::from_utf8(told.stderr).unwrap();
    assert!(told.contains("No sandboxes"), "{told}");
    let table = succeeded(run(["ls", "--owner", "verbs"]));
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "PHASE", "AGE", "EXPIRES", "OWNER", "IMAGE"]);
    let row = rows.iter().find(|row| row[0] == name).unwrap();
    assert!(row[2].ends_with('s') && ["9m", "10m"].contains(&row[3]) && row[4] == "verbs", "{row:?}");
    let listed = json(run(["ls", "--json"]));
    assert!(listed.as_array().unwrap().iter().any(|one| one["uid"] == created["uid"]), "{listed}");
    assert!(succeeded(run(["list", "--quiet"])).lines().any(|line| line == name));
    assert!(!succeeded(run(["ls", "--owner", "nobody"])).contains(&name));
    let chosen = |options: &[&str]| {
        let words = ["ls", "--quiet", "--owner", "verbs", "--label", "team=blue"].iter().chain(options);
        succeeded(run(words)).lines().any(|line| line == name)
    };
    assert!(chosen(&["--label", "from=template", "--phase", "running", "--sort", "expiry"]));
    assert!(chosen(&["--state", "failed", "--state", "running", "--younger-than", "1d", "--sort", "age"]));
    for others in [["--label", "from=elsewhere"], ["--phase", "failed"], ["--older-than", "1d"]] {
        assert!(!chosen(&others), "{others:?}");
    }
    let mut watch =
        command(["ls", "--watch", "--json", "--label", "team=blue"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut changes = BufReader::new(watch.stdout.take().unwrap()).lines();
    let added = loop {
        let change: Value = serde_json::from_str(&changes.next().unwrap().unwrap()).unwrap();
        if change["sandbox"]["uid"] == created["uid"] {
            break change;
        }
    };
    assert_eq!(added["change"], "added");
    watch.kill().unwrap();
    watch.wait().unwrap();
    let (code, message) = failed(run(["ls", "--label", "team=blue,from=template"]));
    assert!(code == Some(1) && message.contains("blue,from"), "{message}");
    assert_eq!(run(["ls", "--phase", "sleeping"]).status.code(), Some(2));

    let renewed = json(run(["renew", &name, "2h", "--json"]));
    assert_eq!(renewed["expires_at"], json(run(["info", &name, "--json"]))["expires_at"]);
    assert!(renewed["expires_at"].as_str() > found["expires_at"].as_str(), "{renewed}");

    let (code, message) = failed(run(["create", "--name", &name]));
    assert!(code == Some(1) && message.contains(&name) && message.contains("exists"), "{message}");
    let output = run(["rm", &name, "no-such-sandbox"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{name}\n"));
    let (code, message) = failed(output);
    assert!(code == Some(1) && message.contains("no-such-sandbox"), "{message}");
    assert_eq!(succeeded(run(["rm", "--force", &name])), "");
    assert_eq!(json(run(["rm", "--force", "--json", &name])), Value::Array(Vec::new()));
    assert_eq!(sandbox.info().unwrap_err().kind(), ErrorKind::NotFound);
    let (code, message) = failed(run(["info", &name]));
    assert!(code == Some(1) && message.contains("no such sandbox"), "{message}");
}

#[test]
fn a_pool_in_verbs() {
    let pool = format!("verbs-{}", unique());
    let spec = ["--env", "STAGE=test"];
    let verb = |words: &[&str]| {
        let words = [&["--json", "pool"], words, &spec].concat();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let output = run(verb(&["claim", &pool, "--on-miss", "fail"]));
    assert_eq!(output.status.code(), Some(1));
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(failure["kind"], "pool_empty", "{failure}");

    let filled = json(run(verb(&["fill", &pool, "--size", "2", "--idle-lifetime", "10m", "--creates-at-once", "2"])));
    assert_eq!(filled, serde_json::json!({ "created": 2, "retired": 0 }));
    let status = json(run(verb(&["status", &pool])));
    assert_eq!((&status["ready"], &status["held"]), (&2.into(), &Value::Null), "{status}");
    assert!(status["oldest"].is_string());

    let scratch = Scratch::new();
    let local = scratch.path("task");
    fs::write(&local, "a task").unwrap();
    let file = format!("{}=/tmp/task", local.display());
    let claim = ["claim", &pool, "--claim-env", "TASK=17", "--claim-label", "a=b", "--claim-owner", "me"];
    let claim = [&claim[..], &["--claim-file", &file, "--lifetime", "5m"]].concat();
    let info = json(run(verb(&claim)));
    let name = info["name"].as_str().unwrap();
    assert_eq!((&info["origin"], &info["owner"], &info["labels"]["a"]), (&"pool".into(), &"me".into(), &"b".into()));
    let line = "echo $STAGE $TASK; cat /tmp/task";
    assert_eq!(succeeded(run(["run", name, "sh", "-c", line])), "test 17\na task");
    succeeded(run(["rm", name]));
    let table = succeeded(run(["pool", "status", &pool, "--env", "STAGE=test"]));
    assert!(table.lines().any(|line| line.split_whitespace().eq(["Ready:", "1"])), "{table}");

    // One that goes on, until it is told to end.
    let mut keeper = command(["pool", "fill", &pool, "--size", "3", "--watch", "--env", "STAGE=test"]).spawn().unwrap();
    await_that("the pool to be full", || json(run(verb(&["status", &pool])))["ready"] == 3);
    signal(&keeper, Signal::TERM);
    assert_eq!(keeper.wait().unwrap().code(), Some(128 + 15));

    // Whatever they were made from.
    assert_eq!(succeeded(run(["pool", "drain", &pool])), "3 deleted\n");
    let removed = json(run(["--json", "pool", "rm", &pool]));
    assert!(removed["deleted"].is_u64(), "{removed}");
    assert_eq!(json(run(verb(&["status", &pool])))["ending"], 0);
}

#[test]
fn what_expired_is_reaped_and_named() {
    let client = client();
    let sandbox = create(&client);
    succeeded(run(["renew", sandbox.name(), "1"]));
    // Other tests reap too.
    await_that("the sandbox to be reaped", || {
        let reaped = json(run(["reap", "--json"]));
        reaped.as_array().unwrap().iter().any(|name| name == sandbox.name()) || sandbox.info().is_err()
    });
}

/// A library that shows a program another time of day.
fn clock(scratch: &Scratch) -> PathBuf {
    let library = scratch.path("clock.so");
    let mut compiler = Command::new("cc");
    compiler.args("-std=gnu11 -Wall -Wextra -Wpedantic -Werror -O1 -shared -fPIC -o".split(' ')).arg(&library);
    assert!(compiler.arg(common::repository().join("tests/common/clock.c")).status().unwrap().success());
    library
}

/// Nor does it shorten a life or end one: nobody's clock is compared with another's.
#[test]
fn a_clock_that_is_two_hours_off_reaps_nothing_that_lives() {
    let (namespace, scratch) = (Namespace::new("clocks"), Scratch::new());
    let (library, kubeconfig) = (clock(&scratch), scratch.path("kubeconfig"));
    // To such a clock the API server's certificate is not yet valid.
    let text = fs::read_to_string(std::env::var("KUBECONFIG").unwrap()).unwrap();
    let line = text.lines().find(|line| line.trim_start().starts_with("certificate-authority-data:")).unwrap();
    fs::write(&kubeconfig, text.replace(line, "    insecure-skip-tls-verify: true")).unwrap();
    let client = Client::new(config().namespace(namespace.name())).unwrap();
    let left = |sandbox: &sandbox::Sandbox| {
        let end = sandbox.info().unwrap().expires_at.unwrap();
        end.duration_since(SystemTime::now()).unwrap().as_secs()
    };
    for off in ["-7200", "7200"] {
        let elsewhen = |args: &[&str]| {
            let mut command = command(args);
            command.env("LD_PRELOAD", &library).env("CLOCK_OFF", off);
            command.env("KUBECONFIG", &kubeconfig).env("SANDBOX_NAMESPACE", namespace.name()).output().unwrap()
        };
        let created = json(elsewhen(&["create", "--lifetime", "20m", "--json"]));
        let theirs = client.attach(created["name"].as_str().unwrap()).unwrap();
        assert!((60..=1260).contains(&left(&theirs)), "{} s", left(&theirs));
        succeeded(elsewhen(&["renew", theirs.name(), "40m"]));
        assert!((1260..=2460).contains(&left(&theirs)), "{} s", left(&theirs));
        assert_eq!(succeeded(elsewhen(&["run", theirs.name(), "echo", "there"])), "there\n");

        let (ours, over) = (client.create(&SandboxSpec::new()).unwrap(), client.create(&SandboxSpec::new()).unwrap());
        over.renew(Duration::from_secs(1)).unwrap();
        await_that("the sandbox to expire", || over.info().unwrap().phase == Phase::Failed);
        let reaped = json(elsewhen(&["reap", "--json"]));
        assert_eq!(reaped, Value::from(vec![over.name()]));
        assert_eq!(client.reap().unwrap(), [""; 0]);
        for one in [theirs, ours] {
            assert!(one.execute("true").unwrap().status.success());
        }
    }
}

#[test]
fn a_failure_is_one_line_or_one_object_with_the_verdict() {
    let create = ["create", "--image", "localhost/absent:1", "--lifetime", "60s"];
    let (code, message) = failed(run(create));
    assert!(code == Some(1) && message.contains("; Kubernetes says: "), "{message}");
    let output = run(create.iter().chain(&["--json"]));
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(1), &b""[..]));
    let failure: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!((&failure["kind"], &failure["verdict"]["cause"]), (&"create".into(), &"image_pull".into()), "{failure}");
    let (code, message) = failed(run(["--set", "ssh_port=seventy", "ls"]));
    assert!(code == Some(1) && message.contains("a port from 1 to 65535"), "{message}");
    assert_eq!(failed(run(["--context", "no-such-context", "ls"])).0, Some(1));
    assert_eq!(failed(run(["--kubeconfig", "/no/such/file", "ls"])).0, Some(1));
    let elsewhere = run(["ls", "--namespace", "no-such-namespace"]);
    assert_eq!(elsewhere.stdout, b"", "no sandbox of another namespace");
}

/// Each level of directories takes a descriptor. Without enough of them, that is said, and nothing is left.
#[test]
fn a_deep_tree_is_moved_whole_or_not_at_all() {
    let (client, scratch) = (client(), Scratch::new());
    let sandbox = create(&client);
    let (tree, back) = (scratch.path("tree"), scratch.path("back"));
    let depth = |root: &Path| {
        let inside = Command::new("find").arg(root).args(["-name", "f", "-printf", "%d"]).output().unwrap();
        String::from_utf8(inside.stdout).unwrap()
    };
    fs::create_dir_all(tree.join("d/".repeat(200))).unwrap();
    fs::write(tree.join("d/".repeat(200)).join("f"), "new").unwrap();
    let copy = |limit: u32, from: &Path, to: &Path| {
        let mut few = Command::new("sh");
        few.args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh", PROGRAM, "cp"])
            .arg(from)
            .arg(to)
            .output()
            .unwrap()
    };
    let there = PathBuf::from(format!("{}:there", sandbox.name()));
    // As new trees, and merged with them. What comes from the sandbox is written one file at a time.
    for (few_are_enough, from, to) in
        [(false, &tree, &there), (false, &tree, &there), (true, &there, &back), (false, &there, &back)]
    {
        let output = copy(64, &from.join("."), to);
        match few_are_enough {
            true => drop(succeeded(output)),
            false => assert!(failed(output).1.contains("Too many open files")),
        }
        succeeded(copy(1024, &from.join("."), to));
    }
    assert_eq!((depth(&tree), depth(&back)), ("201".into(), "201".into()));
    let left = sandbox.execute("find there -name '.sandbox-*'; find there -name f -printf '%d'").unwrap();
    assert_eq!(left.stdout, b"201");
}

/// One that is built in reads none.
#[test]
fn settings_of_openssl_are_borne_or_blamed() {
    let scratch = Scratch::new();
    let only_fips =
        "openssl_conf = all\n[all]\nalg_section = algorithms\n[algorithms]\ndefault_properties = fips=yes\n";
    fs::write(scratch.path("fips"), only_fips).unwrap();
    fs::write(scratch.path("broken"), "openssl_conf = all\n[all\n").unwrap();
    for settings in ["fips", "broken", "absent"] {
        let output = command(["ls"]).env("OPENSSL_CONF", scratch.path(settings)).output().unwrap();
        match settings == "fips" && !cfg!(feature = "vendored") {
            true => {
                let (code, message) = failed(output);
                assert!(code == Some(1) && message.contains("openssl.cnf"), "{message}");
            }
            false => drop(succeeded(output)),
        }
    }
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let client = client();
    let sandbox = create(&client);
    let code = |line: &str| shell(&sandbox, line).output().unwrap().status.code();
    let codes = ["true", "exit 3", "exit 127", "kill -9 $$", "kill -TERM $$"].map(code);
    assert_eq!(codes, [0, 3, 127, 128 + 9, 128 + 15].map(Some));

    let (code, message) = failed(run(["run", sandbox.name(), "no-such-program"]));
    assert!(code == Some(127) && message.contains("no-such-program"), "{message}");
    assert_eq!(failed(run(["run", "-w", "/no/such/directory", sandbox.name(), "true"])).0, Some(127));
    // Its own process has to log in first, which is part of the time.
    let (code, message) = failed(run(["run", "--timeout", "15s", sandbox.name(), "sleep", "4321"]));
    assert!(code == Some(124) && message.contains("killed"), "{message}");
    assert!(!has_process(&sandbox, "sleep 432[1]"));
    assert_eq!(failed(run(["run", "no-such-sandbox", "true"])).0, Some(255));
    assert_eq!(failed(run(["run", "--set", "ssh_port=x", sandbox.name(), "true"])).0, Some(255));
    assert_eq!(run(["run", sandbox.name()]).status.code(), Some(2));

    let args = ["run", "-w", "/tmp", "--env", "A=1 2", "--user", "sandbox", sandbox.name(), "--"];
    let shown = run(args.iter().chain(&["sh", "-c", "pwd; echo \"$A\"; id -un; echo \"$1\"", "sh", "-t 'x' $A"]));
    assert_eq!(succeeded(shown), "/tmp\n1 2\nsandbox\n-t 'x' $A\n");
}

#[test]
fn streams_are_bytes_and_each_goes_its_own_way() {
    let client = client();
    let sandbox = create(&client);
    let bytes = noise(5_000_000);
    let mut tee = shell(&sandbox, "tee /dev/stderr");
    let mut child = tee.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = thread::scope(|scope| {
        scope.spawn(|| {
            stdin.write_all(&bytes).unwrap();
            drop(stdin);
        });
        child.wait_with_output().unwrap()
    });
    let said = (
        output.stdout.len(),
        output.stderr.len(),
        String::from_utf8_lossy(&output.stderr[..output.stderr.len().min(300)]),
    );
    assert!(
        output.status.success() && output.stdout == bytes && output.stderr == bytes,
        "{:?} {said:?}",
        output.status
    );
    assert_eq!(run(["run", sandbox.name(), "tty"]).stdout, b"not a tty\n");

    // A reader that goes, and a disk that is full: nothing is left running in the sandbox.
    let mut child = shell(&sandbox, "exec yes pipe-$((40+2))").stdout(Stdio::piped()).spawn().unwrap();
    read_until(&mut child, "pipe-42\n");
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::PIPE.as_raw()));
    assert!(!has_process(&sandbox, "pipe-4[2]"));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (code, message) = failed(shell(&sandbox, "exec yes full-$((40+2))").stdout(full).output().unwrap());
    assert!(code == Some(255) && message.contains("No space left"), "{message}");
    assert!(!has_process(&sandbox, "full-4[2]"));
    let list = Command::new("sh").arg("-c").arg(format!("{PROGRAM} ls --json | head -c 0")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&list.stderr), "");
}

/// What a program prints into a pipe that holds 4 KiB and makes nobody wait, which somebody reads in small pieces.
fn through_a_small_pipe(mut program: Command, stream: fn(&mut Command, OwnedFd) -> &mut Command) -> Vec<u8> {
    let (mut reader, writer) = std::io::pipe().unwrap();
    rustix::pipe::fcntl_setpipe_size(&writer, 4096).unwrap();
    rustix::io::ioctl_fionbio(&writer, true).unwrap();
    stream(&mut program, writer.into());
    let mut child = program.spawn().unwrap();
    // The command has the other end of the pipe too.
    drop(program);
    let (mut printed, mut piece) = (Vec::new(), [0; 1000]);
    loop {
        match reader.read(&mut piece).unwrap() {
            0 => break,
            length => printed.extend_from_slice(&piece[..length]),
        }
    }
    assert!(child.wait().unwrap().success());
    printed
}

#[test]
fn a_pipe_that_makes_nobody_wait_gets_all() {
    let client = client();
    let sandbox = create(&client);
    let numbers = (1..=100_000).map(|number| format!("{number}\n")).collect::<String>().into_bytes();
    let printed = through_a_small_pipe(shell(&sandbox, "seq 100000"), Command::stdout);
    assert!(printed == numbers, "{} bytes of standard output", printed.len());
    let printed = through_a_small_pipe(shell(&sandbox, "seq 100000 >&2"), Command::stderr);
    assert!(printed == numbers, "{} bytes of standard error", printed.len());

    let namespace = Namespace::new("listed");
    let labels = serde_json::json!({"app.kubernetes.io/managed-by": "sandbox", "sandbox/owner": "listed"});
    let pod = |number: u32| {
        let name = format!("one-{number}");
        common::gated_pod(&serde_json::json!({"name": name, "namespace": namespace.name(), "labels": labels}))
    };
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": (0..30).map(pod).collect::<Vec<_>>()});
    common::kubectl_with_input(&["create", "-f", "-"], &list.to_string());
    let list = command(["ls", "--json", "--namespace", namespace.name()]);
    let printed = through_a_small_pipe(list, Command::stdout);
    assert!(printed.len() > 4096, "{} bytes", printed.len());
    let listed: Value = serde_json::from_slice(&printed).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 30);
}

#[test]
fn signals_are_passed_on_and_the_second_one_kills() {
    let client = client();
    let sandbox = create(&client);
    let started = |line: &str| {
        let mut child = shell(&sandbox, line).stdout(Stdio::piped()).spawn().unwrap();
        read_until(&mut child, "ready\n");
        child
    };
    for (sent, name) in [(Signal::INT, "INT"), (Signal::TERM, "TERM"), (Signal::HUP, "HUP")] {
        let line = format!("trap 'echo got {name}; exit 9' {name}; echo ready; while :; do sleep 0.05; done");
        let child = started(&line);
        signal(&child, sent);
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stdout), (Some(9), format!("got {name}\n").into_bytes()));
    }
    let mut child = started("echo ready; exec sleep 5432");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 2));
    let mut child = started("trap 'echo got' INT; echo ready; while :; do sleep 0.05; done");
    signal(&child, Signal::INT);
    read_until(&mut child, "got\n");
    assert_eq!(child.try_wait().unwrap(), None, "the command goes on");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 9));
    assert!(!has_process(&sandbox, "sleep 543[2]") && !has_process(&sandbox, "echo go[t]"));

    // A sandbox that answers no more.
    let mut child = started("echo ready; sleep 5432");
    let frozen = freeze_connections(&sandbox);
    // Two different ones: two of a kind at once are one.
    signal(&child, Signal::INT);
    signal(&child, Signal::HUP);
    thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    assert_eq!(child.try_wait().unwrap(), None);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    drop(frozen);

    let line = format!("trap '' HUP; exec {PROGRAM} run {} sh -c 'echo ready; sleep 1; echo over'", sandbox.name());
    let mut child = Command::new("sh").arg("-c").arg(line).stdout(Stdio::piped()).spawn().unwrap();
    read_until(&mut child, "ready\n");
    signal(&child, Signal::HUP);
    assert_eq!(succeeded(child.wait_with_output().unwrap()), "over\n", "nohup");
    let unreadable = File::options().write(true).open("/dev/null").unwrap();
    assert_eq!(succeeded(shell(&sandbox, "cat; echo over").stdin(unreadable).output().unwrap()), "over\n", "nohup");
}

/// A program on a terminal of its own.
struct Session {
    terminal: OwnedFd,
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
    /// How the terminal was before the program started.
    before: Termios,
}

impl Session {
    fn start(args: &[&str]) -> Self {
        common::position();
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        resize(&terminal, 100, 30);
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let before = tcgetattr(&terminal).unwrap();
        let other_end = || File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&name).unwrap();
        // setsid makes it the terminal of the program that it becomes.
        let mut command = Command::new("env");
        command.arg(ALL_SIGNALS).args(["setsid", "--ctty", PROGRAM]).args(args).env("TERM", "vt220");
        let child = command.stdin(other_end()).stdout(other_end()).stderr(other_end()).spawn().unwrap();
        let (sender, output) = channel();
        let mut reader = File::from(terminal.try_clone().unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                sender.send(buffer[..length].to_vec()).unwrap_or_default();
            }
        });
        Self { terminal, child, output, seen: String::new(), before }
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap();
        !modes.local_modes.intersects(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG)
    }

    fn types(&self, keys: &str) {
        File::from(self.terminal.try_clone().unwrap()).write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until the terminal shows this, behind what was awaited before.
    fn shows(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("{text:?} is not in {:?}", self.seen),
            }
        }
    }

    /// The exit code; the terminal has to be as it was.
    fn ends(&mut self) -> Option<i32> {
        await_that("the end of the program", || self.child.try_wait().unwrap().is_some());
        let code = self.child.wait().unwrap().code();
        let (before, after) = (&self.before, tcgetattr(&self.terminal).unwrap());
        assert_eq!(after.local_modes, before.local_modes);
        assert_eq!(after.input_modes, before.input_modes);
        assert_eq!(after.output_modes, before.output_modes);
        assert_eq!(after.control_modes, before.control_modes);
        code
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(terminal: &OwnedFd, columns: u16, rows: u16) {
    tcsetwinsize(terminal, Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

#[test]
fn a_shell_on_a_terminal() {
    let client = client();
    let sandbox = create(&client);
    let mut session = Session::start(&["run", "-t", sandbox.name(), "bash", "--norc"]);
    assert!(session.before.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG));
    session.shows("$ ");
    await_that("the terminal to be raw", || session.is_raw());
    session.types("echo $TERM $(stty size) $((40 + 2))\r");
    session.shows("vt220 30 100 42\r\n");
    // Who waits for keys takes next to no processor time: here, less than a tenth of it.
    let ticks = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", session.child.id())).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11);
        fields.take(2).map(|field| field.parse::<u64>().unwrap()).sum::<u64>()
    };
    let before = ticks();
    thread::sleep(Duration::from_secs(1));
    assert!(ticks() - before < 10, "{} hundredths of a second", ticks() - before);
    // Not in the shell itself, which does not trap it before it has read a line.
    session.types("sh -c 'trap \"stty size; exit\" WINCH; echo se\"\"t; while :; do sleep 0.05; done'\r");
    session.shows("set\r\n");
    resize(&session.terminal, 132, 50);
    session.shows("50 132\r\n");
    // A key, not a signal to this side: the shell ends the program and goes on.
    session.types("sleep 6543; echo code $?\r");
    await_that("the program to run", || has_process(&sandbox, "sleep 654[3]"));
    session.types("\u{3}");
    session.shows("^C");
    session.shows("$ ");
    session.types("echo code $?\r");
    session.shows("code 130\r\n");
    assert!(session.child.try_wait().unwrap().is_none() && !has_process(&sandbox, "sleep 654[3]"));
    session.types("exit 7\r");
    assert_eq!(session.ends(), Some(7));
}

#[test]
fn the_terminal_is_restored_however_it_ends() {
    let client = client();
    let sandbox = create(&client);
    for sent in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let mut session = Session::start(&["run", "-t", sandbox.name(), "bash", "--norc"]);
        session.shows("$ ");
        await_that("the terminal to be raw", || session.is_raw());
        signal(&session.child, sent);
        assert_eq!(session.ends(), Some(128 + 1), "what a terminal that is gone ends its shell with");
    }
    // The first one is lost.
    let deaf = "trap 'trap - HUP' HUP; echo ready; while :; do sleep 0.05; done";
    let mut session = Session::start(&["run", "-t", sandbox.name(), "sh", "-c", deaf]);
    session.shows("ready");
    await_that("the terminal to be raw", || session.is_raw());
    signal(&session.child, Signal::TERM);
    assert_eq!(session.ends(), Some(128 + 1));
    let mut session = Session::start(&["run", "-t", sandbox.name(), "no-such-program"]);
    session.shows("there is no program 'no-such-program'");
    assert_eq!(session.ends(), Some(127));
    let mut session = Session::start(&["run", "-t", sandbox.name(), "sh", "-c", "echo ready; kill -9 $PPID; sleep 9"]);
    session.shows("sandbox: ");
    assert_eq!(session.ends(), Some(255));
    let (code, message) = failed(run(["run", "-t", sandbox.name(), "true"]));
    assert!(code == Some(255) && message.contains("not a terminal"), "{message}");
}

#[test]
fn files_and_trees_are_copied_both_ways() {
    let client = client();
    let sandbox = create(&client);
    let (scratch, bytes, name) = (Scratch::new(), noise(3_000_000), sandbox.name());
    let here = |path: &str| scratch.path(path).into_os_string().into_string().unwrap();
    let there = |path: &str| format!("{name}:{path}");
    fs::write(here("a:b"), &bytes).unwrap();
    fs::create_dir_all(here("tree/below")).unwrap();
    fs::write(here("tree/below/file"), b"deep").unwrap();
    std::os::unix::fs::symlink("below/file", here("tree/link")).unwrap();
    std::os::unix::net::UnixListener::bind(here("tree/socket")).unwrap();

    let copied = json(run(["cp", "--checksum", "--json", &here("a:b"), &there("/tmp")]));
    assert_eq!((&copied["bytes"], copied["sha256"].as_str().unwrap().len()), (&Value::from(3_000_000), 64));
    let silent = run(["cp", &there("/tmp/a:b"), &here("back")]);
    assert_eq!(String::from_utf8_lossy(&silent.stderr), "", "no bar where there is no terminal");
    assert!(succeeded(silent).is_empty() && fs::read(here("back")).unwrap() == bytes);

    // A new name, then into what is a directory now, then what is in it.
    let output = run(["cp", &here("tree"), &there("copy")]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "sandbox: socket: a socket\n");
    assert!(output.status.success());
    succeeded(run(["cp", &here("tree"), &there("copy")]));
    succeeded(run(["cp", &here("tree/below/."), &there("copy")]));
    let found = sandbox.execute("cd copy && find . | LC_ALL=C sort && readlink link && cat tree/link").unwrap();
    let expected = "./below\n./below/file\n./file\n./link\n./tree\n./tree/below\n./tree/below/file\n./tree/link\n";
    assert_eq!(found.stdout_text(), format!(".\n{expected}below/file\ndeep"));
    let report = json(run(["cp", "--json", &there("copy/tree"), &here("")]));
    assert_eq!((&report["files"], &report["symlinks"], &report["skipped"]), (&1.into(), &1.into(), &0.into()));
    assert_eq!(fs::read(here("tree/link")).unwrap(), b"deep");
    succeeded(run(["cp", &there("copy/tree"), &here("new")]));
    assert_eq!(fs::read_link(here("new/link")).unwrap().to_str(), Some("below/file"));

    let (code, message) = failed(run(["cp", &here("absent"), &there("/tmp")]));
    assert!(code == Some(1) && message.contains("absent"), "{message}");
    assert_eq!(failed(run(["cp", &there("absent"), &here("x")])).0, Some(1));
    assert_eq!(failed(run(["cp", &here("a:b"), &here("x")])).0, Some(2));
    assert_eq!(failed(run(["cp", &there("a"), &there("b")])).0, Some(2));
}

#[test]
fn a_copy_shows_its_progress_on_a_terminal_and_goes_on_where_it_was_interrupted() {
    let client = client();
    // So slow that a copy is still under way when it is interrupted.
    let sandbox = create_from(&client, &SandboxSpec::new().cpu("100m"));
    let (scratch, name) = (Scratch::new(), sandbox.name());
    let local = scratch.path("large").into_os_string().into_string().unwrap();
    File::create(&local).unwrap().set_len(100_000_000).unwrap();
    let mut session = Session::start(&["cp", "--resume", &local, &format!("{name}:big")]);
    session.shows("%");
    session.shows("MiB/s");
    signal(&session.child, Signal::INT);
    session.shows("interrupted");
    assert_eq!(session.ends(), Some(128 + 2));
    assert!(!sandbox.files().exists("big").unwrap());
    let copied = json(run(["cp", "--resume", "--json", &local, &format!("{name}:big")]));
    assert!(copied["resumed"].as_u64() > Some(0) && copied["bytes"] == 100_000_000, "{copied}");

    let mut session = Session::start(&["cp", &format!("{name}:/usr/lib"), scratch.path("lib").to_str().unwrap()]);
    session.shows("MiB/s");
    signal(&session.child, Signal::TERM);
    assert_eq!(session.ends(), Some(128 + 15));
    assert_eq!(scratch.names(), ["large"], "nothing is left of what was not wanted");
    let mut session = Session::start(&["cp", "--quiet", &format!("{name}:/etc/passwd"), "/dev/null/x"]);
    session.shows("sandbox: download file");
    assert_eq!((session.ends(), session.seen.contains('%')), (Some(1), false));
}

#[test]
fn names_from_a_sandbox_do_nothing_to_the_terminal() {
    let client = client();
    let sandbox = create_from(&client, &SandboxSpec::new());
    sandbox.execute("mkdir -p d && ln -s /outside \"d/$(printf 'a\\033[2Jb')\"").unwrap();
    let scratch = Scratch::new();
    let output = run(["cp", &format!("{}:d", sandbox.name()), scratch.path("d").to_str().unwrap()]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && told.contains("a\\u{1b}[2Jb"), "{}: {told:?}", output.status);
}

#[test]
fn completions_and_help() {
    let completions = |shell| succeeded(Command::new(PROGRAM).args(["completions", shell]).output().unwrap());
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = completions(shell);
        assert!(script.contains("renew") && script.contains("kubeconfig"), "{shell}");
    }
    // What bash itself offers.
    let script = format!(
        "{}COMP_WORDS=(sandbox re) COMP_CWORD=1; _sandbox sandbox re sandbox; echo ${{COMPREPLY[@]}}",
        completions("bash")
    );
    assert_eq!(succeeded(Command::new("bash").arg("-c").arg(script).output().unwrap()), "renew reap\n");
    let help = |args: &[&str]| succeeded(Command::new(PROGRAM).args(args).arg("--help").output().unwrap());
    let verbs = ["create", "run", "cp", "ls", "info", "top", "rm", "renew", "reap", "completions", "man"];
    for verb in verbs {
        assert!(help(&[]).contains(&format!("\n  {verb} ")) && help(&[verb]).contains("Usage: sandbox"), "{verb}");
    }
    let pages = Scratch::new();
    let directory = pages.path("man");
    let man = |directory: &Path| Command::new(PROGRAM).arg("man").arg(directory).output().unwrap();
    assert_eq!(man(&directory).status.code(), Some(1), "there is no such directory");
    fs::create_dir(&directory).unwrap();
    succeeded(man(&directory));
    for page in ["sandbox", "sandbox-run", "sandbox-guest-image"] {
        let text = fs::read_to_string(directory.join(page).with_extension("1")).unwrap();
        assert!(text.contains(&format!(".TH {page} 1")) && text.contains("kubeconfig"), "{page}: {text}");
    }
    assert!(help(&["run"]).contains("124") && help(&["cp"]).contains("NAME:PATH"));
    let version = succeeded(Command::new(PROGRAM).arg("--version").output().unwrap());
    assert_eq!(version, format!("sandbox {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(Command::new(PROGRAM).arg("destroy").output().unwrap().status.code(), Some(2));
}
