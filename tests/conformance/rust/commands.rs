//! The scenarios of commands.

use super::*;

pub(crate) fn run(world: &World) {
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

pub(crate) fn streams(world: &World) {
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

pub(crate) fn exit_status(world: &World) {
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

pub(crate) fn timeout(world: &World) {
    let began = Instant::now();
    let command = world.sandbox().shell("echo so far; sleep 60").timeout(millis(4000));
    let error = fails(ErrorKind::TimedOut, "", command.output());
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert_eq!(error.partial_output().unwrap().stdout, b"so far\n");
    assert!(!world.runs("slee[p] 60"));
}

pub(crate) fn cancel(world: &World) {
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

pub(crate) fn terminal(world: &World) {
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

pub(crate) fn detached(world: &World) {
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

pub(crate) fn bytes(world: &World) {
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

pub(crate) fn large(world: &World) {
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

pub(crate) fn threads(world: &World) {
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

pub(crate) fn fork(world: &World) {
    let mut child = world.sandbox().command("cat").spawn().unwrap();
    let mut find = std::process::Command::new("find");
    find.args(["/proc/self/fd", "-lname", "socket:*"]).stdin(std::process::Stdio::null());
    let inherited = find.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&inherited.stdout), "");
    assert!(inherited.status.success() && child.wait().unwrap().success());
    world.still_works();
}

pub(crate) fn callback(world: &World) {
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
