//! The scenarios.

use super::{As, Scenario, World, let_outside_act};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::Signal;
use sandbox_guest::process::{
    Exit, Limit, NeverRan, Notice, Options, Report, Running, SpawnError, Spawner, Spec, Stage, State, Stdio, Stream,
    Terminal, User, Whom,
};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const fn scenario(name: &'static str, run: fn(&World)) -> Scenario {
    Scenario { name, who: As::User, run, outside: None }
}

const fn as_root(name: &'static str, run: fn(&World)) -> Scenario {
    Scenario { name, who: As::Root, run, outside: None }
}

pub(crate) const ALL: &[Scenario] = &[
    scenario("exit statuses and signals are exact", exits),
    scenario("streams are connected", streams),
    scenario("the environment is what was given", environment),
    scenario("nothing else is inherited", inheritance),
    scenario("directory, umask and limits", settings),
    scenario("reasons why a program never ran", never_ran),
    scenario("no process is left to start one", no_processes),
    scenario("long arguments and environments", long_arguments),
    scenario("signals to main process, group and all", signals),
    scenario("a kill reaches every descendant", escapes_kill),
    scenario("a time limit reaches every descendant", escapes_time_limit),
    scenario("a time limit is the main process's", time_limit_of_main),
    scenario("letting go kills every descendant", escapes_close),
    scenario("a bomb within the limit of processes ends", bomb),
    scenario("descendants live on in the background", background),
    scenario("letting go leaves a command running", leaves_running),
    scenario("the time limit holds without the guest", guest_gone),
    scenario("a killed keeper is noticed", keeper_killed),
    scenario("an idle keeper that was killed costs nothing", idle_keeper_killed),
    scenario("a killed zygote is replaced", zygote_killed),
    scenario("kill -9 -1 ends commands and not the guest", kill_everything),
    scenario("a stopped keeper is woken", keeper_stopped),
    scenario("a keeper that is stopped for ever is given up", keeper_stopped_for_ever),
    scenario("a stopped zygote is woken", zygote_stopped),
    scenario("soft signals do nothing to keepers", soft_signals),
    scenario("the guest can't be reached from inside", attacks),
    Scenario {
        name: "only a stop signal from outside ends the guest",
        who: As::User,
        run: terminate,
        outside: Some(|pid| rustix::process::kill_process(pid_of(pid.cast_signed()), Signal::TERM).unwrap()),
    },
    Scenario {
        name: "strangers are spared until a keeper is lost",
        who: As::Root,
        run: strangers,
        outside: Some(|pid| {
            let script = "setsid sleep 1234 >/dev/null 2>&1 </dev/null & exit 0";
            let pid = pid.to_string();
            let nsenter =
                std::process::Command::new("nsenter").args(["-p", "-m", "-t", &pid, "sh", "-c", script]).status();
            assert!(nsenter.unwrap().success());
        }),
    },
    scenario("a terminal is the controlling terminal", terminal),
    scenario("job control works", job_control),
    scenario("closing a terminal hangs up", hang_up),
    as_root("a command gets the user that was asked for", other_user),
    as_root("another user can't reach its keeper", other_user_attacks),
    as_root("the terminal belongs to the command's user", other_user_terminal),
    scenario("the guest's own program is a zygote", own_zygote),
    scenario("64 commands at once", many),
    scenario("ten thousand commands leave nothing", ten_thousand),
];

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn environment_of_commands() -> Vec<(Vec<u8>, Vec<u8>)> {
    vec![(bytes("PATH"), bytes("/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")), (bytes("TOOL"), bytes(&own_program()))]
}

/// The name of this program in the file system; its own link in /proc is closed to it.
fn own_program() -> String {
    std::env::args().next().unwrap()
}

fn argv(arguments: &[&str]) -> Spec {
    Spec {
        argv: arguments.iter().map(|argument| bytes(argument)).collect(),
        env: environment_of_commands(),
        ..Spec::default()
    }
}

fn shell(script: &str) -> Spec {
    argv(&["sh", "-c", script])
}

fn tool(arguments: &[&str]) -> Spec {
    argv(&[&[&own_program(), "tool"], arguments].concat())
}

fn pid_of(pid: i32) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(pid).unwrap()
}

impl World {
    fn spawn(&self, spec: Spec) -> Running {
        self.spawner.spawn(spec).unwrap()
    }

    /// Runs a command to its end, which is to be a clean one.
    fn output(&self, spec: Spec) -> (Exit, String) {
        let mut running = self.spawn(spec);
        let (reports, output, errors) = finish(&mut running);
        let [Report::Exited(exit), Report::Gone { proved: true }] = reports[..] else { panic!("{reports:?} {errors}") };
        assert_eq!(errors, "");
        (exit, output)
    }

    /// The output of a command that succeeds, without the newline at its end.
    fn text(&self, spec: Spec) -> String {
        let (exit, output) = self.output(spec);
        assert_eq!(exit, Exit::Code(0), "{output}");
        output.trim_end().to_owned()
    }

    /// Runs a command that kills its keeper: that may be before the keeper has said that it runs.
    fn hostile(&self, script: &str) -> Vec<Report> {
        match self.spawner.spawn(shell(script)) {
            Ok(mut running) => finish(&mut running).0,
            Err(error) => {
                assert_eq!(error, SpawnError::Lost);
                vec![LOST]
            }
        }
    }

    fn refusal(&self, spec: Spec) -> NeverRan {
        match self.spawner.spawn(spec) {
            Err(SpawnError::NeverRan(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }
}

/// Reads output and reports until nothing of the command is left.
fn finish(running: &mut Running) -> (Vec<Report>, String, String) {
    let mut reports = Vec::new();
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let mut streams = [running.stdout.take(), running.stderr.take()];
    drop(running.stdin.take());
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        reports.extend(std::iter::from_fn(|| running.report()));
        for (stream, bytes) in streams.iter_mut().zip([&mut output, &mut errors]) {
            read_available(stream, bytes);
        }
        if running.is_gone() {
            return (reports, String::from_utf8_lossy(&output).into(), String::from_utf8_lossy(&errors).into());
        }
        assert!(Instant::now() < until, "still running after {reports:?}");
        let mut descriptors = vec![PollFd::new(&*running, PollFlags::IN)];
        descriptors.extend(streams.iter().flatten().map(|stream| PollFd::new(stream, PollFlags::IN)));
        let pause = running.wake_at().unwrap_or(until).saturating_duration_since(Instant::now());
        let pause = Timespec { tv_sec: pause.as_secs().cast_signed(), tv_nsec: pause.subsec_nanos().into() };
        rustix::event::poll(&mut descriptors, Some(&pause)).unwrap();
    }
}

/// Reads what there is; closes the stream at its end.
fn read_available(stream: &mut Option<OwnedFd>, bytes: &mut Vec<u8>) {
    let mut chunk = [0; 65536];
    while let Some(open) = stream {
        match rustix::io::read(&*open, &mut chunk) {
            Ok(0) | Err(rustix::io::Errno::IO) => *stream = None,
            Ok(length) => bytes.extend(&chunk[..length]),
            Err(rustix::io::Errno::AGAIN) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads from a descriptor that does not block until the text ends with this.
fn read_until(descriptor: &OwnedFd, end: &str) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    let mut text = Vec::new();
    let mut byte = [0; 1];
    while !text.ends_with(end.as_bytes()) {
        match rustix::io::read(descriptor, &mut byte) {
            Ok(0) => panic!("ended after {}", String::from_utf8_lossy(&text)),
            Ok(_) => text.push(byte[0]),
            Err(rustix::io::Errno::AGAIN) => {
                assert!(Instant::now() < until, "only {}", String::from_utf8_lossy(&text));
                let mut descriptors = [PollFd::new(descriptor, PollFlags::IN)];
                rustix::event::poll(&mut descriptors, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap();
            }
            Err(error) => panic!("{error} after {}", String::from_utf8_lossy(&text)),
        }
    }
    String::from_utf8_lossy(&text).into()
}

/// What runs besides the guest, its zygote and its keepers.
fn others() -> Vec<String> {
    let mut others = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let Ok(pid) = entry.unwrap().file_name().to_str().unwrap_or_default().parse::<u32>() else { continue };
        // What has ended meanwhile has no files any more.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Ok(command) = std::fs::read_to_string(format!("/proc/{pid}/cmdline")) else { continue };
        let is_dead = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        let is_ours = command.split('\0').nth(1) == Some("keeper");
        if pid != 1 && !is_dead && !is_ours {
            others.push(format!("{pid} {}", command.replace('\0', " ")));
        }
    }
    others
}

fn nothing_is_left() {
    assert_eq!(others(), Vec::<String>::new());
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The guest's own children: zygotes, and what has come to it.
fn children(pid: i32) -> Vec<i32> {
    let mut children = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let list = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().map(|pid| pid.parse::<i32>().unwrap()));
    }
    children
}

fn zygote() -> i32 {
    children(1)[0]
}

fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

fn kill(pid: i32, signal: Signal) {
    rustix::process::kill_process(pid_of(pid), signal).unwrap();
}

const KILLED: Report = Report::Exited(Exit::Signal { number: 9, core_dumped: false });
const PROVED: Report = Report::Killed { proved: true, left: 0 };
const GONE: Report = Report::Gone { proved: true };
const LOST: Report = Report::Gone { proved: false };

fn exits(world: &World) {
    for code in [0, 1, 2, 126, 127, 128, 137, 254, 255] {
        assert_eq!(world.output(shell(&format!("exit {code}"))).0, Exit::Code(code));
    }
    let no_core = Limit { resource: libc::RLIMIT_CORE, soft: 0, hard: 0 };
    for signal in [1, 2, 3, 6, 9, 11, 13, 15, 31] {
        let spec = Spec { limits: vec![no_core], ..shell(&format!("kill -{signal} $$")) };
        assert_eq!(world.output(spec).0, Exit::Signal { number: signal, core_dumped: false });
    }
    for signal in [34, 64] {
        let mut running = world.spawn(argv(&["sleep", "1000"]));
        running.signal(signal, Whom::Main);
        let (reports, ..) = finish(&mut running);
        assert_eq!(reports, [Report::Exited(Exit::Signal { number: signal, core_dumped: false }), GONE]);
    }
    // Where cores are written beside the program, one is.
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    if !pattern.starts_with(['|', '/']) {
        let core = Limit { resource: libc::RLIMIT_CORE, soft: 1 << 30, hard: 1 << 30 };
        let mut running = world.spawn(Spec { limits: vec![core], ..argv(&["sleep", "1000"]) });
        running.signal(libc::SIGSEGV, Whom::Main);
        let exit = Exit::Signal { number: libc::SIGSEGV, core_dumped: true };
        // A limit can't be raised where it is 0 already.
        let is_possible = rustix::process::getrlimit(rustix::process::Resource::Core).maximum != Some(0);
        assert!(is_possible);
        assert_eq!(finish(&mut running).0, [Report::Exited(exit), GONE]);
    }
    nothing_is_left();
}

fn streams(world: &World) {
    let mut running = world.spawn(shell("cat; echo error >&2"));
    std::fs::File::from(running.stdin.take().unwrap()).write_all(b"one\ntwo\n").unwrap();
    let (reports, output, errors) = finish(&mut running);
    assert_eq!((output.as_str(), errors.as_str()), ("one\ntwo\n", "error\n"));
    assert_eq!(reports, [Report::Exited(Exit::Code(0)), GONE]);

    let both = Stdio::Streams { stdin: Stream::Null, stdout: Stream::Pipe, stderr: Stream::Stdout };
    let spec = Spec { stdio: both, ..shell("cat; echo 1; echo 2 >&2; echo 3") };
    assert_eq!(world.text(spec), "1\n2\n3");

    let path = format!("{}/file", world.directory);
    std::fs::write(&path, "content").unwrap();
    let file = || Stream::File(std::fs::File::options().read(true).append(true).open(&path).unwrap().into());
    let files = Stdio::Streams { stdin: file(), stdout: file(), stderr: file() };
    let mut running = world.spawn(Spec { stdio: files, ..shell("head -c 3; echo error >&2") });
    assert!(running.stdin.is_none() && running.stdout.is_none() && running.stderr.is_none());
    assert_eq!(finish(&mut running).0, [Report::Exited(Exit::Code(0)), GONE]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "contentconerror\n");

    // More than a pipe holds, both ways at once.
    let mut running = world.spawn(argv(&["cat"]));
    let mut stdin = Some(running.stdin.take().unwrap());
    let data: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let (mut sent, mut received) = (0, Vec::new());
    let mut stdout = running.stdout.take();
    while stdout.is_some() {
        if let Some(open) = &stdin {
            match rustix::io::write(open, &data[sent..]) {
                Ok(length) => sent += length,
                Err(error) => assert_eq!(error, rustix::io::Errno::AGAIN),
            }
            if sent == data.len() {
                stdin = None;
            }
        }
        read_available(&mut stdout, &mut received);
    }
    assert!(data == received);
}

fn environment(world: &World) {
    let mut spec = argv(&["env"]);
    spec.env = vec![
        (bytes("B"), bytes("first")),
        (bytes("PATH"), bytes("/nowhere:/usr/bin:/bin")),
        (bytes("A"), vec![0xff, b'=', b'\n']),
        (bytes("B"), bytes("second")),
    ];
    let mut running = world.spawn(spec);
    let mut output = Vec::new();
    let mut stdout = running.stdout.take();
    while stdout.is_some() {
        read_available(&mut stdout, &mut output);
    }
    assert_eq!(output, b"B=second\nPATH=/nowhere:/usr/bin:/bin\nA=\xff=\n\n");
    for name in ["", "A=B"] {
        let reason = world.refusal(Spec { env: vec![(bytes(name), bytes("x"))], ..argv(&["/bin/true"]) });
        assert_eq!((reason.stage, reason.errno), (Stage::Arguments, libc::EINVAL));
    }

    // The guest's own PATH is not asked.
    let own = format!("{}/own", world.directory);
    std::fs::create_dir(&own).unwrap();
    let program = format!("{own}/only-here");
    std::fs::write(&program, "#!/bin/sh\necho \"$0 $1\"\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let spec = Spec { env: vec![(bytes("PATH"), bytes(&own))], ..argv(&["only-here", "x"]) };
    assert_eq!(world.text(spec), format!("{program} x"));
    let spec =
        Spec { env: vec![(bytes("PATH"), bytes(""))], directory: Some(bytes(&own)), ..argv(&["only-here", "y"]) };
    assert_eq!(world.text(spec), "only-here y");
    let spec = Spec { env: Vec::new(), ..argv(&["true"]) };
    assert_eq!(world.text(spec), "");
    // The program and its name may differ.
    let spec = Spec { program: Some(bytes("sh")), ..argv(&["-sh", "-c", "echo $0; echo \"$SECRET_OF_THE_GUEST\""]) };
    assert_eq!(world.text(spec), "-sh");
}

fn inheritance(world: &World) {
    // An open directory is 3.
    assert_eq!(world.text(tool(&["descriptors"])), "[0, 1, 2, 3]");
    // Also while others are being started and with a request that came in a file.
    let long = vec![b'x'; 100_000];
    let mut spec = tool(&["descriptors"]);
    spec.env.push((bytes("LONG"), long));
    assert_eq!(world.text(spec), "[0, 1, 2, 3]");
    // cat itself handles none.
    let status = world.text(argv(&["cat", "/proc/self/status"]));
    for name in ["SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"] {
        assert!(status.contains(&format!("{name}:\t0000000000000000\n")), "{status}");
    }
    assert_eq!(world.text(tool(&["session"])), "true");
    // The keepers and the zygote themselves hold nothing of the guest's.
    let mut running = world.spawn(argv(&["sleep", "1000"]));
    assert_eq!(parent(parent(running.pid)), zygote());
    running.kill_all();
    assert_eq!(finish(&mut running).0, [KILLED, PROVED, GONE]);
}

fn settings(world: &World) {
    let spec = Spec { directory: Some(bytes("/usr/..//usr/bin/.")), ..argv(&["pwd", "-P"]) };
    assert_eq!(world.text(spec), "/usr/bin");
    assert_eq!(world.text(argv(&["pwd"])), world.directory);
    for mask in ["0000", "0077", "0123"] {
        let spec = Spec { umask: Some(u32::from_str_radix(mask, 8).unwrap()), ..shell("umask") };
        assert_eq!(world.text(spec), mask);
    }
    let limits = vec![
        Limit { resource: libc::RLIMIT_NOFILE, soft: 100, hard: 200 },
        Limit { resource: libc::RLIMIT_CPU, soft: 1000, hard: u64::MAX },
    ];
    let script = "ulimit -Sn; ulimit -Hn; ulimit -St; ulimit -Ht";
    assert_eq!(world.text(Spec { limits, ..shell(script) }), "100\n200\n1000\nunlimited");
    // And the keeper's own are as before.
    assert_ne!(world.text(shell("ulimit -Sn")), "100");
    let too_high = Limit { resource: libc::RLIMIT_NOFILE, soft: u64::MAX, hard: u64::MAX };
    let reason = world.refusal(Spec { limits: vec![too_high], ..argv(&["true"]) });
    assert_eq!((reason.stage, reason.errno), (Stage::Limits, libc::EPERM));
}

fn never_ran(world: &World) {
    let directory = &world.directory;
    let file = |name: &str, content: &str, mode: u32| {
        let path = format!("{directory}/{name}");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let check = |spec: Spec, stage: Stage, errno: i32, path: Option<&str>| {
        let reason = world.refusal(spec);
        assert_eq!(reason, NeverRan { stage, errno, path: path.map(bytes) }, "{reason}");
    };
    let plain = file("plain", "text", 0o644);
    let unknown = file("unknown", "no format at all", 0o755);
    let script = file("script", "#!/none/such -x\n", 0o755);
    let unreadable = file("unreadable", "#!/none/such -x\n", 0o311);
    let in_plain = format!("{plain}/x");
    check(argv(&["no-such-program"]), Stage::Program, libc::ENOENT, Some("no-such-program"));
    check(argv(&["/no/such/program"]), Stage::Program, libc::ENOENT, Some("/no/such/program"));
    check(argv(&["./no"]), Stage::Program, libc::ENOENT, Some("./no"));
    check(argv(&[""]), Stage::Program, libc::ENOENT, Some(""));
    check(argv(&[&plain]), Stage::Program, libc::EACCES, Some(&plain));
    check(argv(&["/usr"]), Stage::Program, libc::EACCES, Some("/usr"));
    check(argv(&[&in_plain]), Stage::Program, libc::ENOTDIR, Some(&in_plain));
    check(argv(&[&unknown]), Stage::Program, libc::ENOEXEC, Some(&unknown));
    check(argv(&[&script]), Stage::Interpreter, libc::ENOENT, Some("/none/such"));
    check(argv(&[&unreadable]), Stage::Interpreter, libc::ENOENT, None);
    let mut program = std::fs::read("/bin/true").unwrap();
    let at = program.windows(5).position(|window| window == b"/lib6").unwrap();
    program[at..at + 5].copy_from_slice(b"/lib0");
    let foreign = format!("{directory}/foreign");
    std::fs::write(&foreign, &program).unwrap();
    std::fs::set_permissions(&foreign, std::fs::Permissions::from_mode(0o755)).unwrap();
    let reason = world.refusal(argv(&[&foreign]));
    assert_eq!((reason.stage, reason.errno), (Stage::Interpreter, libc::ENOENT));
    assert!(reason.path.unwrap().starts_with(b"/lib0"));
    // By PATH: one that may not be executed is the reason only if no other is found.
    let path = |path: &str| vec![(bytes("PATH"), format!("{directory}:{path}").into_bytes())];
    check(Spec { env: path("/none"), ..argv(&["plain"]) }, Stage::Program, libc::EACCES, Some(&plain));
    check(Spec { env: path("/none"), ..argv(&["script"]) }, Stage::Interpreter, libc::ENOENT, Some("/none/such"));
    file("true", "text", 0o644);
    assert_eq!(world.text(Spec { env: path("/bin"), ..argv(&["true"]) }), "");

    let at = |directory: &str| Spec { directory: Some(bytes(directory)), ..argv(&["true"]) };
    check(at("/no/such"), Stage::Directory, libc::ENOENT, Some("/no/such"));
    check(at(&plain), Stage::Directory, libc::ENOTDIR, Some(&plain));
    check(at("/root"), Stage::Directory, libc::EACCES, Some("/root"));
    let long = "x".repeat(300);
    check(at(&long), Stage::Directory, libc::ENAMETOOLONG, Some(&long));
    check(argv(&[&format!("/{long}")]), Stage::Program, libc::ENAMETOOLONG, Some(&format!("/{long}")));
    check(argv(&[]), Stage::Arguments, libc::EINVAL, None);
    check(argv(&["a\0b"]), Stage::Arguments, libc::EINVAL, None);
    let root = User { uid: 0, gid: 0, groups: Vec::new() };
    check(Spec { user: Some(root), ..argv(&["true"]) }, Stage::User, libc::EPERM, None);
    // The keeper can do better next time.
    assert_eq!(world.text(shell("echo fine")), "fine");
    nothing_is_left();
}

fn no_processes(world: &World) {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nproc).maximum;
    // The two threads of the guest, the zygote, and for each command a keeper and a process. With none to spare, no
    // keeper can be made; with one, no command.
    for most in [9, 10] {
        let running: Vec<Running> = (0..3).map(|_| world.spawn(argv(&["sleep", "1000"]))).collect();
        let limit = rustix::process::Rlimit { current: Some(most), maximum: hard };
        let old = rustix::process::prlimit(Some(pid_of(zygote())), rustix::process::Resource::Nproc, limit).unwrap();
        let reason = world.refusal(argv(&["sleep", "1000"]));
        assert_eq!((reason.stage, reason.errno), (Stage::Resources, libc::EAGAIN));
        rustix::process::prlimit(Some(pid_of(zygote())), rustix::process::Resource::Nproc, old).unwrap();
        for mut running in running {
            running.kill_all();
            assert_eq!(finish(&mut running).0, [KILLED, PROVED, GONE]);
        }
        assert_eq!(world.text(shell("echo fine")), "fine");
        // None is kept, as the next round is to need new ones.
        children(zygote()).into_iter().for_each(|keeper| kill(keeper, Signal::KILL));
        wait_until("they are dead", || children(zygote()).is_empty());
    }
}

fn long_arguments(world: &World) {
    let with = |count: usize, length: usize| {
        let mut spec = tool(&["lengths"]);
        spec.argv.extend((0..count).map(|_| vec![b'a'; length]));
        spec
    };
    let base = world.text(with(0, 0));
    let (arguments, env) = base.split_once(' ').unwrap();
    let arguments: usize = arguments.parse().unwrap();
    for (count, length) in [(1, 100_000), (3, 40_000), (15, 100_000), (100_000, 3)] {
        assert_eq!(world.text(with(count, length)), format!("{} {env}", arguments + count * length));
    }
    let mut spec = with(0, 0);
    spec.env.push((bytes("LONG"), vec![b'e'; 120_000]));
    assert_eq!(world.text(spec), format!("{arguments} {}", env.parse::<usize>().unwrap() + 120_000));
    for (count, length) in [(1, 200_000), (30, 100_000), (200, 100_000)] {
        let reason = world.refusal(with(count, length));
        assert_eq!((reason.stage, reason.errno), (Stage::Arguments, libc::E2BIG), "{count} of {length}");
    }
    assert_eq!(world.text(with(0, 0)), base);
}

fn signals(world: &World) {
    // One in the group, one in a session of its own below it.
    let script =
        "trap 'echo main' USR1; setsid sh -c 'trap \"echo other\" USR1; echo up; while :; do sleep 0.01; done' &
        sh -c 'trap \"echo group\" USR1; echo up; while :; do sleep 0.01; done' & while :; do sleep 0.01; done";
    for (whom, expected) in
        [(Whom::Main, vec!["main"]), (Whom::Group, vec!["group", "main"]), (Whom::All, vec!["group", "main", "other"])]
    {
        // The trap of `sleep` is none: it ends, and the loop goes on.
        let mut running = world.spawn(shell(script));
        let stdout = running.stdout.take().unwrap();
        read_until(&stdout, "up\n");
        read_until(&stdout, "up\n");
        running.signal(libc::SIGUSR1, whom);
        let mut heard: Vec<String> = expected.iter().map(|_| read_until(&stdout, "\n").trim().to_owned()).collect();
        heard.sort_unstable();
        assert_eq!(heard, expected);
        running.kill_all();
        assert_eq!(finish(&mut running).0, [KILLED, PROVED, GONE]);
        let mut rest = Vec::new();
        read_available(&mut Some(stdout), &mut rest);
        assert_eq!(rest, b"", "nobody else has heard it");
    }
    // The group also when its first process has ended.
    let mut running = world.spawn(shell("sleep 1000 & setsid sleep 2000 & exit 3"));
    assert_eq!(running.wait_report(None), Some(Report::Exited(Exit::Code(3))));
    wait_until("both are there", || {
        let is_sleep = |other: &&String| other.split(' ').nth(1) == Some("sleep");
        others().iter().filter(is_sleep).count() == 2
    });
    running.signal(libc::SIGTERM, Whom::Main);
    running.signal(libc::SIGTERM, Whom::Group);
    wait_until("only the other session is left", || others().iter().all(|other| other.ends_with("sleep 2000 ")));
    assert_eq!(running.report(), None);
    running.signal(libc::SIGTERM, Whom::All);
    assert_eq!(finish(&mut running).0, [GONE]);
    running.signal(libc::SIGTERM, Whom::All);
    running.kill_all();
    assert_eq!(running.wait_report(None), None);
    nothing_is_left();
}

/// Ways to escape from a kill. Each prints `ready` when it has.
fn escapes() -> Vec<(&'static str, Spec)> {
    let shells = [
        ("a cleared environment in another session", "setsid env -i sleep 1000 & sleep 0.05; echo ready; sleep 1000"),
        (
            "a double fork",
            "(setsid sh -c 'setsid sleep 1000 & setsid sleep 1000 &' &); sleep 0.05; echo ready; sleep 1000",
        ),
        (
            "ignored signals",
            "trap '' HUP INT TERM QUIT USR1; (trap '' HUP TERM; setsid sleep 1000) & echo ready; sleep 1000",
        ),
        ("many", "i=0; while [ $i -lt 300 ]; do setsid sleep 1000 & i=$((i+1)); done; echo ready; sleep 1000"),
        (
            "a deep family",
            "f() { if [ $1 -gt 0 ]; then f $(($1-1)) & fi; sleep 1000; }; f 60 & sleep 0.2; echo ready; sleep 1000",
        ),
        ("stopped ones", "setsid sleep 1000 & kill -STOP $!; echo ready; kill -STOP $$"),
        ("a deleted program", "cp $(command -v sleep) ./s; setsid ./s 1000 & sleep 0.05; rm s; echo ready; sleep 1000"),
        ("threads and processes that go on starting", "$TOOL tool runner & echo ready; sleep 1000"),
        ("several that go on starting", "for i in 1 2 3 4 5 6; do $TOOL tool runner & done; echo ready; sleep 1000"),
    ];
    let mut all: Vec<(&str, Spec)> = shells.map(|(name, script)| (name, shell(script))).into();
    all.push(("a subreaper", tool(&["subreaper"])));
    all
}

fn escapes_kill(world: &World) {
    for (name, spec) in escapes() {
        let mut running = world.spawn(spec);
        read_until(running.stdout.as_ref().unwrap(), "ready\n");
        running.kill_all();
        let (reports, ..) = finish(&mut running);
        assert_eq!(reports, [KILLED, PROVED, GONE], "{name}");
        nothing_is_left();
    }
    assert!(!world.spawner.was_tampered_with());
}

fn escapes_time_limit(world: &World) {
    all_escape_from_a_time_limit(world, |spec| spec);
}

fn all_escape_from_a_time_limit(world: &World, change: fn(Spec) -> Spec) {
    let limit = Duration::from_secs(4);
    let begin = Instant::now();
    let running =
        escapes().into_iter().map(|(name, spec)| (name, world.spawn(Spec { time_limit: Some(limit), ..change(spec) })));
    for (name, mut running) in running.collect::<Vec<_>>() {
        let (reports, output, errors) = finish(&mut running);
        assert_eq!((output.as_str(), errors.as_str()), ("ready\n", ""), "{name}");
        assert_eq!(reports, [Report::TimedOut, KILLED, PROVED, GONE], "{name}");
        assert!(begin.elapsed() >= limit);
    }
    nothing_is_left();
}

fn escapes_close(world: &World) {
    for (name, spec) in escapes() {
        let running = world.spawn(Spec { kill_on_close: true, ..spec });
        read_until(running.stdout.as_ref().unwrap(), "ready\n");
        drop(running);
        wait_until(name, || world.spawner.commands().is_empty());
        nothing_is_left();
    }
}

fn time_limit_of_main(world: &World) {
    // In time, and what lives on in the background has no limit.
    let limit = Some(Duration::from_millis(300));
    let mut running = world.spawn(Spec { time_limit: limit, ..shell("setsid sleep 1000 & exit 7") });
    assert_eq!(running.wait_report(None), Some(Report::Exited(Exit::Code(7))));
    assert_eq!(running.wait_report(Some(Instant::now() + Duration::from_millis(1500))), None);
    running.kill_all();
    assert_eq!(finish(&mut running).0, [PROVED, GONE]);
    // A limit of nothing is one.
    let mut running = world.spawn(Spec { time_limit: Some(Duration::ZERO), ..argv(&["sleep", "1000"]) });
    assert_eq!(finish(&mut running).0, [Report::TimedOut, KILLED, PROVED, GONE]);
    let spec = Spec { time_limit: Some(Duration::MAX), ..shell("echo fine") };
    assert_eq!(world.text(spec), "fine");
}

fn bomb(world: &World) {
    let limit = Limit { resource: libc::RLIMIT_NPROC, soft: 150, hard: 150 };
    let limits = || vec![limit, Limit { resource: libc::RLIMIT_CORE, soft: 0, hard: 0 }];
    let shell_bomb = "b() { b | b & }; b; sleep 1000";
    for spec in [tool(&["bomb"]), shell(shell_bomb)] {
        let null = Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
        let spec = Spec { limits: limits(), stdio: null, time_limit: Some(Duration::from_secs(2)), ..spec };
        let mut running = world.spawn(spec);
        let (reports, ..) = finish(&mut running);
        assert_eq!(reports[0], Report::TimedOut);
        assert_eq!(reports[reports.len() - 2..], [PROVED, GONE], "{reports:?}");
        nothing_is_left();
    }
    assert_eq!(world.text(shell("echo fine")), "fine");
}

fn background(world: &World) {
    let mut running = world.spawn(shell("setsid sleep 1000 & echo $!"));
    let begun = std::time::SystemTime::now();
    let pid: i32 = read_until(running.stdout.as_ref().unwrap(), "\n").trim().parse().unwrap();
    assert_eq!(running.wait_report(None), Some(Report::Exited(Exit::Code(0))));
    assert_eq!(running.report(), None);
    let commands = world.spawner.commands();
    assert_eq!(commands.len(), 1);
    assert_eq!((commands[0].id, commands[0].pid, commands[0].state), (running.id, running.pid, State::Background));
    assert_eq!(commands[0].argv[..2], [bytes("sh"), bytes("-c")]);
    assert!(begun.duration_since(commands[0].started).unwrap_or_default() < Duration::from_secs(30));
    // Its parent is the keeper, not process 1.
    assert_eq!(parent(parent(pid)), zygote());
    let id = running.id;
    drop(running);
    assert_eq!(world.spawner.commands().len(), 1, "letting go does not end what is in the background");
    assert!(!others().is_empty());
    assert!(world.spawner.kill_all(id));
    wait_until("the list is empty", || world.spawner.commands().is_empty());
    nothing_is_left();
    assert!(!world.spawner.kill_all(id) && !world.spawner.signal(id, 15, Whom::Main));
}

fn leaves_running(world: &World) {
    let running = world.spawn(shell("sleep 0.3; echo done > file; exec sleep 1000"));
    let id = running.id;
    assert_eq!(world.spawner.commands()[0].state, State::Running);
    drop(running);
    wait_until("it goes on", || std::fs::read_to_string("file").is_ok_and(|text| text == "done\n"));
    assert_eq!(world.spawner.commands()[0].state, State::Running);
    assert!(world.spawner.signal(id, libc::SIGTERM, Whom::Main));
    wait_until("it has ended", || world.spawner.commands().is_empty());
    nothing_is_left();
}

fn guest_gone(world: &World) {
    // Another guest, not process 1, which is killed.
    for (kind, lives) in [("limit", 1000), ("close", 0)] {
        let mut running = world.spawn(tool(&["guest", kind]));
        read_until(running.stdout.as_ref().unwrap(), "ready\n");
        let begin = Instant::now();
        running.signal(libc::SIGKILL, Whom::Main);
        assert_eq!(running.wait_report(None), Some(KILLED));
        // The other guest's keepers are in the background of this one's, until their command has ended.
        let (reports, ..) = finish(&mut running);
        assert_eq!(reports, [GONE]);
        assert!(begin.elapsed() >= Duration::from_millis(lives) && begin.elapsed() < Duration::from_secs(30));
        nothing_is_left();
    }
}

fn keeper_killed(world: &World) {
    let scripts = [
        "kill -9 $PPID; sleep 1000",
        "setsid sleep 1000 & setsid env -i sleep 1000 & kill -9 $PPID; sleep 1000",
        "(setsid sh -c 'sleep 0.1; kill -9 '$PPID'; setsid sleep 1000 & sleep 1000' &); exit 0",
        "for i in 1 2 3 4; do $TOOL tool runner & done; sleep 0.1; kill -9 $PPID; sleep 1000",
    ];
    for script in scripts {
        let reports = world.hostile(script);
        assert_eq!(reports.last(), Some(&LOST), "{script}");
        assert!(reports.iter().all(|report| !matches!(report, Report::Exited(exit) if *exit != Exit::Code(0))));
        wait_until("strangers are killed", || others().is_empty());
        assert!(world.spawner.was_tampered_with());
        assert!(world.spawner.commands().is_empty());
        assert_eq!(world.text(shell("echo fine")), "fine");
    }
    // A later one is proved again.
    let mut running = world.spawn(shell("setsid sleep 1000 & sleep 1000"));
    running.kill_all();
    assert_eq!(finish(&mut running).0, [KILLED, PROVED, GONE]);
}

fn idle_keeper_killed(world: &World) {
    assert_eq!(world.text(shell("echo one")), "one");
    for keeper in children(zygote()) {
        kill(keeper, Signal::KILL);
        wait_until("it is dead", || !std::fs::exists(format!("/proc/{keeper}")).unwrap());
    }
    assert_eq!(world.text(shell("echo two")), "two");
    assert!(world.spawner.was_tampered_with());
    for _ in 0..50 {
        // While they are at work, at whatever point it hits them.
        let killer = std::thread::spawn(|| {
            let keepers = children(zygote());
            for keeper in &keepers {
                let _ = rustix::process::kill_process(pid_of(*keeper), Signal::KILL);
            }
            keepers
        });
        match world.spawner.spawn(shell("echo three")) {
            Ok(mut running) => {
                let (reports, output, _) = finish(&mut running);
                assert!(output == "three\n" || output.is_empty());
                assert!(
                    reports == [Report::Exited(Exit::Code(0)), GONE] || reports.last() == Some(&LOST),
                    "{reports:?}"
                );
            }
            Err(error) => assert_eq!(error, SpawnError::Lost),
        }
        let killed = killer.join().unwrap();
        wait_until("they are dead", || killed.iter().all(|pid| !std::fs::exists(format!("/proc/{pid}")).unwrap()));
    }
    assert_eq!(world.text(shell("echo four")), "four");
    wait_until("nothing is left", || others().is_empty());
}

fn zygote_killed(world: &World) {
    let mut before = world.spawn(shell("read line; setsid sleep 1000 & exit 5"));
    let stdin = before.stdin.take();
    let first = zygote();
    kill(first, Signal::KILL);
    let mut during = world.spawn(shell("echo fine; sleep 1000"));
    read_until(during.stdout.as_ref().unwrap(), "fine\n");
    let (keeper, second) = (parent(before.pid), parent(parent(during.pid)));
    assert_ne!(first, second);
    assert_eq!(parent(keeper), 1, "it came to process 1");
    assert!(world.spawner.is_ours(keeper) && world.spawner.is_ours(second));
    assert!(!world.spawner.is_ours(before.pid));
    // It is not taken for a stranger, although something is wrong.
    assert!(world.spawner.was_tampered_with());
    std::thread::sleep(Duration::from_millis(100));
    drop(stdin);
    assert_eq!(before.wait_report(None), Some(Report::Exited(Exit::Code(5))));
    before.kill_all();
    assert_eq!(finish(&mut before).0, [PROVED, GONE]);
    during.kill_all();
    assert_eq!(finish(&mut during).0, [KILLED, PROVED, GONE]);
    // Again and again, while commands start.
    let script =
        "while :; do for k in $(cat /proc/1/task/*/children); do kill -9 $k; done; sleep 0.01; done 2>/dev/null";
    let mut killer = world.spawn(Spec { kill_on_close: true, ..shell(script) });
    let mut started = 0;
    for _ in 0..50 {
        match world.spawner.spawn(shell("echo fine")) {
            Ok(mut running) => {
                started += 1;
                let (reports, ..) = finish(&mut running);
                assert!(reports == [Report::Exited(Exit::Code(0)), GONE] || reports == [LOST], "{reports:?}");
            }
            Err(SpawnError::NeverRan(reason)) => assert_eq!(reason.stage, Stage::Resources),
            Err(SpawnError::Lost) => {}
        }
    }
    assert!(started > 0);
    killer.kill_all();
    let (reports, ..) = finish(&mut killer);
    assert!(reports == [KILLED, PROVED, GONE] || reports == [LOST], "{reports:?}");
    wait_until("nothing is left", || others().is_empty());
    assert_eq!(world.text(shell("echo fine")), "fine");
}

fn kill_everything(world: &World) {
    let mut other = world.spawn(shell("setsid sleep 1000 & sleep 1000"));
    let reports = world.hostile("kill -9 -1; sleep 1000");
    assert_eq!(reports.last(), Some(&LOST));
    let until = Instant::now() + Duration::from_secs(60);
    assert_eq!(other.wait_report(Some(until)), Some(LOST));
    wait_until("nothing is left", || others().is_empty());
    assert_eq!(world.text(shell("kill -9 1; kill -STOP 1; kill -SEGV 1; kill -KILL 1; echo fine")), "fine");
    let script = "i=0; while [ $((i+=1)) -le 64 ]; do [ $i = 32 ] || [ $i = 33 ] || kill -$i 1; done; echo fine";
    assert_eq!(world.text(shell(script)), "fine");
    assert_eq!(*world.notices.lock().unwrap(), [], "signals from inside do not end it");
}

fn keeper_stopped(world: &World) {
    let limit = Duration::from_millis(500);
    let mut running =
        world.spawn(Spec { time_limit: Some(limit), ..shell("setsid sleep 1000 & kill -STOP $PPID; sleep 1000") });
    assert_eq!(finish(&mut running).0, [Report::TimedOut, KILLED, PROVED, GONE]);
    nothing_is_left();
    let mut running = world.spawn(shell("setsid sleep 1000 & kill -STOP $PPID; echo ready; sleep 1000"));
    read_until(running.stdout.as_ref().unwrap(), "ready\n");
    running.kill_all();
    assert_eq!(finish(&mut running).0, [KILLED, PROVED, GONE]);
    nothing_is_left();
    // An idle one.
    let keepers = children(zygote());
    assert!(!keepers.is_empty());
    keepers.into_iter().for_each(|keeper| kill(keeper, Signal::STOP));
    assert_eq!(world.text(shell("echo fine")), "fine");
    // Letting go of a command whose keeper is stopped.
    let running = world.spawn(Spec { kill_on_close: true, ..shell("kill -STOP $PPID; echo ready; sleep 1000") });
    read_until(running.stdout.as_ref().unwrap(), "ready\n");
    drop(running);
    wait_until("it is woken", || world.spawner.commands().is_empty());
    nothing_is_left();
}

fn keeper_stopped_for_ever(world: &World) {
    let mut victim =
        world.spawn(Spec { time_limit: Some(Duration::from_millis(500)), ..shell("setsid sleep 1000 & sleep 1000") });
    let mut stopper = world.spawn(tool(&["stop", &parent(victim.pid).to_string()]));
    read_until(stopper.stdout.as_ref().unwrap(), "ready\n");
    let (reports, ..) = finish(&mut victim);
    assert!(reports.ends_with(&[GONE]) || reports.ends_with(&[LOST]), "{reports:?}");
    wait_until("only the other is left", || others().iter().all(|other| other.contains("tool stop")));
    stopper.kill_all();
    assert!(finish(&mut stopper).0.ends_with(&[GONE]));
    nothing_is_left();
}

fn zygote_stopped(world: &World) {
    kill(zygote(), Signal::STOP);
    assert_eq!(world.text(shell("echo fine")), "fine");
    // Starting does not wait for it.
    let mut busy = world.spawn(shell("echo busy; sleep 1000"));
    read_until(busy.stdout.as_ref().unwrap(), "busy\n");
    kill(zygote(), Signal::STOP);
    let begin = Instant::now();
    let mut starting = world.spawner.begin(shell("echo fine")).unwrap();
    assert!(starting.poll().is_none());
    assert!(begin.elapsed() < Duration::from_millis(400));
    let given_up = world.spawner.begin(shell("echo never > never; sleep 1000")).unwrap();
    drop(given_up);
    let mut running = starting.wait().unwrap();
    let (reports, output, _) = finish(&mut running);
    assert_eq!((reports, output.as_str()), (vec![Report::Exited(Exit::Code(0)), GONE], "fine\n"));
    wait_until("what was given up does not run", || {
        others().iter().all(|other| other.contains("busy") || other.contains("sleep 1000"))
    });
    busy.kill_all();
    assert_eq!(finish(&mut busy).0, [KILLED, PROVED, GONE]);
    nothing_is_left();
    assert!(!std::path::Path::new("never").exists());
}

fn soft_signals(world: &World) {
    let script =
        "trap '' TERM INT HUP USR1 USR2 ALRM QUIT CHLD; for s in TERM INT HUP USR1 USR2 ALRM QUIT CHLD IO PIPE PROF; do
        kill -$s $PPID $(cat /proc/1/task/*/children); done; echo fine";
    assert_eq!(world.text(shell(script)), "fine");
    let script = "trap '' TERM; kill -TERM -1; echo fine";
    assert_eq!(world.text(shell(script)), "fine");
    assert!(!world.spawner.was_tampered_with());
    assert_eq!(*world.notices.lock().unwrap(), []);
}

fn attacks(world: &World) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let mut running = world.spawn(argv(&["sleep", "1000"]));
    let keeper = parent(running.pid);
    let tids =
        std::fs::read_dir("/proc/1/task").unwrap().map(|task| task.unwrap().file_name().to_str().unwrap().to_owned());
    let mut victims: Vec<String> = tids.collect();
    assert!(victims.len() > 1);
    victims.extend([zygote(), keeper].map(|pid| pid.to_string()));
    for victim in victims {
        let report = world.text(tool(&["attack", &victim]));
        let allowed: Vec<&str> = report.lines().filter(|line| line.starts_with("ALLOWED")).collect();
        // The affinity of other threads than the first can be had, and taken back.
        let is_first = victim == "1" || victim == zygote().to_string();
        assert!(allowed.is_empty() || !is_first && allowed == ["ALLOWED sched_setaffinity"], "{victim}: {report}");
        assert!(report.lines().count() > 15);
    }
    // The same attacks against a command, to see that they are attacks.
    let report = world.text(tool(&["attack", &running.pid.to_string()]));
    for what in ["environ", "maps", "exe", "fd/0"] {
        assert!(report.contains(&format!("ALLOWED {what}")), "{report}");
    }
    assert_eq!(rustix::process::getrlimit(rustix::process::Resource::Nofile), limit);
    running.kill_all();
    assert_eq!(finish(&mut running).0, [KILLED, PROVED, GONE]);
}

fn terminate(world: &World) {
    assert_eq!(world.text(shell("for s in TERM INT HUP QUIT USR1 WINCH; do kill -$s 1; done; echo fine")), "fine");
    assert_eq!(world.text(tool(&["forge"])), "true\ntrue\ntrue\ntrue");
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(*world.notices.lock().unwrap(), []);
    let_outside_act();
    wait_until("the guest is told", || *world.notices.lock().unwrap() == [Notice::Terminate]);
}

fn strangers(world: &World) {
    let stranger = || others().iter().any(|other| other.contains("sleep 1234"));
    let_outside_act();
    wait_until("the stranger is there", stranger);
    let pid: i32 = others()[0].split(' ').next().unwrap().parse().unwrap();
    wait_until("it came to process 1", || parent(pid) == 1);
    assert!(!world.spawner.is_ours(pid));
    let mut running = world.spawn(shell("setsid sleep 1000 & sleep 1000"));
    running.kill_all();
    assert_eq!(finish(&mut running).0, [KILLED, PROVED, GONE]);
    assert!(stranger());
    assert_eq!(world.hostile("kill -9 $PPID; sleep 1000"), [LOST]);
    wait_until("strangers are killed", || others().is_empty());
}

fn on_terminal(spec: Spec) -> Spec {
    let terminal = Terminal { term: bytes("vt100"), columns: 91, rows: 27, ..Terminal::default() };
    Spec { stdio: Stdio::Terminal(terminal), ..spec }
}

fn terminal(world: &World) {
    let script =
        "trap 'stty size' WINCH; tty; stty size; echo $TERM; ls -l /proc/self/fd | wc -l; echo x >/dev/tty; echo ready
        while :; do sleep 0.01; done";
    let mut running = world.spawn(on_terminal(shell(script)));
    let terminal = running.terminal.take().unwrap();
    let text = read_until(&terminal, "ready\r\n");
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines[0].starts_with("/dev/pts/"), "{text}");
    // A line for the total, the three descriptors and the open directory.
    assert_eq!(lines[1..6], ["27 91", "vt100", "5", "x", "ready"]);
    running.terminal = Some(terminal);
    running.resize(100, 30, 0, 0).unwrap();
    let terminal = running.terminal.take().unwrap();
    assert_eq!(read_until(&terminal, "\n"), "30 100\r\n");
    // ^C, from the terminal to the foreground group.
    rustix::io::write(&terminal, b"\x03").unwrap();
    assert_eq!(running.wait_report(None), Some(Report::Exited(Exit::Signal { number: 2, core_dumped: false })));
    assert_eq!(running.wait_report(None), Some(GONE));
    // A TERM of the environment is the one.
    let mut spec = shell("echo $TERM");
    spec.env.push((bytes("TERM"), bytes("xterm")));
    let mut running = world.spawn(on_terminal(spec));
    assert_eq!(read_until(running.terminal.as_ref().unwrap(), "\n"), "xterm\r\n");
    assert_eq!(finish(&mut running).0, [Report::Exited(Exit::Code(0)), GONE]);
    let mut rest = Vec::new();
    read_available(&mut running.terminal, &mut rest);
    assert!(running.terminal.is_none(), "the terminal has an end");
}

fn job_control(world: &World) {
    let mut spec = on_terminal(argv(&["sh", "-i"]));
    spec.env.push((bytes("PS1"), bytes("> ")));
    let mut running = world.spawn(spec);
    let terminal = running.terminal.take().unwrap();
    assert_eq!(read_until(&terminal, "> "), "> ", "no complaint about job control");
    let say = |text: &str| {
        rustix::io::write(&terminal, text.as_bytes()).unwrap();
    };
    say("sleep 1000\n");
    wait_until("it runs", || others().iter().any(|other| other.contains("sleep 1000")));
    say("\x1a");
    read_until(&terminal, "Stopped");
    read_until(&terminal, "> ");
    say("bg\n");
    read_until(&terminal, "> ");
    say("fg\n");
    read_until(&terminal, "sleep 1000\r\n");
    std::thread::sleep(Duration::from_millis(50));
    say("\x03");
    read_until(&terminal, "> ");
    say("echo $?\n");
    read_until(&terminal, "130\r\n");
    read_until(&terminal, "> ");
    say("exit 4\n");
    assert_eq!(finish(&mut running).0, [Report::Exited(Exit::Code(4)), GONE]);
}

fn hang_up(world: &World) {
    let mut running = world.spawn(on_terminal(shell("echo ready; sleep 1000")));
    read_until(running.terminal.as_ref().unwrap(), "ready\r\n");
    running.terminal = None;
    assert_eq!(running.wait_report(None), Some(Report::Exited(Exit::Signal { number: 1, core_dumped: false })));
    assert_eq!(finish(&mut running).0, [GONE]);
    // nohup is what it says.
    let mut running = world.spawn(on_terminal(shell("trap '' HUP; echo ready; sleep 0.2; echo done > file")));
    read_until(running.terminal.as_ref().unwrap(), "ready\r\n");
    running.terminal = None;
    assert_eq!(finish(&mut running).0, [Report::Exited(Exit::Code(0)), GONE]);
    assert_eq!(std::fs::read_to_string("file").unwrap(), "done\n");
    nothing_is_left();
}

const STRANGE_USER: u32 = 1_234_567;

fn strange_user() -> Option<User> {
    Some(User { uid: STRANGE_USER, gid: 7654, groups: vec![1, 3_000_000] })
}

fn other_user(world: &World) {
    let run = |spec: Spec| world.text(Spec { user: strange_user(), directory: Some(bytes("/")), ..spec });
    assert_eq!(run(shell("id -u; id -g; id -G")), "1234567\n7654\n7654 1 3000000");
    let status = run(argv(&["grep", "-E", "^(Uid|Gid|CapEff|CapPrm|CapInh|CapAmb)", "/proc/self/status"]));
    for line in
        ["Uid:\t1234567\t1234567\t1234567\t1234567", "Gid:\t7654\t7654\t7654\t7654", "CapEff:\t0000000000000000"]
    {
        assert!(status.contains(line), "{status}");
    }
    // The directory is entered as that user.
    std::fs::set_permissions(&world.directory, std::fs::Permissions::from_mode(0o700)).unwrap();
    let spec = Spec { user: strange_user(), directory: Some(bytes(&world.directory)), ..argv(&["true"]) };
    let reason = world.refusal(spec);
    assert_eq!((reason.stage, reason.errno), (Stage::Directory, libc::EACCES));
    // The new user has as many processes as it may.
    let spec = Spec { user: strange_user(), directory: Some(bytes("/")), ..argv(&["sleep", "1000"]) };
    let mut running = world.spawn(spec);
    let none = Limit { resource: libc::RLIMIT_NPROC, soft: 0, hard: 0 };
    let spec = Spec { user: strange_user(), directory: Some(bytes("/")), limits: vec![none], ..argv(&["true"]) };
    let reason = world.refusal(spec);
    assert_eq!((reason.stage, reason.errno), (Stage::Resources, libc::EAGAIN));
    running.kill_all();
    assert_eq!(finish(&mut running).0, [KILLED, PROVED, GONE]);
    // The main process still dies with its keeper.
    let mut running =
        world.spawn(Spec { user: strange_user(), directory: Some(bytes("/")), ..argv(&["sleep", "1000"]) });
    kill(parent(running.pid), Signal::KILL);
    assert_eq!(finish(&mut running).0, [LOST]);
    wait_until("nothing is left", || others().is_empty());
}

fn other_user_attacks(world: &World) {
    let spec = |spec: Spec| Spec { user: strange_user(), directory: Some(bytes("/")), ..spec };
    let mut running = world
        .spawn(spec(shell("kill -9 $PPID; kill -STOP $PPID; setsid sleep 1000 & kill -9 -1; echo on; sleep 1000")));
    // kill(-1) spares the caller.
    assert!(read_until(running.stdout.as_ref().unwrap(), "on\n").ends_with("on\n"));
    running.kill_all();
    let (reports, _, errors) = finish(&mut running);
    assert_eq!(reports, [KILLED, PROVED, GONE], "{errors}");
    assert!(!world.spawner.was_tampered_with());
    nothing_is_left();
    std::fs::set_permissions(&world.directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    all_escape_from_a_time_limit(world, |spec| Spec { user: strange_user(), ..spec });
}

fn other_user_terminal(world: &World) {
    let script = "stat -c %u $(tty); echo x > $(tty)";
    let mut running =
        world.spawn(Spec { user: strange_user(), directory: Some(bytes("/")), ..on_terminal(shell(script)) });
    assert_eq!(read_until(running.terminal.as_ref().unwrap(), "x\r\n"), "1234567\r\nx\r\n");
    assert_eq!(finish(&mut running).0, [Report::Exited(Exit::Code(0)), GONE]);
}

fn own_zygote(world: &World) {
    let options = Options { program: Some(format!("{}/../guest", world.directory).into()), subreaper: false };
    let spawner = Spawner::start(options).unwrap();
    let mut running = spawner.spawn(shell("echo fine")).unwrap();
    let (reports, output, _) = finish(&mut running);
    assert_eq!((reports, output.as_str()), (vec![Report::Exited(Exit::Code(0)), GONE], "fine\n"));
    let missing = Options { program: Some("/no/such".into()), subreaper: false };
    assert_eq!(Spawner::start(missing).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

fn many(world: &World) {
    std::thread::scope(|scope| {
        for thread in 0..64 {
            scope.spawn(move || {
                for round in 0..8 {
                    let expected = format!("{thread} {round}");
                    assert_eq!(world.text(shell(&format!("echo {expected}"))), expected);
                }
            });
        }
    });
    assert!(world.spawner.commands().is_empty());
    // All at once, also in their end.
    let mut all: Vec<Running> = (0..64).map(|_| world.spawn(argv(&["sleep", "1000"]))).collect();
    assert_eq!(world.spawner.commands().len(), 64);
    all.iter_mut().for_each(Running::kill_all);
    for mut running in all {
        assert_eq!(finish(&mut running).0, [KILLED, PROVED, GONE]);
    }
    // Keepers that are not needed end after a while.
    wait_until("keepers end", || children(zygote()).len() <= 2);
    assert!(!world.spawner.was_tampered_with());
}

fn ten_thousand(world: &World) {
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let memory = |pid: i32| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().split(' ').next().unwrap().parse().unwrap()
    };
    let run = |count: usize| {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for index in 0..count / 4 {
                        match index % 10 {
                            0 => assert_eq!(world.refusal(argv(&["/no/such"])).errno, libc::ENOENT),
                            1 => drop(world.spawn(Spec { kill_on_close: true, ..argv(&["sleep", "1000"]) })),
                            2 => drop(world.output(on_terminal(argv(&["true"])))),
                            _ => assert_eq!(world.output(argv(&["true"])).0, Exit::Code(0)),
                        }
                    }
                });
            }
        });
        wait_until("all have ended", || world.spawner.commands().is_empty());
        wait_until("keepers end", || children(zygote()).len() <= 2);
    };
    run(1000);
    let before = (open(), memory(1), memory(zygote()));
    run(10_000);
    let after = (open(), memory(1), memory(zygote()));
    assert_eq!(before.0, after.0, "descriptors");
    assert!(after.1 < before.1 + 2048 && after.2 < before.2 + 256, "memory {before:?} {after:?}");
    nothing_is_left();
    assert_eq!(children(1).len(), 1);
    for keeper in children(zygote()) {
        let descriptors = std::fs::read_dir(format!("/proc/{keeper}/fd"));
        // Not even this process may look, so it is asked by what a new command gets.
        assert!(descriptors.is_err());
        assert!(memory(keeper) < 1024, "{}", memory(keeper));
    }
    assert!(!world.spawner.was_tampered_with());
}
