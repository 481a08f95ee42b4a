//! Code in the sandbox, of the same user as the guest, that tries to end it, to change it, to read it or to be let in.

use std::process::{Command, Stdio};

use sandbox_protocol::{Cause, Request, Response, Run, Status};

use crate::client::{Client, run, shell};
use crate::guest::{Guest, wait_until};

/// What a line says, and that the guest is as it was.
fn attack(client: &mut Client, line: &str) -> String {
    let answer = client.shell(line);
    let text = String::from_utf8_lossy(&[&answer.stdout[..], &answer.stderr].concat()).into_owned();
    let after = client.shell("echo works");
    assert_eq!((after.code(), after.text()), (0, "works\n"), "after {line}: {text}");
    text
}

fn hello(client: &mut Client) -> sandbox_protocol::Hello {
    match client.ask(&Request::Hello).response {
        Some(Response::Hello(hello)) => *hello,
        other => panic!("{other:?}"),
    }
}

#[test]
fn signals() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let before = hello(&mut client);
    attack(&mut client, "for s in $(seq 1 64); do kill -$s 1; done");
    attack(&mut client, "for t in /proc/1/task/*; do for s in 9 15 19 11 2; do kill -$s ${t##*/}; done; done");
    assert_eq!(hello(&mut client).instance, before.instance);
    // All commands and keepers die of it, and the guest tells the truth about it.
    let answer = client.shell("kill -9 -1");
    let ended = answer.ended();
    assert!(matches!(ended.status, Status::Signal(_) | Status::Lost), "{ended:?}");
    assert!(ended.tampered, "{ended:?}");
    assert_eq!(client.shell("exit 7").code(), 7);
    let after = hello(&mut client);
    assert_eq!(after.instance, before.instance);
    assert!(!after.promises.untampered);
}

#[test]
fn memory_and_files_of_the_guest() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    for file in ["environ", "maps", "mem", "fd/0", "exe", "cwd", "root", "auxv", "stack", "syscall"] {
        let text = attack(&mut client, &format!("cat /proc/1/{file} 2>&1 | head -c 100; ls -l /proc/1/{file} 2>&1"));
        assert!(text.contains("denied") || text.contains("not permitted"), "{file}: {text}");
    }
    for file in ["comm", "oom_score_adj", "coredump_filter", "mem"] {
        let text = attack(&mut client, &format!("echo 1 > /proc/1/{file}"));
        assert!(text.contains("denied") || text.contains("ermission"), "{file}: {text}");
    }
    let status = attack(&mut client, "cat /proc/1/status");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
}

/// System calls that no command makes, in Python.
#[test]
fn system_calls() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let program = r#"
import ctypes, errno, os, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *args):
    ctypes.set_errno(0)
    result = libc.syscall(*[ctypes.c_long(arg) if isinstance(arg, int) else arg for arg in args])
    print(name, errno.errorcode.get(ctypes.get_errno(), "done") if result < 0 else "done")
PTRACE_ATTACH, PTRACE_SEIZE = 16, 0x4206
limit = (ctypes.c_uint64 * 2)(0, 0)
buffer = ctypes.create_string_buffer(64)
vector = (ctypes.c_uint64 * 2)(ctypes.addressof(buffer), 64)
call("ptrace", 101, PTRACE_ATTACH, 1, 0, 0)
call("seize", 101, PTRACE_SEIZE, 1, 0, 0)
call("process_vm_readv", 310, 1, vector, 1, vector, 1, 0)
call("process_vm_writev", 311, 1, vector, 1, vector, 1, 0)
call("kcmp", 312, 1, os.getpid(), 0, 0, 0)
pidfd = os.pidfd_open(1)
call("pidfd_getfd", 438, pidfd, 3, 0)
threads = [int(name) for name in os.listdir("/proc/1/task")]
for thread in threads:
    call("prlimit", 302, thread, 7, limit, 0)
    call("prlimit", 302, thread, 9, limit, 0)
    call("sched_setaffinity", 203, thread, 8, (ctypes.c_uint64 * 1)(1))
    call("sched_setscheduler", 144, thread, 5, (ctypes.c_int * 1)(0))
    call("setpriority", 141, 0, thread, 19)
    call("ioprio_set", 251, 1, thread, 3 << 13)
    call("migrate_pages", 256, thread, 8, limit, limit)
"#;
    let answer = client.run(run(&["python3", "-c", program]));
    assert_eq!(answer.code(), 0, "{}", String::from_utf8_lossy(&answer.stderr));
    assert!(answer.text().lines().count() > 15);
    for line in answer.text().lines() {
        // Commands may bind their own threads to processors, and the guest's threads can't be told from them. It undoes
        // it.
        let is_known = line == "sched_setaffinity done";
        assert!(line.ends_with(" EPERM") || line.ends_with(" EACCES") || is_known, "{}", answer.text());
    }
    assert!(answer.text().starts_with("ptrace EPERM") && answer.text().contains("sched_setaffinity EPERM"));
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    let allowed = own.lines().find(|line| line.starts_with("Cpus_allowed:")).unwrap();
    let thread_of_connection = || {
        std::fs::read_dir(format!("/proc/{}/task", guest.pid)).unwrap().flatten().any(|task| {
            let status = std::fs::read_to_string(task.path().join("status")).unwrap();
            status.contains("Name:\tconnection") && status.contains(allowed)
        })
    };
    assert_eq!(client.shell("exit 7").code(), 7);
    assert!(thread_of_connection());
    assert_eq!(client.shell("exit 7").code(), 7);
}

#[test]
fn a_command_that_kills_its_keeper() {
    let guest = Guest::start();
    let mut client = Client::new(&guest);
    let mark = guest.mark();
    let line = format!("setsid env -i sleep {mark} & sleep 0.1; kill -9 $PPID; sleep {mark}");
    let answer = client.shell(&line);
    let ended = answer.ended();
    assert_eq!((&ended.status, ended.tampered, ended.proved), (&Status::Lost, true, false));
    wait_until("the end of what came to process 1", || !guest.has_process(&mark));
    // Its keeper is stopped: the time limit holds all the same, and is not said to be proved.
    let line = format!("kill -STOP $PPID; sleep {mark}");
    let answer = client.run(Run { time_limit_ms: Some(500), ..shell(&line) });
    assert!(matches!(answer.ended().cause, Cause::TimeLimit | Cause::Itself), "{:?}", answer.ended());
    wait_until("the end of all", || !guest.has_process(&mark));
    assert_eq!(client.shell("exit 7").code(), 7);
}

#[test]
fn nobody_inside_brings_in_a_key() {
    let guest = Guest::start();
    let key = guest.directory.join("other");
    let status = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
    assert!(status.success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let program = guest.directory.join("sandbox-guest");
    let (program_text, port) = (program.to_str().unwrap(), guest.port.to_string());
    let mut client = Client::new(&guest);
    let control = |verb: &str| format!("{program_text} control --port {port} {verb} '{}'", public.trim());
    let logs_in = || {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-i"]).arg(&key);
        command.args(["-p", &port, "sandbox@127.0.0.1", "true"]);
        command.env_remove("SSH_AUTH_SOCK").output().unwrap().status.success()
    };
    // Commands, their orphans, and what has lost its parent.
    let refused = attack(&mut client, &control("authorize"));
    assert!(refused.contains("was started in the sandbox"), "{refused}");
    attack(
        &mut client,
        &format!("(setsid {} > out 2>&1 &); until [ -s out ]; do sleep 0.05; done", control("authorize")),
    );
    let by_hand = r#"
import ctypes, os, socket, sys
inode = os.stat("/proc/self/ns/pid").st_ino
client = socket.socket(socket.AF_UNIX)
client.connect("\0sandbox-guest/%d/%s" % (inode, sys.argv[1]))
try:
    client.sendall(b'{"op":"authorize","key":"%s"}\n' % sys.argv[2].encode())
except BrokenPipeError:
    pass
print(client.recv(1000).decode())
"#;
    let answer = client.run(run(&["python3", "-c", by_hand, &port, public.trim()]));
    assert!(answer.text().contains("{\"error\":"), "{}", answer.text());
    assert!(!logs_in());
    // A shell that comes from outside is dumpable, so that code inside could have taken it over.
    let shell = guest.run_from_outside("/usr/bin/python3".as_ref(), &["-c", by_hand, &port, public.trim()], "");
    assert!(String::from_utf8_lossy(&shell.stdout).contains("dumpable"), "{shell:?}");
    assert!(!logs_in());
    // What the kubelet starts is let in, by argument and by input.
    let outside = |arguments: &[&str], input: &str| {
        let arguments = [&["control", "--port", &port], arguments].concat();
        let output = guest.run_from_outside(&program, &arguments, input);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<sandbox_protocol::Authorized>(&output.stdout).unwrap()
    };
    let identity = outside(&["authorize", public.trim()], "");
    assert_eq!((identity.protocol, identity.instance), (sandbox_protocol::PROTOCOL, hello(&mut client).instance));
    let known = guest.log.lock().unwrap().clone();
    assert!(known.contains(&identity.host_key));
    assert!(logs_in());
    outside(&["revoke", public.trim()], "");
    assert!(!logs_in());
    outside(&["authorize"], &public);
    assert!(logs_in());
    assert_eq!(outside(&["identify"], ""), identity_of(&guest, &program, &port));
    let bad = guest.run_from_outside(&program, &["control", "--port", &port, "authorize", "no key"], "");
    assert!(!bad.status.success());
}

fn identity_of(guest: &Guest, program: &std::path::Path, port: &str) -> sandbox_protocol::Authorized {
    let output = guest.run_from_outside(program, &["control", "--port", port, "identify"], "");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn only_the_system_outside_tells_it_to_end() {
    let mut guest = Guest::start();
    let mut client = Client::new(&guest);
    attack(&mut client, "kill -TERM 1; kill -INT 1; kill -HUP 1");
    // As the kubelet does it. Again, since Linux keeps one of a kind: while one from inside has not been read yet,
    // another one is lost. The kubelet's next signal is SIGKILL.
    wait_until("the end", || {
        let _ = Command::new("kill").args(["-TERM", &guest.pid.to_string()]).stderr(Stdio::null()).status();
        guest.has_ended()
    });
    assert_eq!(guest.wait(), Some(0));
    assert_eq!(guest.termination_log(), "");
}
