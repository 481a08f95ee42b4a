//! What the scenarios run as commands: small programs that look at themselves or attack the guest.

use rustix::process::{Pid, Resource, Rlimit, Signal};
use sandbox_guest::process::{Options, Spawner, Spec};
use std::fmt::Debug;
use std::process::{Command, ExitCode, Stdio};

pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let number = |index: usize| arguments.get(index).and_then(|number| number.parse::<i32>().ok()).unwrap();
    match arguments[0].as_str() {
        "descriptors" => {
            // The one that lists them is the last.
            let mut list: Vec<i32> = std::fs::read_dir("/proc/self/fd")
                .unwrap()
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
                .collect();
            list.sort_unstable();
            println!("{list:?}");
        }
        "status" => {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let wanted = arguments[1..].to_vec();
            let lines = status.lines().filter_map(|line| line.split_once(":\t"));
            lines
                .filter(|(name, _)| wanted.iter().any(|it| it == name))
                .for_each(|(name, value)| println!("{name} {value}"));
        }
        "session" => {
            let own = rustix::process::getpid();
            println!("{}", rustix::process::getsid(None) == Ok(own) && rustix::process::getpgrp() == own);
        }
        "lengths" => {
            let arguments: usize = std::env::args_os().map(|argument| argument.len()).sum();
            let env: usize = std::env::vars_os().map(|(_, value)| value.len()).sum();
            println!("{arguments} {env}");
        }
        // Starts itself anew for ever, each time in a new session, and ends.
        "runner" => {
            let _ = rustix::process::setsid();
            std::thread::sleep(std::time::Duration::from_micros(300));
            let own = std::env::current_exe().unwrap();
            let _ = Command::new(own).args(["tool", "runner"]).env_clear().stdout(Stdio::null()).spawn();
        }
        // A bomb: never stops to make more of itself.
        "bomb" => loop {
            let own = std::env::current_exe().unwrap();
            let _ = rustix::process::setsid();
            let _ = Command::new(own).args(["tool", "bomb"]).env_clear().spawn();
        },
        // Adopts what its own children leave.
        "subreaper" => {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
            let script = "for i in 1 2 3; do setsid sh -c 'sleep 1000 & sleep 1000 &' & done";
            let _ = Command::new("sh").args(["-c", script]).stdout(Stdio::null()).spawn();
            println!("ready");
            std::thread::sleep(std::time::Duration::from_secs(1000));
        }
        // Keeps stopping a process as fast as it can.
        "stop" => {
            println!("ready");
            let victim = Pid::from_raw(number(1)).unwrap();
            while rustix::process::kill_process(victim, Signal::STOP).is_ok() {}
        }
        "forge" => forge(),
        // Another guest, with a command that is to end without it.
        "guest" => guest(&arguments[1]),
        // Tries everything that one process of a user can do to another that does not want it, and prints what was
        // allowed.
        "attack" => attack(number(1)),
        tool => panic!("{tool}"),
    }
    ExitCode::SUCCESS
}

/// Sends process 1 a SIGTERM that looks as if it came from outside: the kernel forgets who sent a signal when the user
/// has too many that wait to be received.
#[allow(unsafe_code, reason = "an attack")]
fn forge() {
    sandbox_guest::sys::block_all_signals().unwrap();
    let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
    // SAFETY: sends signals, touches no memory.
    let send = |pid: i32, signal: i32| unsafe { libc::sigqueue(pid, signal, value) == 0 };
    let own = std::process::id().cast_signed();
    let count = (0..1_000_000).take_while(|_| send(own, libc::SIGRTMIN())).count();
    assert!(count > 100 && count < 1_000_000, "{count}");
    for signal in [libc::SIGRTMIN(), libc::SIGRTMIN() + 3, libc::SIGRTMAX()] {
        (0..1_000_000).take_while(|_| send(1, signal)).take(1_000_000).last();
    }
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT, libc::SIGHUP] {
        println!("{}", send(1, signal));
    }
}

fn guest(kind: &str) {
    let spawner = Spawner::start(Options::default()).unwrap();
    let spec = Spec {
        argv: vec![b"/bin/sh".to_vec(), b"-c".to_vec(), b"setsid sleep 1000 & sleep 1000".to_vec()],
        env: vec![(b"PATH".to_vec(), b"/usr/bin:/bin".to_vec())],
        time_limit: (kind == "limit").then(|| std::time::Duration::from_secs(2)),
        kill_on_close: kind == "close",
        ..Spec::default()
    };
    let running = spawner.spawn(spec).unwrap();
    println!("ready");
    std::thread::sleep(std::time::Duration::from_secs(1000));
    drop(running);
}

fn attack(victim: i32) {
    let pid = Pid::from_raw(victim);
    let tried = |what: &str, result: Result<(), String>| match result {
        Ok(()) => println!("ALLOWED {what}"),
        Err(error) => println!("refused {what}: {error}"),
    };
    fn plain<T, E: Debug>(result: Result<T, E>) -> Result<(), String> {
        result.map(drop).map_err(|error| format!("{error:?}"))
    }
    for file in ["environ", "maps", "mem", "fd/0", "syscall", "stack", "auxv"] {
        tried(file, plain(std::fs::File::open(format!("/proc/{victim}/{file}"))));
    }
    for link in ["exe", "cwd", "root", "fd/0"] {
        tried(link, plain(std::fs::read_link(format!("/proc/{victim}/{link}"))));
    }
    for (file, text) in
        [("comm", "x"), ("oom_score_adj", "1000"), ("coredump_filter", "0"), ("timerslack_ns", "1000000000")]
    {
        tried(file, plain(std::fs::write(format!("/proc/{victim}/{file}"), text)));
    }
    let limit = Rlimit { current: Some(0), maximum: Some(0) };
    tried("prlimit", plain(rustix::process::prlimit(pid, Resource::Nofile, limit)));
    tried("setpriority", plain(rustix::process::setpriority_process(pid, 19)));
    tried("setpriority of the group", plain(rustix::process::setpriority_pgrp(pid, 19)));
    tried("setpriority of the user", plain(rustix::process::setpriority_user(rustix::process::getuid(), 19)));
    let one = rustix::thread::sched_getaffinity(None).map(|mut set| {
        let first = (0..1024).find(|cpu| set.is_set(*cpu)).unwrap();
        set.clear();
        set.set(first);
        set
    });
    tried("sched_setaffinity", plain(rustix::thread::sched_setaffinity(pid, &one.unwrap())));
    let run = |program: &str, arguments: &[&str]| {
        let status = Command::new(program).args(arguments).stderr(Stdio::null()).stdout(Stdio::null()).status();
        status.map_err(|error| error.to_string()).and_then(|s| if s.success() { Ok(()) } else { Err(s.to_string()) })
    };
    let number = victim.to_string();
    tried("sched_setscheduler", run("chrt", &["--idle", "--pid", "0", &number]));
    tried("ioprio_set", run("ionice", &["-c", "3", "-p", &number]));
    let pidfd = rustix::process::pidfd_open(pid.unwrap(), rustix::process::PidfdFlags::empty());
    let flags = rustix::process::PidfdGetfdFlags::empty();
    tried("pidfd_getfd", plain(pidfd.and_then(|pidfd| rustix::process::pidfd_getfd(pidfd, 0, flags))));
    // What must still be possible to a program with itself.
    plain(rustix::process::setpriority_process(None, 1)).unwrap();
    plain(rustix::process::prlimit(None, Resource::Nofile, Rlimit { current: Some(64), maximum: Some(64) })).unwrap();
    plain(rustix::thread::sched_setaffinity(None, &rustix::thread::sched_getaffinity(None).unwrap())).unwrap();
    let thread = rustix::thread::gettid();
    plain(rustix::thread::sched_setaffinity(Some(thread), &rustix::thread::sched_getaffinity(None).unwrap())).unwrap();
}
