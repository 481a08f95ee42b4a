//! One behaviour, every language: the scenarios of `scenarios.md` in Rust.
#![allow(clippy::unwrap_used, reason = "a scenario fails by panicking")]

use std::fmt::Debug;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use sandbox::{
    Cause, Child, Claim, Client, Command, Config, Error, ErrorKind, Local, LogLevel, LogLine, OnMiss, OpenOptions,
    Origin, Output, OutputStream, Phase, PoolOptions, Position, Progress, Result, Sandbox, SandboxSpec, SessionCounts,
    Stdin, Target, Transport, set_log_handler,
};

type Scenario = (&'static str, fn(&World));

const SCENARIOS: [Scenario; 25] = [
    ("life", life),
    ("by-name", by_name),
    ("run", run),
    ("streams", streams),
    ("exit-status", exit_status),
    ("timeout", timeout),
    ("cancel", cancel),
    ("terminal", terminal),
    ("detached", detached),
    ("ports", ports),
    ("bytes", bytes),
    ("large", large),
    ("files", files),
    ("transfers", transfers),
    ("trees", trees),
    ("errors", errors),
    ("file-errors", file_errors),
    ("use-after-close", use_after_close),
    ("threads", threads),
    ("fork", fork),
    ("callback", callback),
    ("fleet", fleet),
    ("pool", pool),
    ("settings", settings),
    ("end", end),
];

/// What the scenarios share.
struct World {
    directory: PathBuf,
    /// A label value that only this process's sandboxes have, or begin with.
    owner: String,
    client: Client,
    /// Made by the scenario `life`.
    sandbox: OnceLock<Sandbox>,
}

impl World {
    fn sandbox(&self) -> &Sandbox {
        self.sandbox.get().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The names of the sandboxes whose owner begins so.
    fn listed(&self, owner: &str) -> Vec<String> {
        let all = self.client.list().unwrap().into_iter();
        all.filter(|info| info.owner.starts_with(owner)).map(|info| info.name).collect()
    }

    /// Whether something runs whose command line matches: write `slee[p] 1`, not to be found itself.
    fn runs(&self, pattern: &str) -> bool {
        self.sandbox().command("pgrep").args(["-f", pattern]).status().unwrap().success()
    }

    fn still_works(&self) {
        assert_eq!(self.sandbox().execute("echo works on").unwrap().stdout, b"works on\n");
    }
}

/// The settings that all clients here have.
fn config(owner: &str) -> Config {
    let minute = Duration::from_secs(60);
    let config = Config::from_env().unwrap().owner(owner).lifetime(minute * 10);
    config.create_timeout(minute).command_timeout(minute).transfer_timeout(minute)
}

/// The call fails with this kind, and its message has this text.
#[track_caller]
fn fails<T: Debug>(kind: ErrorKind, text: &str, result: Result<T>) -> Error {
    let error = result.unwrap_err();
    assert!(error.kind() == kind && error.to_string().contains(text), "{kind:?} with {text:?} expected, got {error:?}");
    error
}

#[track_caller]
fn await_that(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 60 s: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn stdout(command: &Command) -> Vec<u8> {
    command.output().unwrap().check().unwrap().stdout
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The numbers from 0 on, as four bytes each.
fn numbers(length: usize) -> Vec<u8> {
    (0..length as u32 / 4).flat_map(u32::to_le_bytes).collect()
}

const LARGE: usize = 16 << 20;

fn life(world: &World) {
    let (client, owner) = (&world.client, &*world.owner);
    let spec = SandboxSpec::new().name(owner).label("language", "rust").env("LIFE", "from the spec");
    let spec = spec.lifetime(Duration::from_secs(300)).hard_limit(Duration::from_secs(900));
    let sandbox = world.sandbox.get_or_init(|| client.create(&spec).unwrap());
    assert_eq!(sandbox.name(), owner);
    let timings = sandbox.timings().unwrap();
    assert!(Duration::ZERO < timings.accepted && timings.accepted <= timings.started, "{timings:?}");
    assert!(timings.started <= timings.logged_in, "{timings:?}");

    // The sandbox is faster than the node's report on it, and than the note of its host key.
    await_that("the Pod to be told to run", || {
        let info = sandbox.info().unwrap();
        info.phase == Phase::Running && info.host_key.is_some()
    });
    let info = sandbox.info().unwrap();
    assert_eq!((&*info.name, &*info.uid, &*info.namespace), (owner, sandbox.uid(), client.namespace()));
    assert_eq!((&*info.owner, &*info.labels["language"], &*info.ssh_user), (owner, "rust", "sandbox"));
    assert!(!info.image.is_empty() && info.node.is_some() && info.pod_ip.is_some() && info.verdict.is_none());
    assert_eq!((info.host_key, info.ssh_port), (sandbox.host_key(), sandbox.ssh_port()));
    let (created, expires) = (info.created_at.unwrap(), info.expires_at.unwrap());
    let lifetime = expires.duration_since(created).unwrap().as_secs();
    // The lifetime begins when the container starts, some time after its creation.
    assert!(created <= SystemTime::now() && (290..420).contains(&lifetime), "{lifetime}");
    let renewed = sandbox.renew(Duration::from_secs(600)).unwrap();
    assert!(renewed > expires + Duration::from_secs(290));
    fails(ErrorKind::InvalidArgument, "at least one second", sandbox.renew(Duration::ZERO));

    assert_eq!(world.listed(owner), [owner]);
    assert!(sandbox.execute("uname -n").unwrap().stdout_text().starts_with(owner));
    assert_eq!(sandbox.execute("echo \"$LIFE\"").unwrap().stdout, b"from the spec\n");
    let second_client = Client::new(config(owner)).unwrap();
    let second = second_client.attach(owner).unwrap();
    assert_eq!((second.uid(), second.timings()), (sandbox.uid(), None));
    assert_eq!(second.execute("echo attached").unwrap().stdout, b"attached\n");
    // A warm call asks Kubernetes nothing.
    let requests = second_client.stats().api_requests;
    assert_eq!(second.execute("echo warm").unwrap().stdout, b"warm\n");
    assert!(requests > 0 && second_client.stats().api_requests == requests);
}

fn by_name(world: &World) {
    let (client, name, contents) = (&world.client, &*world.owner, b"\0\xffby name");
    assert_eq!(client.execute_command(name, "echo by name").unwrap().stdout, b"by name\n");
    fs::write(world.path("there"), contents).unwrap();
    assert_eq!(client.upload_file(name, world.path("there"), "by-name").unwrap(), 9);
    assert_eq!(client.download_file(name, "by-name", world.path("back")).unwrap(), 9);
    assert_eq!(fs::read(world.path("back")).unwrap(), contents);
    let info = client.get_sandbox_info(name).unwrap();
    assert_eq!((&*info.name, client.ssh_port(name)), (name, info.ssh_port));
    let own = client.create_sandbox(&SandboxSpec::new()).unwrap();
    client.shutdown_sandbox(own.name()).unwrap();
    fails(ErrorKind::NotFound, own.name(), client.shutdown_sandbox(own.name()));
    fails(ErrorKind::NotFound, "no-such-sandbox", client.delete_sandbox("no-such-sandbox"));
}

fn run(world: &World) {
    let odd = std::ffi::OsStr::from_bytes(b"a\nb \xff\xfe");
    let words = ["two words", "it's \"$HOME\" `id` \\ *"];
    let script = "printf '%s|' \"$MINE\" \"$PWD\" \"$(id -un)\" \"$@\"";
    let command = world.sandbox().command("sh").args(["-c", script, "sh"]).args(words).arg(odd).arg("");
    let command = command.env("MINE", "one\ntwo").current_dir("/tmp").user("sandbox");
    let expected = b"one\ntwo|/tmp|sandbox|two words|it's \"$HOME\" `id` \\ *|a\nb \xff\xfe||";
    for _ in 0..2 {
        assert_eq!(stdout(&command).escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
    fails(ErrorKind::Command, "the user can't be changed", command.user("root").output());
    let line = world.sandbox().shell("for word; do echo \"<$word>\"; done | tac").args(["one two", "3"]);
    assert_eq!(stdout(&line), b"<3>\n<one two>\n");
}

fn streams(world: &World) {
    let sandbox = world.sandbox();
    let mut child = sandbox.shell("echo to stderr >&2; exec cat").spawn().unwrap();
    assert!(!child.id().is_empty());
    let (mut stdin, mut stdout_) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for _ in 0..3 {
        let mut line = [0; 6];
        stdin.write_all(b"li\0ne\n").unwrap();
        stdout_.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"li\0ne\n");
    }
    assert_eq!(child.try_wait().unwrap(), None);
    drop(stdin);
    assert!(child.wait().unwrap().success() && child.try_wait().unwrap().unwrap().success());
    assert_eq!(io::read_to_string(child.stderr.take().unwrap()).unwrap(), "to stderr\n");
    assert_eq!(stdout_.read(&mut [0]).unwrap(), 0);

    let both = sandbox.shell("for n in 1 2 3; do echo out $n; echo err $n >&2; done");
    let output = both.output().unwrap();
    assert_eq!((&*output.stdout_text(), &*output.stderr_text()), ("out 1\nout 2\nout 3\n", "err 1\nerr 2\nerr 3\n"));
    assert_eq!(stdout(&both.merge_stderr()), b"out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n");
    let both = sandbox.shell("echo out; echo err >&2");
    let output = both.clone().discard_stderr().output().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n"[..], &b""[..]));
    let output = both.discard_stdout().output().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b""[..], &b"err\n"[..]));

    // The command goes on when its first line has been received, and not before.
    let line =
        "echo first; until [ -e received ]; do sleep 0.02; done; head -c 1000000 /dev/zero; echo last >&2; exit 9";
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = sandbox.shell(line).stream(|stream, bytes| {
        if out.is_empty() {
            sandbox.files().write("received", "")?;
        }
        let kept = if stream == OutputStream::Stdout { &mut out } else { &mut err };
        kept.extend_from_slice(bytes);
        Ok(())
    });
    assert_eq!((status.unwrap().code(), out.len(), &*err), (Some(9), 1_000_006, &b"last\n"[..]));
    assert!(out.starts_with(b"first\n"));
}

fn exit_status(world: &World) {
    let sandbox = world.sandbox();
    for code in [0, 3, 255] {
        let output = sandbox.execute(format!("exit {code}")).unwrap();
        assert_eq!((output.status.code(), output.status.signal(), output.truncated), (Some(code), None, 0));
        assert_eq!((output.status.success(), output.check().is_ok()), (code == 0, code == 0));
    }
    let killed = sandbox.execute("kill -KILL $$").unwrap().status;
    assert_eq!((killed.signal(), killed.code(), killed.success()), (Some("KILL"), None, false));
    assert_eq!(sandbox.shell("kill -TERM $$").status().unwrap().signal(), Some("TERM"));
    let output = sandbox.execute("printf 'a\\0b'; echo first >&2; echo oops >&2; exit 3").unwrap();
    let error = fails(ErrorKind::CommandFailed, "exit code 3: oops", output.check());
    let output = error.partial_output().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"a\0b"[..], &b"first\noops\n"[..]));
    fails(ErrorKind::Command, "no-such-program", sandbox.command("no-such-program").output());
}

fn timeout(world: &World) {
    let began = Instant::now();
    let command = world.sandbox().shell("echo so far; sleep 60").timeout(millis(4000));
    let error = fails(ErrorKind::TimedOut, "", command.output());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(error.partial_output().unwrap().stdout, b"so far\n");
    assert!(!world.runs("slee[p] 60"));
}

fn cancel(world: &World) {
    let mut child = world.sandbox().shell("yes & sleep 61").spawn().unwrap();
    (child.stdout, child.stderr) = (None, None);
    await_that("the command to run", || world.runs("slee[p] 61"));
    let began = Instant::now();
    let status = thread::scope(|scope| {
        scope.spawn(|| child.kill().unwrap());
        child.wait_shared().unwrap()
    });
    assert!(began.elapsed() < Duration::from_secs(30) && status.signal() == Some("KILL"), "{status}");
    await_that("all its processes to be gone", || !world.runs("slee[p] 61") && !world.runs("^ye[s]"));
    let mut child = world.sandbox().command("sleep").arg("62").spawn().unwrap();
    fails(ErrorKind::InvalidArgument, "signal", child.signal("no such"));
    child.signal("TERM").unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some("TERM"));
}

fn terminal(world: &World) {
    let line = "trap 'stty size; exit' WINCH; echo $TERM; stty size; while :; do sleep 0.02; done";
    let mut child = world.sandbox().shell(line).terminal("vt100", 100, 30).spawn().unwrap();
    let reads = |child: &mut Child, expected: &str| {
        let mut text = vec![0; expected.len()];
        child.stdout.as_mut().unwrap().read_exact(&mut text).unwrap();
        assert_eq!(String::from_utf8_lossy(&text), expected);
    };
    reads(&mut child, "vt100\r\n30 100\r\n");
    child.resize(120, 40);
    reads(&mut child, "40 120\r\n");
    child.wait().unwrap();
}

fn detached(world: &World) {
    let sandbox = world.sandbox();
    let line =
        "echo once >> starts; echo first; until [ -e go ]; do sleep 0.02; done; echo second; echo bad >&2; exit 3";
    let command = sandbox.shell(line);
    fails(ErrorKind::InvalidArgument, "no key", command.detach("no key"));
    command.detach("job").unwrap();
    let second = command.detach("job").unwrap();
    assert_eq!((second.key(), second.try_wait().unwrap()), ("job", None));
    fails(ErrorKind::Conflict, "runs", second.remove());

    let found = Client::new(config(&world.owner)).unwrap().attach(sandbox.name()).unwrap().detached("job").unwrap();
    fails(ErrorKind::TimedOut, "still runs", found.wait(millis(100)));
    sandbox.execute("touch go").unwrap();
    assert_eq!(found.wait(None).unwrap().code(), Some(3));
    assert_eq!(found.read(OutputStream::Stdout, 6, 100).unwrap(), b"second\n");
    let (mut position, mut out, mut err) = (Position::default(), Vec::new(), Vec::new());
    position.stdout = 6;
    let status = found.stream(&mut position, |stream, bytes| {
        if stream == OutputStream::Stdout { &mut out } else { &mut err }.extend_from_slice(bytes);
        Ok(())
    });
    assert_eq!((status.unwrap().code(), &*out, &*err), (Some(3), &b"second\n"[..], &b"bad\n"[..]));
    assert_eq!((position.stdout, position.stderr), (13, 4));
    found.remove().unwrap();
    fails(ErrorKind::DetachedNotFound, "job", found.kill());
    assert_eq!(sandbox.files().read("starts").unwrap(), b"once\n");

    let endless = sandbox.command("sleep").arg("63");
    let killed = endless.detach("killed").unwrap();
    killed.kill().unwrap();
    assert!(!world.runs("slee[p] 63"));
    assert_eq!(killed.wait(Duration::from_secs(60)).unwrap().signal(), Some("KILL"));
    killed.remove().unwrap();
    let signalled = endless.detach("signalled").unwrap();
    fails(ErrorKind::InvalidArgument, "signal", signalled.signal("no such"));
    signalled.signal("TERM").unwrap();
    assert_eq!(signalled.wait(Duration::from_secs(60)).unwrap().signal(), Some("TERM"));
    signalled.remove().unwrap();
    fails(ErrorKind::DetachedNotFound, "signalled", signalled.wait(millis(100)));
}

/// Answers with what it got, backwards.
const REVERSER: &str = "import socketserver as s, threading as t
class H(s.StreamRequestHandler):
    def handle(self): self.wfile.write(self.rfile.read()[::-1])
u = s.ThreadingUnixStreamServer('/tmp/reverser', H)
t.Thread(target=u.serve_forever, daemon=True).start()
s.ThreadingTCPServer(('127.0.0.1', 7300), H).serve_forever()
";

fn is_reversed(mut stream: TcpStream) {
    stream.write_all(b"desserts").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b"stressed");
}

fn ports(world: &World) {
    let (sandbox, minute) = (world.sandbox(), Duration::from_secs(60));
    fails(ErrorKind::TimedOut, "port 7300", sandbox.wait_for_port(7300, millis(50)));
    fails(ErrorKind::Refused, "port 7300", sandbox.connect(7300));
    let server = sandbox.command("python3").args(["-c", REVERSER]).detach("reverser").unwrap();
    sandbox.wait_for_port(7300, minute).unwrap();
    sandbox.wait_for_port(Path::new("/tmp/reverser"), minute).unwrap();
    is_reversed(sandbox.connect(7300).unwrap());
    is_reversed(sandbox.connect(Path::new("/tmp/reverser")).unwrap());

    let forward = sandbox.forward(0, 7300).unwrap();
    let address = ("127.0.0.1", forward.port());
    assert_eq!(forward.local().to_string(), format!("127.0.0.1:{}", forward.port()));
    let open = TcpStream::connect(address).unwrap();
    is_reversed(TcpStream::connect(address).unwrap());
    assert!(forward.is_open() && forward.connections() >= 1 && forward.last_failure().is_none());
    let to_nobody = sandbox.forward("127.0.0.1:0".parse::<Local>().unwrap(), Target::Port(7301)).unwrap();
    let mut refused = TcpStream::connect(("127.0.0.1", to_nobody.port())).unwrap();
    assert_eq!(refused.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(to_nobody.last_failure().unwrap().kind(), ErrorKind::Refused);
    fails(ErrorKind::Busy, "127.0.0.1", sandbox.forward(forward.port(), 7300));
    forward.close();
    forward.wait().unwrap();
    assert!(!forward.is_open() && TcpStream::connect(address).is_err());
    drop(open);
    server.kill().unwrap();
    server.remove().unwrap();
}

fn bytes(world: &World) {
    let (all, cat) = ((0..=255).collect::<Vec<u8>>(), world.sandbox().command("cat"));
    assert_eq!(stdout(&cat.clone().stdin(all.clone())), all);
    assert_eq!(stdout(&cat.clone().stdin("")), b"");
    assert_eq!(stdout(&cat.clone().stdin(Stdin::reader(io::Cursor::new(all.clone())))), all);
    fs::write(world.path("input"), &all).unwrap();
    let from_file = cat.clone().stdin(fs::File::open(world.path("input")).unwrap());
    assert_eq!(stdout(&from_file), all);
    fails(ErrorKind::InvalidArgument, "used up", from_file.output());
    fails(ErrorKind::InvalidArgument, "NUL", cat.arg("a\0b").output());
}

fn large(world: &World) {
    let many = numbers(LARGE);
    let mut child = world.sandbox().command("sha256sum").spawn().unwrap();
    child.stdin.take().unwrap().write_all(&many).unwrap();
    let expected = "c9e77904d4198fb6b70b6556e0d0229139bd3aa7dee40d70b8c7cddfdd1d537f  -\n";
    assert_eq!(child.wait_with_output().unwrap().stdout_text(), expected);
    let cat = world.sandbox().command("cat").stdin(many.clone());
    assert!(stdout(&cat) == many);
    let Output { stdout, truncated, .. } = cat.output_limit(1000).output().unwrap();
    assert_eq!((&*stdout, truncated), (&many[..1000], LARGE as u64 - 1000));
}

fn files(world: &World) {
    let files = world.sandbox().files();
    files.write("whole", b"f\0\xff\n").unwrap();
    files.append("whole", "more").unwrap();
    assert_eq!(files.read("whole").unwrap(), b"f\0\xff\nmore");
    files.write("whole", "").unwrap();
    assert_eq!(files.read("whole").unwrap(), b"");

    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = files.open_with("opened", &options).unwrap();
    file.write_all(b"0123456789").unwrap();
    assert_eq!(file.seek(SeekFrom::End(-4)).unwrap(), 6);
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "6789");
    file.set_len(5).unwrap();
    file.set_permissions(0o644).unwrap();
    file.sync_all().unwrap();
    let found = file.metadata().unwrap();
    assert_eq!((found.len(), found.mode(), file.path()), (5, 0o644, Path::new("opened")));
    file.close().unwrap();
    fails(ErrorKind::FileExists, "opened", files.open_with("opened", &options));
    files.open_with("opened", OpenOptions::new().append(true)).unwrap().write_all(b"end").unwrap();
    files.open_with("opened", OpenOptions::new().write(true)).unwrap().write_all(b"begin").unwrap();
    assert_eq!(io::read_to_string(files.open("opened").unwrap()).unwrap(), "beginend");
    files.open_with("opened", OpenOptions::new().write(true).truncate(true)).unwrap().close().unwrap();
    files.open_with("new", OpenOptions::new().write(true).create(true)).unwrap().close().unwrap();
    assert!(files.read("opened").unwrap().is_empty() && files.exists("new").unwrap());

    let odd = Path::new(std::ffi::OsStr::from_bytes(b"dir/odd \xff"));
    files.create_dir("dir").unwrap();
    files.create_dir_all("dir/a/b").unwrap();
    files.write(odd, "onetwo").unwrap();
    files.set_permissions(odd, 0o640).unwrap();
    files.symlink("no where", "dir/link").unwrap();
    assert_eq!(files.read_link("dir/link").unwrap(), Path::new("no where"));
    assert_eq!(files.canonicalize("dir/../dir").unwrap(), Path::new("/home/sandbox/dir"));
    let found = files.metadata(odd).unwrap();
    assert_eq!((found.is_file(), found.len(), found.mode()), (true, 6, 0o640));
    assert!(found.modified().unwrap() > SystemTime::UNIX_EPOCH && found.accessed().is_some());
    assert!(files.symlink_metadata("dir/link").unwrap().is_symlink() && files.metadata("dir").unwrap().is_dir());
    assert!(!files.exists("dir/link").unwrap() && files.exists("dir/a").unwrap());
    let mut entries = files.read_dir("dir").unwrap();
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let kinds = entries.iter().map(|entry| (entry.name.as_bytes(), entry.metadata.is_dir())).collect::<Vec<_>>();
    assert_eq!(kinds, [(&b"a"[..], true), (b"link", false), (b"odd \xff", false)]);
    files.write("dir/plain", "old").unwrap();
    files.rename(odd, "dir/plain").unwrap();
    assert_eq!(files.read("dir/plain").unwrap(), b"onetwo");
    files.remove_file("dir/link").unwrap();
    fails(ErrorKind::FileNotFound, "dir/link", files.remove_file("dir/link"));
    files.remove_dir("dir/a/b").unwrap();
    fails(ErrorKind::DirectoryNotEmpty, "not empty", files.remove_dir("dir"));
    files.remove_dir_all("dir").unwrap();
    assert!(!files.exists("dir").unwrap());
}

fn transfers(world: &World) {
    let (files, many) = (world.sandbox().files(), numbers(LARGE));
    let (there, back) = (world.path("large"), world.path("large-back"));
    fs::write(&there, &many).unwrap();
    let mut seen = Vec::new();
    let record = |progress: &Progress<'_>| {
        seen.push((progress.path.to_owned(), progress.done, progress.total));
        Ok(())
    };
    let moved = files.transfer().checksum(true).sync(true).progress(record).upload(&there, "large").unwrap();
    assert_eq!((moved.bytes, moved.resumed, moved.sha256.unwrap()[31]), (LARGE as u64, 0, 0x7f));
    assert!(seen.is_sorted_by_key(|(_, done, _)| *done));
    assert_eq!(seen.pop().unwrap(), (there.clone(), LARGE as u64, Some(LARGE as u64)));
    files.transfer().checksum(true).sync(true).download("large", &back).unwrap();
    assert!(fs::read(&back).unwrap() == many);
    let mut received = Vec::new();
    files.transfer().upload_from(&many[..], "numbers").unwrap();
    files.transfer().download_to("numbers", &mut received).unwrap();
    assert!(received == many);
    assert_eq!(files.upload(&back, "large").unwrap(), LARGE as u64);
    assert_eq!(world.sandbox().download_file("large", &back).unwrap(), LARGE as u64);
    fails(ErrorKind::FileNotFound, "nor-here", world.sandbox().upload_file("nor-here", "x"));

    let interrupt = |progress: &Progress<'_>| match progress.done {
        0 => Ok(()),
        _ => Err(Error::cancelled("enough")),
    };
    fs::remove_file(&back).unwrap();
    let upload = files.transfer().resume(true).progress(interrupt).upload(&there, "resumed");
    fails(ErrorKind::Cancelled, "enough", upload);
    assert!(files.transfer().resume(true).upload(&there, "resumed").unwrap().resumed > 0);
    let download = files.transfer().resume(true).progress(interrupt).download("resumed", &back);
    fails(ErrorKind::Cancelled, "enough", download);
    assert!(files.transfer().resume(true).download("resumed", &back).unwrap().resumed > 0);
    assert!(fs::read(&back).unwrap() == many);
    let refused = files.transfer().max_bytes(LARGE as u64 - 1).download("large", world.path("refused"));
    fails(ErrorKind::Transfer, "16777215 bytes", refused);
    assert!(!world.path("refused").exists());
}

fn trees(world: &World) {
    let (files, there, back) = (world.sandbox().files(), world.path("tree"), world.path("tree-back"));
    fs::create_dir_all(there.join("empty")).unwrap();
    fs::write(there.join("plain"), b"plain \xff").unwrap();
    fs::write(there.join("program"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(there.join("program"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("plain", there.join("link")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(there.join("pipe")).status().unwrap().success());
    let report = files.upload_dir(&there, "tree").unwrap();
    assert_eq!((report.files, report.directories, report.symlinks, report.bytes), (2, 2, 1, 17));
    let note = &report.notes[0];
    assert_eq!((report.skipped, &*note.path, &*note.text), (1, Path::new("pipe"), "a named pipe"));
    let report = files.download_dir("tree", &back).unwrap();
    assert_eq!((report.files, report.directories, report.symlinks, report.skipped), (2, 2, 1, 0));
    assert_eq!(fs::read(back.join("plain")).unwrap(), b"plain \xff");
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(back.join("program")), mode(there.join("program")));
    assert!(back.join("empty").is_dir() && fs::read_link(back.join("link")).unwrap() == Path::new("plain"));
    let refused = files.transfer().max_entries(2).download_dir("tree", world.path("tree-refused"));
    fails(ErrorKind::Transfer, "2", refused);
    assert!(!world.path("tree-refused").exists());
}

fn errors(world: &World) {
    let (client, sandbox, owner) = (&world.client, world.sandbox(), &*world.owner);
    let of = |error: &Error| (error.operation().to_owned(), error.sandbox().unwrap().to_owned());
    fails(ErrorKind::InvalidArgument, "NUL", sandbox.execute("a\0b"));
    fails(ErrorKind::Config, "colour", Config::new().set("colour", "red"));
    let error = fails(ErrorKind::NotFound, "no-such-sandbox", client.attach("no-such-sandbox"));
    assert_eq!(of(&error), ("attach to sandbox".into(), "no-such-sandbox".into()));
    assert!(error.http_status() == Some(404) && error.verdict().is_none() && error.partial_output().is_none());
    assert_eq!((error.raw_os_error(), io::Error::from(error).kind()), (None, io::ErrorKind::NotConnected));
    let error = fails(ErrorKind::PermissionDenied, "/etc/no", sandbox.files().write("/etc/no", ""));
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::PermissionDenied);
    let error = fails(ErrorKind::Conflict, owner, client.create(&SandboxSpec::new().name(owner)));
    assert_eq!((of(&error), error.http_status()), (("create sandbox".into(), owner.into()), Some(409)));
    let error = fails(ErrorKind::TimedOut, "", sandbox.command("sleep").arg("1030").timeout(millis(300)).output());
    assert_eq!((of(&error), error.is_retryable()), (("run command".into(), owner.into()), false));
    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::TimedOut);

    let spec = SandboxSpec::new().image("localhost/no/such/image:1");
    let error = fails(ErrorKind::Create, "no/such/image", client.create(&spec));
    let verdict = error.verdict().unwrap();
    assert!(verdict.cause == Cause::ImagePull && !verdict.reason.is_empty(), "{verdict:?}");
    assert!(error.operation() == "create sandbox" && error.sandbox().is_some());
    // Nothing listens on port 1 of the loopback.
    let kubeconfig = "apiVersion: v1\nkind: Config\nclusters: [{name: a, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                      users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n\
                      current-context: a\n";
    fs::write(world.path("kubeconfig"), kubeconfig).unwrap();
    let nobody = Client::new(config(owner).kubeconfig(world.path("kubeconfig"))).unwrap();
    assert!(fails(ErrorKind::Unavailable, "127.0.0.1:1", nobody.list()).is_retryable());
}

fn file_errors(world: &World) {
    let (sandbox, files) = (world.sandbox(), world.sandbox().files());
    files.create_dir_all("errors/dir").unwrap();
    files.write("errors/file", "x").unwrap();
    sandbox.execute("cp \"$(command -v sleep)\" errors/program").unwrap().check().unwrap();
    let running = sandbox.command("./errors/program").arg("6790").spawn().unwrap();
    await_that("the program runs", || world.runs("errors/progra[m] 6790"));
    fs::write(world.path("plain"), "x").unwrap();
    let (here, below) = (&world.directory, world.path("plain/below"));
    let (not_found, directory) = (io::ErrorKind::NotFound, io::ErrorKind::IsADirectory);
    let (no_directory, exists) = (io::ErrorKind::NotADirectory, io::ErrorKind::AlreadyExists);
    for (kind, number, io_kind, text, result) in [
        (
            ErrorKind::FileNotFound,
            libc::ENOENT,
            not_found,
            "'no-such-file' in the",
            files.read("no-such-file").map(drop),
        ),
        (ErrorKind::FileExists, libc::EEXIST, exists, "'/tmp' in the sandbox", files.create_dir("/tmp")),
        (ErrorKind::IsADirectory, libc::EISDIR, directory, "'/tmp' in the sandbox", files.read("/tmp").map(drop)),
        (ErrorKind::IsADirectory, libc::EISDIR, directory, "errors/dir", files.remove_file("errors/dir")),
        (ErrorKind::IsADirectory, libc::EISDIR, directory, "errors/dir", files.write("errors/dir", "x")),
        (ErrorKind::NotADirectory, libc::ENOTDIR, no_directory, "file", files.read_dir("errors/file").map(drop)),
        (ErrorKind::NotADirectory, libc::ENOTDIR, no_directory, "x", files.metadata("errors/file/x").map(drop)),
        (ErrorKind::NotADirectory, libc::ENOTDIR, no_directory, "x", files.create_dir_all("errors/file/x")),
        (
            ErrorKind::DirectoryNotEmpty,
            libc::ENOTEMPTY,
            io::ErrorKind::DirectoryNotEmpty,
            "'errors' in the sandbox",
            files.remove_dir("errors"),
        ),
        (ErrorKind::ReadOnly, libc::EROFS, io::ErrorKind::ReadOnlyFilesystem, "/sys/x", files.create_dir("/sys/x")),
        (ErrorKind::Busy, libc::ETXTBSY, io::ErrorKind::ExecutableFileBusy, "m", files.append("errors/program", "x")),
        (
            ErrorKind::NameTooLong,
            libc::ENAMETOOLONG,
            io::ErrorKind::InvalidFilename,
            "nnn",
            files.create_dir("n".repeat(256)),
        ),
        (
            ErrorKind::Transfer,
            libc::EXDEV,
            io::ErrorKind::CrossesDevices,
            "errors/file",
            files.rename("errors/file", "/dev/shm/file"),
        ),
        (ErrorKind::FileNotFound, libc::ENOENT, not_found, "on this machine", files.upload("nor-here", "x").map(drop)),
        (ErrorKind::IsADirectory, libc::EISDIR, directory, "on this machine", files.upload(here, "x").map(drop)),
        (
            ErrorKind::NotADirectory,
            libc::ENOTDIR,
            no_directory,
            "on this machine",
            files.download("errors/file", below).map(drop),
        ),
    ] {
        let error = fails(kind, text, result);
        assert_eq!((error.raw_os_error(), error.sandbox()), (Some(number), Some(sandbox.name())), "{error}");
        assert_eq!(io::Error::from(error).kind(), io_kind);
    }
    assert!(!files.exists("errors/file/x").unwrap() && files.exists("errors/file").unwrap());
    let error = fails(ErrorKind::Command, "no-such-program", sandbox.command("no-such-program").output());
    assert_eq!((error.raw_os_error(), io::Error::from(error).kind()), (Some(libc::ENOENT), not_found));
    running.kill().unwrap();
    files.remove_dir_all("errors").unwrap();
}

fn use_after_close(world: &World) {
    let mut child = world.sandbox().command("cat").spawn().unwrap();
    child.wait().unwrap();
    assert!(child.wait().unwrap().success() && child.stdin.is_none());
    child.kill().unwrap();
    let parent = Client::new(config(&world.owner)).unwrap();
    let own = parent.create(&SandboxSpec::new()).unwrap();
    let command = own.command("true");
    own.delete().unwrap();
    fails(ErrorKind::Closed, "deleted", own.execute("true"));
    fails(ErrorKind::Closed, "deleted", own.files().read("x"));
    fails(ErrorKind::NotFound, own.name(), own.info());
    fails(ErrorKind::NotFound, own.name(), own.delete());
    drop((parent, own));
    fails(ErrorKind::Closed, "deleted", command.output());
}

fn threads(world: &World) {
    let sandbox = world.sandbox();
    thread::scope(|scope| {
        for thread in 0..8 {
            scope.spawn(move || {
                for time in 0..10 {
                    let said = sandbox.execute(format!("echo {time} of {thread}")).unwrap().stdout;
                    assert_eq!(said, format!("{time} of {thread}\n").into_bytes());
                    let SessionCounts { idle, busy, .. } = sandbox.session_counts();
                    assert!(idle + busy <= 8, "{idle} idle and {busy} busy sessions");
                }
            });
        }
    });
}

fn fork(world: &World) {
    let mut child = world.sandbox().command("cat").spawn().unwrap();
    let mut find = std::process::Command::new("find");
    find.args(["/proc/self/fd", "-lname", "socket:*"]).stdin(std::process::Stdio::null());
    let inherited = find.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&inherited.stdout), "");
    assert!(inherited.status.success() && child.wait().unwrap().success());
    world.still_works();
}

fn callback(world: &World) {
    let command = world.sandbox().shell("echo $$; exec cat /dev/zero");
    let (mut received, mut is_over) = (0, false);
    let stopped = command.stream(|_, bytes| {
        assert!(!is_over);
        received += bytes.len();
        is_over = received > 100_000;
        if is_over { Err(Error::cancelled("enough")) } else { Ok(()) }
    });
    fails(ErrorKind::Cancelled, "all its processes were killed: enough", stopped);
    assert!(!world.runs("^ca[t] /dev/zero"));
    world.still_works();
    let thrown = panic::catch_unwind(AssertUnwindSafe(|| command.stream(|_, _| panic!("its own"))));
    assert_eq!(thrown.unwrap_err().downcast_ref(), Some(&"its own"));
    await_that("all its processes to be gone", || !world.runs("^ca[t] /dev/zero"));
    world.still_works();
}

fn fleet(world: &World) {
    let owner = format!("{}-fleet", world.owner);
    let captain = Client::new(config(&owner)).unwrap();
    // The Pod's own environment tells its settings.
    let template = r#"{"metadata": {"labels": {"from": "template"}}, "spec": {"containers": [{"name": "sandbox", "env": [
        {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['note']"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        {"name": "DISK", "valueFrom": {"resourceFieldRef": {"resource": "limits.ephemeral-storage"}}}]}]}}"#;
    let spec = SandboxSpec::new().cpu("500m").cpu_request("5m").memory("256Mi").memory_request("16Mi").disk("512Mi");
    let spec = spec.annotation("note", "a note").node_selector("kubernetes.io/os", "linux");
    let spec = spec.unschedulable_grace(Duration::from_secs(5)).pod_template(template).unwrap();
    let three = [spec, SandboxSpec::new(), SandboxSpec::new()].map(|spec| captain.create(&spec).unwrap());
    assert_eq!(world.listed(&owner).len(), 3);
    let told = three[0].execute("echo $CPU $MEMORY $DISK $NOTE").unwrap();
    assert_eq!(told.stdout_text(), "500 268435456 536870912 a note\n");
    assert_eq!(three[0].info().unwrap().labels["from"], "template");

    three[2].renew(Duration::from_secs(1)).unwrap();
    await_that("the expired one to be reaped", || {
        let reaped = captain.reap().unwrap();
        assert!(!reaped.iter().any(|name| name == three[0].name() || name == three[1].name()));
        reaped.iter().any(|name| name == three[2].name())
    });
    assert_eq!(three[1].execute("echo here").unwrap().stdout, b"here\n");
    three[0].delete().unwrap();
    three[1].shutdown().unwrap();
    await_that("the fleet to be gone", || world.listed(&owner).is_empty());
}

fn pool(world: &World) {
    let minute = Duration::from_secs(60);
    let options = PoolOptions::new().size(2).idle_lifetime(10 * minute).creates_at_once(2).creates_per_second(20.0);
    let name = format!("pool-{}", std::process::id());
    let open = |client: &Client, options: &PoolOptions| client.pool(&name, &SandboxSpec::new(), options).unwrap();
    let filler = open(&world.client, &options);
    assert_eq!((filler.name(), filler.status().unwrap().ready), (&*name, 0));
    fails(ErrorKind::PoolEmpty, &name, filler.claim(&Claim::new().on_miss(OnMiss::Fail)));
    let instead = filler.claim(&Claim::new()).unwrap();
    assert_eq!(instead.timings().unwrap().origin, Origin::PoolMiss);
    instead.delete().unwrap();
    assert_eq!(filler.fill().unwrap().created, 2);
    assert_eq!(filler.fill().unwrap(), Default::default());

    let other = Client::new(config(&format!("{}-other", world.owner))).unwrap();
    let pool = open(&other, &PoolOptions::new());
    let claim = Claim::new().env("TASK", "17").label("of", "a-pool").annotation("note", "a note").lifetime(5 * minute);
    let claim = claim.owner(format!("{}-claimed", world.owner)).file("/tmp/task", "a task").on_miss(OnMiss::Fail);
    let claimed = pool.claim(&claim).unwrap();
    assert_eq!(claimed.timings().unwrap().origin, Origin::Pool);
    assert_eq!(claimed.execute("echo $TASK; cat /tmp/task").unwrap().stdout, b"17\na task");
    let info = claimed.info().unwrap();
    assert_eq!((&*info.labels["of"], info.owner), ("a-pool", format!("{}-claimed", world.owner)));
    let left = info.expires_at.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!(left > 4 * minute && left < 6 * minute, "{left:?}");
    let status = filler.status().unwrap();
    assert_eq!((status.ready, status.claimed, status.filling, status.foreign), (1, 1, 0, 0));
    assert!(status.oldest.is_some() && status.held.is_none() && status.ending == 0);

    let named = SandboxSpec::new().name("a");
    fails(ErrorKind::InvalidArgument, "name", world.client.pool(&name, &named, &options));
    let endless = PoolOptions::new().size(usize::MAX);
    fails(ErrorKind::InvalidArgument, "at most", world.client.pool(&name, &SandboxSpec::new(), &endless));

    assert_eq!(filler.drain().unwrap(), 1);
    let keeper = thread::scope(|scope| {
        let waiter = scope.spawn(|| pool.claim(&Claim::new().on_miss(OnMiss::Wait)).unwrap());
        while pool.counters().waiting == 0 {
            thread::sleep(Duration::from_millis(10));
        }
        let keeper = open(&world.client, &options.clone().size(1).keep_filled(true));
        let waited = waiter.join().unwrap();
        assert_eq!(waited.timings().unwrap().origin, Origin::PoolWait);
        waited.delete().unwrap();
        keeper
    });
    let counters = pool.counters();
    assert_eq!((counters.hits, counters.misses, counters.waiting, counters.bad), (1, 1, 0, 0));
    assert_eq!((filler.counters().created, filler.counters().retired), (2, 1));
    keeper.remove().unwrap();
    assert!(claimed.execute("true").unwrap().status.success());
    claimed.delete().unwrap();
}

fn settings(world: &World) {
    let other = config("other").namespace("elsewhere").image("image:1").ssh_user("somebody").ssh_port(2222);
    let other = other.connect_timeout(Duration::from_secs(20)).idle_timeout(None).transport(Transport::Tunnel);
    let other = other.max_sessions(4).log(LogLevel::Warn).set("command_timeout", "0.5").unwrap();
    let lines = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&lines);
    let keep = move |line: &LogLine<'_>| kept.lock().unwrap().push((line.level, line.target.to_owned()));
    set_log_handler(LogLevel::Debug, Some(Box::new(keep))).unwrap();
    world.client.list().unwrap();
    let told = lines.lock().unwrap().clone();
    assert!(
        told.iter().any(|(level, target)| *level == LogLevel::Debug && target.starts_with("sandbox::")),
        "{told:?}"
    );
    fails(ErrorKind::Config, "logger", other.init_logging());
    set_log_handler(LogLevel::Off, None).unwrap();
    lines.lock().unwrap().clear();
    world.client.list().unwrap();
    assert!(lines.lock().unwrap().is_empty());
    other.init_logging().unwrap();
    fails(ErrorKind::Config, "logger", other.init_logging());
    let elsewhere = Client::new(other).unwrap();
    assert_eq!((elsewhere.namespace(), elsewhere.ssh_port("unknown")), ("elsewhere", 2222));
    let config = || config(&world.owner);
    fails(ErrorKind::Config, "there is no setting \"colour\"", config().set("colour", "red"));
    fails(ErrorKind::Config, "1 to 65535", config().set("ssh_port", "0"));
    fails(ErrorKind::Config, "/no/such/key", Client::new(config().ssh_key("/no/such/key")));
    fails(ErrorKind::Config, "no-such-context", Client::new(config().context("no-such-context")));
    fails(ErrorKind::Config, "/no/such/file", Client::new(config().kubeconfig("/no/such/file")));
    fails(ErrorKind::Config, "max_sessions", Client::new(config().max_sessions(0)));
    fails(ErrorKind::InvalidArgument, "JSON", SandboxSpec::new().pod_template("[]"));
    let spec = SandboxSpec::new().user_from_cluster().runtime_class("no-such-class");
    let error = fails(ErrorKind::Create, "no-such-class", world.client.create(&spec));
    assert_eq!(error.verdict().unwrap().cause, Cause::Rejected);
    let spec = SandboxSpec::new().name("under_score");
    fails(ErrorKind::InvalidArgument, "under_score", world.client.create(&spec));
}

fn end(world: &World) {
    let (client, sandbox) = (&world.client, world.sandbox());
    sandbox.delete().unwrap();
    fails(ErrorKind::NotFound, sandbox.name(), sandbox.info());
    fails(ErrorKind::Closed, "deleted", sandbox.execute("true"));
    fails(ErrorKind::NotFound, sandbox.name(), client.execute_command(sandbox.name(), "true"));
    await_that("nothing to be listed", || world.listed(&world.owner).is_empty());
}

/// Runs a scenario and says how it went.
fn passes((name, scenario): Scenario, world: &World) -> bool {
    static WHY: Mutex<String> = Mutex::new(String::new());
    panic::set_hook(Box::new(|info| *WHY.lock().unwrap() = info.to_string().replace('\n', " ")));
    let has_passed = panic::catch_unwind(AssertUnwindSafe(|| scenario(world))).is_ok();
    match has_passed {
        true => println!("ok {name}"),
        false => println!("failed {name}: {}", WHY.lock().unwrap()),
    }
    has_passed
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next() else { return ExitCode::from(2) };
    let asked = arguments.collect::<Vec<_>>();
    let owner = format!("conformance-rust-{}", std::process::id());
    let client = Client::new(config(&owner)).unwrap();
    let world = World { directory: directory.into(), owner, client, sandbox: OnceLock::new() };
    let is_asked_for = |name: &str| asked.is_empty() || name == "life" || asked.iter().any(|one| one == name);
    let chosen = SCENARIOS.into_iter().filter(|(name, _)| is_asked_for(name));
    let failures = chosen.filter(|scenario| !passes(*scenario, &world)).count();
    // What a failed scenario, or a choice of them, has left.
    for name in world.listed(&world.owner) {
        let _ = world.client.delete_sandbox(&name);
    }
    ExitCode::from(u8::from(failures > 0))
}
