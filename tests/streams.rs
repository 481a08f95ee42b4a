//! Where the streams of a command come from and go to: every kind of input, output that is merged, discarded or
//! limited.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use common::{Scratch, client, create, noise, over_every_transport};
use sandbox::{ErrorKind, Stdin};

#[test]
fn input_comes_from_bytes_files_pipes_and_readers() {
    over_every_transport(|_, sandbox| {
        let (bytes, scratch) = (noise(5 << 20), Scratch::new());
        std::fs::write(scratch.path("file"), &bytes).unwrap();
        let mut file = File::open(scratch.path("file")).unwrap();
        file.seek(SeekFrom::Start(1000)).unwrap();
        assert!(sandbox.command("cat").stdin(file).output().unwrap().stdout == bytes[1000..]);
        let reader = io::Cursor::new(bytes.clone()).chain(&b"end"[..]);
        let output = sandbox.command("cat").stdin(Stdin::reader(reader)).output().unwrap();
        assert!(output.stdout == [&bytes[..], b"end"].concat());
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        std::thread::scope(|scope| {
            let cat = scope.spawn(|| sandbox.command("cat").stdin(OwnedFd::from(theirs)).output());
            ours.write_all(&bytes).unwrap();
            drop(ours);
            assert!(cat.join().unwrap().unwrap().stdout == bytes);
        });
        // It comes before what is written to a child.
        let mut child = sandbox.command("cat").stdin(Stdin::reader(&b"first "[..])).spawn().unwrap();
        child.stdin.as_mut().unwrap().write_all(b"second").unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, b"first second");
        assert_eq!(sandbox.command("cat").stdin(Stdin::reader(io::empty())).output().unwrap().stdout, b"");
    });
}

#[test]
fn a_reader_is_used_up_by_one_run_and_bytes_are_not() {
    let client = client();
    let sandbox = create(&client);
    let once = sandbox.command("cat").stdin(Stdin::reader(&b"text"[..]));
    assert_eq!(once.output().unwrap().stdout, b"text");
    let error = once.output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(error.to_string().contains("used up"), "{error}");
    let always = sandbox.command("cat").stdin("text");
    assert_eq!(always.output().unwrap(), always.output().unwrap());
    // What failed before the command was requested has read nothing.
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    ours.write_all(b"kept").unwrap();
    drop(ours);
    let later = sandbox.command("cat").stdin(OwnedFd::from(theirs));
    assert_eq!(later.clone().arg("a\0b").output().unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(later.output().unwrap().stdout, b"kept");
}

#[test]
fn a_reader_that_blocks_delays_nobody() {
    over_every_transport(|_, sandbox| {
        // Their other ends stay open and say nothing.
        let (_quiet, theirs) = UnixStream::pair().unwrap();
        let (_silent, reader) = UnixStream::pair().unwrap();
        for input in [Stdin::from(OwnedFd::from(theirs)), Stdin::reader(reader)] {
            let began = Instant::now();
            let output = sandbox.shell("head -c 0; echo over").stdin(input.clone()).output().unwrap();
            assert_eq!(output.stdout, b"over\n");
            assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        }
        let (_mute, reader) = UnixStream::pair().unwrap();
        let waiting = sandbox.command("cat").stdin(Stdin::reader(reader)).timeout(Duration::from_millis(300));
        assert_eq!(waiting.output().unwrap_err().kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_reader_that_fails_stops_the_command() {
    struct Broken(u32);
    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            if self.0 > 3 {
                return Err(io::Error::other("the disk is on fire"));
            }
            buffer[0] = b'x';
            Ok(1)
        }
    }
    let client = client();
    let sandbox = create(&client);
    let command = sandbox.shell("cat; touch ended-well").stdin(Stdin::reader(Broken(0)));
    let error = command.output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert!(error.to_string().contains("the disk is on fire"), "{error}");
    assert!(error.to_string().contains("all its processes were killed"), "{error}");
    assert!(!sandbox.command("ls").arg("ended-well").status().unwrap().success());
}

#[test]
fn a_gigabyte_of_input_needs_little_memory() {
    const SIZE: u64 = 1 << 30;
    let client = client();
    let sandbox = create(&client);
    let resident = || -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    };
    sandbox.execute("true").unwrap();
    let before = resident();
    let input = Stdin::reader(io::repeat(0).take(SIZE));
    let output = sandbox.command("wc").arg("-c").stdin(input).timeout(Duration::from_secs(300)).output().unwrap();
    assert_eq!(output.stdout_text().trim(), SIZE.to_string());
    // Other tests of this program run meanwhile.
    assert!(resident() < before + (SIZE >> 2), "{} bytes more", resident() - before);
}

#[test]
fn the_standard_error_joins_the_output_in_its_order() {
    over_every_transport(|_, sandbox| {
        let line = "for n in 1 2 3; do echo out $n; echo err $n >&2; done";
        let output = sandbox.shell(line).merge_stderr().output().unwrap();
        assert_eq!(output.stdout_text(), "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n");
        assert_eq!(output.stderr, b"");
        let program = sandbox.command("sh").args(["-c", line]).merge_stderr().output().unwrap();
        assert_eq!(program.stdout, output.stdout);
        let error = sandbox.command("no-such-program").merge_stderr().output().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Command, "{error}");
    });
}

#[test]
fn what_is_discarded_does_not_travel() {
    let client = client();
    let sandbox = create(&client);
    let both = sandbox.shell("echo out; echo err >&2; exit 4");
    let streams = |command: &sandbox::Command| {
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(4));
        (output.stdout_text().into_owned(), output.stderr_text().into_owned(), output.truncated)
    };
    assert_eq!(streams(&both.clone().discard_stdout()), (String::new(), "err\n".into(), 0));
    assert_eq!(streams(&both.clone().discard_stderr()), ("out\n".into(), String::new(), 0));
    assert_eq!(streams(&both.clone().discard_stdout().merge_stderr()), (String::new(), String::new(), 0));
    assert_eq!(both.status().unwrap().code(), Some(4));
    let line =
        "places=$(readlink /proc/$$/fd/1 /proc/$$/fd/2); echo \"$places\" > places; head -c 1000000000 /dev/zero";
    assert!(sandbox.shell(line).timeout(Duration::from_secs(300)).status().unwrap().success());
    assert_eq!(sandbox.files().read("places").unwrap(), b"/dev/null\n/dev/null\n");
    let error = sandbox.command("no-such-program").discard_stderr().discard_stdout().output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Command, "{error}");
}

#[test]
fn output_without_end_fills_no_memory_and_is_counted() {
    let client = client();
    let sandbox = create(&client);
    sandbox.execute("true").unwrap();
    let endless = sandbox.command("yes").output_limit(1 << 20).timeout(Duration::from_secs(5));
    let error = endless.output().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert_eq!(error.partial_output().unwrap().stdout.len(), 1 << 20);
    let limited = sandbox.shell("head -c 30000000 /dev/zero; head -c 5 /dev/zero >&2").output_limit(1000);
    let output = limited.output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len(), output.truncated), (1000, 5, 29_999_000));
    let output = limited.spawn().unwrap().wait_with_output().unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len(), output.truncated), (1000, 5, 29_999_000));
    assert_eq!(sandbox.execute("pgrep -c yes").unwrap().stdout, b"0\n");
}
