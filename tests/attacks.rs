//! Nothing in the sandbox can lie: code in it attacks the guest and what the guest says, each time with the same user
//! id. The table that this prints says what came of each attack.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::fmt::Write;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Guarded, Position, Scratch, await_that, beside, client, create_from, disconnect, kubectl, pods, position,
    signal_guest, unique,
};
use parking_lot::Mutex;
use rustix::process::Signal;
use sandbox::{Cause, Error, ErrorKind, OutputStream, Sandbox, SandboxSpec};

/// What came of an attack, in words; or what is wrong.
type Outcome = Result<String, String>;

/// What is tried, and how.
struct Attack {
    name: &'static str,
    run: fn(&Sandbox) -> Outcome,
}

fn ensure(is: bool, otherwise: impl Into<String>) -> Result<(), String> {
    if is { Ok(()) } else { Err(otherwise.into()) }
}

fn said<T>(result: Result<T, Error>) -> Result<T, String> {
    result.map_err(|e| e.to_string())
}

/// What a line prints, whatever its status.
fn printed(sandbox: &Sandbox, line: &str) -> Result<String, String> {
    said(sandbox.execute(line)).map(|output| output.stdout_text().into_owned())
}

/// Runs a program of Python's in the sandbox, which must succeed.
fn python(sandbox: &Sandbox, program: &str) -> Result<String, String> {
    let output = said(sandbox.command("python3").args(["-c", program]).output())?;
    ensure(output.status.success(), output.stderr_text())?;
    Ok(output.stdout_text().trim().to_owned())
}

/// Whether the guest does its work: a status is what it was, streams are whole, and a timeout is proved.
fn works(sandbox: &Sandbox) -> Result<(), String> {
    let output = said(sandbox.execute("echo out; echo err >&2; exit 7"))?;
    let found = (output.status.code(), &output.stdout[..], &output.stderr[..]);
    ensure(found == (Some(7), b"out\n", b"err\n"), format!("the next command: {output:?}"))?;
    let error = sandbox.command("sleep").arg("60").timeout(Duration::from_millis(200)).output().unwrap_err();
    ensure(error.to_string().contains("all its processes were killed"), error.to_string())
}

/// How many processes have this command line, seen from beside.
fn processes(sandbox: &Sandbox, pattern: &str) -> u32 {
    beside(sandbox, &format!("pgrep -fc -- '{pattern}' || true")).trim().parse().unwrap()
}

/// Runs until the time limit, and expects that nothing is left and that this is said to be proved.
fn ends_in_time(sandbox: &Sandbox, command: sandbox::Command, pattern: &str) -> Outcome {
    let began = Instant::now();
    let error = command.timeout(Duration::from_secs(3)).output().unwrap_err();
    ensure(error.kind() == ErrorKind::TimedOut, error.to_string())?;
    ensure(error.to_string().contains("all its processes were killed"), error.to_string())?;
    ensure(began.elapsed() < Duration::from_secs(60), format!("it took {:?}", began.elapsed()))?;
    let left = processes(sandbox, pattern);
    ensure(left == 0, format!("{left} processes are left"))?;
    works(sandbox)?;
    Ok("all killed at the time limit, proved".to_owned())
}

/// Each of these is tried in a sandbox of its own.
const ATTACKS: &[Attack] = &[
    Attack {
        name: "kill -9 1, and each other signal",
        run: |sandbox| {
            let line = "for signal in $(seq 64); do kill -$signal 1; done 2> /dev/null; kill -STOP 1; echo done";
            ensure(printed(sandbox, line)? == "done\n", "it did not run")?;
            works(sandbox)?;
            Ok("no effect".to_owned())
        },
    },
    Attack {
        name: "kill -9 -1",
        run: |sandbox| {
            let error = sandbox.execute("kill -9 -1; sleep 60").unwrap_err();
            ensure(error.kind() == ErrorKind::OutcomeUnknown, error.to_string())?;
            ensure(error.to_string().contains("not proved"), error.to_string())?;
            works_after_a_keeper_was_killed(sandbox)?;
            Ok("its own outcome is unknown, the sandbox works on".to_owned())
        },
    },
    Attack {
        name: "pkill -9 of everything",
        run: |sandbox| {
            let running = said(sandbox.command("sleep").arg("600").spawn())?;
            let error =
                sandbox.execute("pkill -9 -f 'keepe[r]'; pkill -9 sandbox; pkill -9 slee[p]; sleep 60").unwrap_err();
            ensure(error.kind() == ErrorKind::OutcomeUnknown, error.to_string())?;
            let error = running.wait_shared().unwrap_err();
            ensure(error.kind() == ErrorKind::OutcomeUnknown, error.to_string())?;
            works_after_a_keeper_was_killed(sandbox)?;
            Ok("outcomes are unknown, the sandbox works on".to_owned())
        },
    },
    Attack {
        name: "ptrace, /proc/1/mem, environ, descriptors",
        run: |sandbox| {
            let done = python(sandbox, OPEN_THE_GUEST)?;
            ensure(done == "nothing", format!("possible: {done}"))?;
            works(sandbox)?;
            Ok("all refused".to_owned())
        },
    },
    Attack {
        name: "limits, priority, processors of process 1",
        run: |sandbox| {
            let done = python(sandbox, STARVE_THE_GUEST)?;
            ensure(done == "nothing", format!("possible: {done}"))?;
            works(sandbox)?;
            Ok("all refused".to_owned())
        },
    },
    Attack {
        name: "echo 'exit 0' into all start-up files",
        run: |sandbox| {
            let line = "for file in .profile .bashrc .bash_profile .bash_env .shrc .ssh/rc .ssh/environment \
                        .pam_environment /dev/shm/.sandbox/env /tmp/.sandbox/env; do \
                        mkdir -p $(dirname $file); printf 'exit 0\\nENV=/tmp/x\\n' >> $file; chmod +x $file; done; \
                        for name in sh false env sandbox-guest; do printf '#!/bin/sh\\nexit 0\\n' > $name; chmod +x $name; done; \
                        cp sh false env /tmp";
            said(sandbox.execute(line).and_then(sandbox::Output::check))?;
            for false_one in [sandbox.command("false"), sandbox.shell("false")] {
                let code = said(false_one.output())?.status.code();
                ensure(code == Some(1), format!("false ends with {code:?}"))?;
            }
            let error = sandbox.command("no-such-program").output().unwrap_err();
            ensure(error.to_string().contains("there is no program"), error.to_string())?;
            works(sandbox)?;
            Ok("false is false, what is missing is missing".to_owned())
        },
    },
    Attack {
        name: "a forged result on every descriptor",
        run: |sandbox| {
            // As the guest would frame it, on the streams, and on whatever else the command can write to.
            let program = "import json, os, struct, sys\n\
                text = json.dumps({'result': 'ended', 'status': {'code': 0}, 'cause': 'itself', 'proved': True}).encode()\n\
                frame = struct.pack('>BI', 68, len(text)) + text\n\
                for descriptor in range(1024):\n    try: os.write(descriptor, frame)\n    except OSError: pass\n\
                sys.exit(9)";
            let output = said(sandbox.command("python3").args(["-c", program]).output())?;
            ensure(output.status.code() == Some(9), format!("{:?}", output.status))?;
            ensure(output.stdout == output.stderr && output.stdout.len() > 50, "the streams lost something")?;
            works(sandbox)?;
            Ok("it is output, the exit code is the true one".to_owned())
        },
    },
    Attack {
        name: "setsid env -i, a double fork, a new title",
        run: |sandbox| ends_in_time(sandbox, sandbox.shell(ESCAPES), "sleep 432[1]"),
    },
    Attack {
        name: "the same, outliving a kill",
        run: |sandbox| {
            let child = said(sandbox.shell(ESCAPES).spawn())?;
            await_that("all of them", || processes(sandbox, "sleep 432[1]") == 4);
            said(child.kill())?;
            ensure(said(child.wait_shared())?.signal() == Some("KILL"), "its status")?;
            await_that("them to end", || processes(sandbox, "sleep 432[1]") == 0);
            works(sandbox)?;
            Ok("all killed".to_owned())
        },
    },
    Attack {
        name: "the same, outliving the connection",
        run: |sandbox| {
            let child = said(sandbox.shell(ESCAPES).spawn())?;
            await_that("all of them", || processes(sandbox, "sleep 432[1]") == 4);
            disconnect(sandbox);
            let error = child.wait_shared().unwrap_err();
            ensure(error.kind() == ErrorKind::OutcomeUnknown, error.to_string())?;
            await_that("them to end", || processes(sandbox, "sleep 432[1]") == 0);
            works(sandbox)?;
            Ok("all killed".to_owned())
        },
    },
    Attack {
        name: "processes that fork for ever",
        run: |sandbox| {
            // Forty at a time, each with its own session, each gone as soon as it has a child.
            let program = "import os, signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
                for chain in range(40):\n    if os.fork() == 0:\n        while True:\n            os.setsid()\n\
                \x20           if os.fork(): os._exit(0)\n\
                signal.pause()";
            ends_in_time(sandbox, sandbox.command("python3").args(["-c", program]), "^python[3]")
        },
    },
    Attack {
        name: "killing the keeper",
        run: |sandbox| {
            let line = "setsid sleep 4321 & kill -9 $PPID; sleep 4321";
            let error = sandbox.shell(line).timeout(Duration::from_secs(20)).output().unwrap_err();
            ensure(error.kind() == ErrorKind::OutcomeUnknown, error.to_string())?;
            ensure(error.to_string().contains("not proved"), error.to_string())?;
            await_that("what came to process 1 to be killed", || processes(sandbox, "sleep 432[1]") == 0);
            works_after_a_keeper_was_killed(sandbox)?;
            Ok("unknown, \"not proved\"; the survivors are killed".to_owned())
        },
    },
    Attack {
        name: "stopping the keeper",
        run: |sandbox| {
            let command = sandbox.shell("kill -STOP $PPID; echo stopped; sleep 4321");
            let outcome = ends_in_time(sandbox, command, "sleep 432[1]")?;
            Ok(format!("woken up; {outcome}"))
        },
    },
    Attack {
        name: "stopping the keeper again and again",
        run: |sandbox| {
            let command = sandbox.shell("while kill -STOP $PPID; do :; done; sleep 4321");
            let began = Instant::now();
            let error = command.timeout(Duration::from_secs(2)).output().unwrap_err();
            ensure(error.kind() == ErrorKind::TimedOut, error.to_string())?;
            let is_proved = error.to_string().contains("all its processes were killed");
            let is_open = error.to_string().contains("not proved") || error.to_string().contains("did not confirm");
            ensure(is_proved || is_open, error.to_string())?;
            await_that("it to end", || processes(sandbox, "while kill -STO[P]") == 0);
            ensure(began.elapsed() < Duration::from_secs(60), format!("it took {:?}", began.elapsed()))?;
            ensure(said(sandbox.execute("exit 7"))?.status.code() == Some(7), "the next command")?;
            Ok(format!("killed; {}", if is_proved { "proved" } else { "\"not confirmed\"" }))
        },
    },
    Attack {
        name: "letting in a key from inside",
        run: |sandbox| {
            let scratch = Scratch::new();
            let key = scratch.path("key");
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
            ensure(made.unwrap().success(), "no key")?;
            let public = std::fs::read_to_string(scratch.path("key.pub")).unwrap();
            let line = "for way in '' 'setsid -f' 'setsid'; do \
                        $way /sandbox-guest control authorize \"$KEY\" 2>> refused; done; sleep 0.5; cat refused";
            let answers = said(sandbox.shell(line).env("KEY", public.trim()).output())?.stdout_text().into_owned();
            ensure(answers.matches("was started in the sandbox").count() == 3, &*answers)?;
            let answer = python(sandbox, &SPEAK_TO_THE_SOCKET.replace("KEY", public.trim()))?;
            ensure(answer.contains("was started in the sandbox"), answer)?;
            // Nor by a shell of the runtime's, which whoever has the same user id can take over.
            let shell = format!("exec 3<&0; /sandbox-guest control authorize '{}' 2>&1 || true", public.trim());
            let answer = beside(sandbox, &format!("sh -c \"{shell}; true\""));
            ensure(answer.contains("was started in the sandbox"), answer)?;
            if position() == Position::Inside {
                let address = said(sandbox.info())?.pod_ip.unwrap().to_string();
                let options =
                    "-p 2222 -l sandbox -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
                let mut ssh = Command::new("ssh");
                let output =
                    ssh.args(options.split(' ')).arg("-i").arg(&key).args([&address, "true"]).output().unwrap();
                let text = String::from_utf8_lossy(&output.stderr).into_owned();
                ensure(!output.status.success() && text.contains("Permission denied (publickey)"), text)?;
            }
            works(sandbox)?;
            Ok("refused; the key opens nothing".to_owned())
        },
    },
    Attack {
        name: "killing what watches the expiry, and the clock",
        run: |sandbox| {
            let left = |sandbox: &Sandbox| said(sandbox.info()).map(|info| info.expires_at);
            let before = left(sandbox)?;
            said(sandbox.renew(Duration::from_secs(25)))?;
            let began = Instant::now();
            let line = "pkill -9 slee[p]; kill -9 -1; sleep 60";
            ensure(sandbox.execute(line).is_err(), "it survived")?;
            let line = "date -s 2020-01-01; date -s 2040-01-01; /sandbox-guest control renew 9999; \
                        kill -STOP 1; kill -ALRM 1; echo done";
            ensure(printed(sandbox, line)?.ends_with("done\n"), "it did not run")?;
            ensure(left(sandbox)? != before, "it was not renewed")?;
            await_that("the sandbox to end", || sandbox.info().is_ok_and(|info| info.verdict.is_some()));
            ensure(began.elapsed() >= Duration::from_secs(20), format!("it ended after {:?}", began.elapsed()))?;
            let verdict = said(sandbox.info())?.verdict.unwrap();
            ensure(verdict.cause == Cause::Expired, verdict.to_string())?;
            Ok("it expires when it should".to_owned())
        },
    },
    Attack {
        name: "\"expired\" in the termination log",
        run: |sandbox| {
            let line = "printf expired > /dev/termination-log; cat /dev/termination-log";
            ensure(printed(sandbox, line)? == "expired", "it can't be written")?;
            signal_guest(sandbox, Signal::TERM);
            await_that("the sandbox to end", || sandbox.info().is_ok_and(|info| info.verdict.is_some()));
            let verdict = said(sandbox.info())?.verdict.unwrap();
            let is_true = verdict.cause == Cause::Exited && !verdict.to_string().contains("expired");
            ensure(is_true, verdict.to_string())?;
            Ok(format!("the verdict is the guest's: {verdict}"))
        },
    },
    Attack {
        name: "all memory",
        run: |sandbox| {
            let hog = "held = []\nwhile True: held.append(bytearray(b'x') * (16 << 20))";
            let output = said(sandbox.command("python3").args(["-c", hog]).output())?;
            // Python may notice first.
            let status =
                output.status.signal().map_or_else(|| format!("code {:?}", output.status.code()), str::to_owned);
            ensure(!output.status.success(), "there was enough")?;
            works(sandbox)?;
            Ok(format!("the hog ends by {status}, the guest stays"))
        },
    },
    Attack {
        name: "no space anywhere, then renew and commands",
        run: |sandbox| {
            said(sandbox.execute("head -c 100m /dev/zero > /dev/shm/filler"))?;
            said(sandbox.renew(Duration::from_secs(500)))?;
            let error = sandbox.command("no-such-program").output().unwrap_err();
            ensure(error.to_string().contains("there is no program 'no-such-program'"), error.to_string())?;
            works(sandbox)?;
            Ok("renewed, reasons are told".to_owned())
        },
    },
    Attack {
        name: "a detached command's output, changed afterwards",
        run: |sandbox| {
            let detached = said(sandbox.shell("echo true words; exit 5").detach("job"))?;
            ensure(said(detached.wait(Duration::from_secs(60)))?.code() == Some(5), "its status")?;
            let line = "find /tmp /dev/shm /var/tmp $HOME -type f -exec sh -c 'echo forged > {}' \\; 2> /dev/null; \
                        for process in /proc/[0-9]*; do for file in $process/fd/*; do \
                        [ -f $file ] && echo forged > $file; done; done 2> /dev/null; echo done";
            ensure(printed(sandbox, line)? == "done\n", "it did not run")?;
            let text = said(detached.read(OutputStream::Stdout, 0, 1000))?;
            ensure(text == b"true words\n", format!("{text:?}"))?;
            ensure(said(detached.wait(None))?.code() == Some(5), "its status")?;
            Ok("what it wrote, and its status, stay".to_owned())
        },
    },
];

/// Four that sleep, three of which try not to be found.
const ESCAPES: &str = "env -i setsid sleep 4321 & \
    (unset HOME; setsid sh -c 'env -i sleep 4321 & exit' &); \
    python3 -c 'import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n\
    os.chdir(\"/\"); os.closerange(0, 9); os.execve(\"/bin/sleep\", [\"sleep\", \"4321\"], {})'; exec sleep 4321";

/// A keeper that was killed is told from then on: whatever it kept may have escaped, so that no later kill counts as
/// proved.
fn works_after_a_keeper_was_killed(sandbox: &Sandbox) -> Result<(), String> {
    let output = said(sandbox.execute("echo out; exit 7"))?;
    ensure((output.status.code(), &output.stdout[..]) == (Some(7), b"out\n"), format!("the next command: {output:?}"))?;
    let error = sandbox.command("sleep").arg("60").timeout(Duration::from_millis(200)).output().unwrap_err();
    ensure(error.kind() == ErrorKind::TimedOut, error.to_string())?;
    ensure(said(sandbox.files().read("/etc/hostname"))?.len() > 1, "files")
}

/// Prints what of process 1 and of the command's keeper can be opened, traced or read.
const OPEN_THE_GUEST: &str = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
done = []
def attempt(name, call):
    try:
        if call() is not False: done.append(name)
    except OSError: pass
def made(*arguments): return libc.syscall(*arguments) >= 0
class Span(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(64)
for who in (1, os.getppid()):
    at = f"/proc/{who}"
    for name in ("mem", "environ", "maps", "auxv", "stack", "syscall", "pagemap", "io", "smaps"):
        attempt(f"{who}/{name}", lambda: open(f"{at}/{name}", "rb").read(1))
    for name in ("exe", "cwd", "root"): attempt(f"{who}/{name}", lambda: os.readlink(f"{at}/{name}"))
    for name in ("fd", "fdinfo", "map_files"): attempt(f"{who}/{name}", lambda: os.listdir(f"{at}/{name}"))
    for name in ("mem", "comm", "oom_score_adj", "oom_adj", "clear_refs", "coredump_filter", "timerslack_ns", "sched"):
        attempt(f"write {who}/{name}", lambda: os.write(os.open(f"{at}/{name}", os.O_WRONLY), b"1"))
    attempt(f"attach {who}", lambda: libc.ptrace(16, who, 0, 0) >= 0)
    attempt(f"seize {who}", lambda: libc.ptrace(0x4206, who, 0, 0) >= 0)
    span = Span(ctypes.addressof(memory), 64)
    attempt(f"process_vm_readv {who}", lambda: made(310, who, ctypes.byref(span), 1, ctypes.byref(span), 1, 0))
    attempt(f"process_vm_writev {who}", lambda: made(311, who, ctypes.byref(span), 1, ctypes.byref(span), 1, 0))
    process = libc.syscall(434, who, 0)
    for descriptor in range(32): attempt(f"pidfd_getfd {who}", lambda: made(438, process, descriptor, 0))
    attempt(f"kcmp {who}", lambda: made(312, os.getpid(), who, 0, 0, 0))
print(", ".join(sorted(set(done))) or "nothing")
"#;

/// Prints which of the guest's limits and rights to the processor can be taken away.
const STARVE_THE_GUEST: &str = r#"
import ctypes, os, resource
libc = ctypes.CDLL(None, use_errno=True)
done = []
def attempt(name, call):
    try:
        if call() is not False: done.append(name)
    except (OSError, ValueError): pass
threads = [1]
try: threads += [int(thread) for thread in os.listdir("/proc/1/task")]
except OSError: pass
for who in sorted(set(threads)):
    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_NPROC):
        attempt(f"prlimit {who}", lambda: resource.prlimit(who, limit, (0, 0)))
    attempt(f"setpriority {who}", lambda: os.setpriority(os.PRIO_PROCESS, who, 19))
    attempt(f"scheduler {who}", lambda: os.sched_setscheduler(who, os.SCHED_IDLE, os.sched_param(0)))
    attempt(f"ioprio {who}", lambda: libc.syscall(251, 1, who, 3 << 13) >= 0)
attempt("affinity", lambda: os.sched_setaffinity(1, {0}))
attempt("setpriority of the user", lambda: os.setpriority(os.PRIO_USER, os.getuid(), 19))
print(", ".join(sorted(set(done))) or "nothing")
"#;

/// Asks the guest's control socket itself, also as a process without a parent here.
const SPEAK_TO_THE_SOCKET: &str = r#"
import json, os, socket
name = "\0sandbox-guest/%d/2222" % os.stat("/proc/self/ns/pid").st_ino
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    while os.getppid() != 1 and open("/proc/%d/comm" % os.getppid()).read().strip() == "python3": pass
    with socket.socket(socket.AF_UNIX) as guest:
        guest.connect(name)
        try: guest.sendall(json.dumps({"op": "authorize", "key": "KEY"}).encode() + b"\n")
        except OSError: pass
        os.write(writer, guest.recv(10000))
    os._exit(0)
os.close(writer)
print(os.read(reader, 10000).decode())
"#;

#[test]
fn nothing_in_the_sandbox_can_lie() {
    let (client, label) = (client(), unique());
    let results = Mutex::new(vec![None; ATTACKS.len()]);
    let next = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(attack) = ATTACKS.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let spec = SandboxSpec::new().label("attacked", &label).memory("256Mi");
                    let sandbox: Guarded = create_from(&client, &spec);
                    let place = ATTACKS.iter().position(|one| one.name == attack.name).unwrap();
                    let run = std::panic::AssertUnwindSafe(|| (attack.run)(&sandbox));
                    let outcome = std::panic::catch_unwind(run).unwrap_or_else(|_| Err("a panic".to_owned()));
                    results.lock()[place] = Some(outcome);
                }
            });
        }
    });
    let mut table = String::new();
    for (attack, outcome) in ATTACKS.iter().zip(results.into_inner()) {
        let (mark, text) = match outcome.unwrap() {
            Ok(text) => ("ok   ", text),
            Err(text) => ("WRONG", text),
        };
        writeln!(table, "{mark} | {:<50} | {text}", attack.name).unwrap();
    }
    println!("{table}");
    kubectl(&["delete", "pods", "-l", &format!("attacked={label}"), "--wait=false", "--grace-period=1"]);
    assert!(!table.contains("WRONG"), "\n{table}");
    await_that("the Pods to go", || pods(&format!("attacked={label}")).is_empty());
}
