//! The server against raw requests.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::event::{PollFd, poll};
use rustix::fs::mkfifoat;
use sandbox_protocol::SFTP_ERRNO_BASE;
use sandbox_protocol::sftp::{NOW, OMIT, STAT, Stat, TIMES, Target, Time, Times};

use super::*;
use crate::mutation::Mutator;

/// A directory of a test's own, removed at its end.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let place = std::env::temp_dir().join(format!("sandbox-sftp-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        Self(fs::canonicalize(place).unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A client that makes one request after the other.
struct Client {
    server: Sftp,
    next: u32,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Status(u32),
    Handle(Vec<u8>),
    Data(Vec<u8>),
    Names(Vec<Name>),
    /// Size, user, group, mode, times.
    Attributes(u64, u32, u32, u32, u32, u32),
    Extended(Vec<u8>),
}

/// Name, what `ls` would say, size and mode if they are told.
type Name = (Vec<u8>, String, Option<(u64, u32)>);

struct Request(Vec<u8>);

impl Request {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn u32(mut self, number: u32) -> Self {
        put_u32(&mut self.0, number);
        self
    }

    fn u64(mut self, number: u64) -> Self {
        wire::put_u64(&mut self.0, number);
        self
    }

    fn text(mut self, bytes: impl AsRef<[u8]>) -> Self {
        put_string(&mut self.0, bytes.as_ref());
        self
    }

    /// Attributes of which only the mode is given.
    fn mode(self, mode: u32) -> Self {
        self.u32(4).u32(mode)
    }

    fn none(self) -> Self {
        self.u32(0)
    }
}

fn framed(kind: u8, id: u32, contents: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet(&mut bytes, kind, id, |to| {
        to.extend_from_slice(contents);
        Ok::<_, ()>(())
    })
    .unwrap();
    bytes
}

/// Takes the first answer off; its id and what it says.
fn take_answer(output: &mut Vec<u8>) -> (u32, Told) {
    let length = u32::from_be_bytes(*output.first_chunk().unwrap()) as usize;
    let bytes: Vec<u8> = output.drain(..4 + length).skip(4).collect();
    let (kind, mut answer) = (bytes[0], Reader(&bytes[1..]));
    let id = answer.u32().unwrap();
    let attributes = |answer: &mut Reader<'_>| match answer.u32().unwrap() {
        0 => None,
        0xf => {
            let size = answer.u64().unwrap();
            let mut next = || answer.u32().unwrap();
            Some((size, next(), next(), next(), next(), next()))
        }
        flags => panic!("attributes {flags}"),
    };
    let told = match kind {
        kind::STATUS => {
            let code = answer.u32().unwrap();
            assert!(!answer.string().unwrap().is_empty() && answer.string().unwrap() == b"en");
            Told::Status(code)
        }
        kind::HANDLE => Told::Handle(answer.string().unwrap().to_vec()),
        kind::DATA => Told::Data(answer.string().unwrap().to_vec()),
        kind::NAME => {
            let names = (0..answer.u32().unwrap()).map(|_| {
                let (name, line) = (answer.string().unwrap().to_vec(), answer.string().unwrap());
                let line = String::from_utf8_lossy(line).into_owned();
                (name, line, attributes(&mut answer).map(|(size, _, _, mode, _, _)| (size, mode)))
            });
            Told::Names(names.collect())
        }
        kind::ATTRS => {
            let (size, user, group, mode, accessed, modified) = attributes(&mut answer).unwrap();
            Told::Attributes(size, user, group, mode, accessed, modified)
        }
        kind::EXTENDED_REPLY => {
            let contents = answer.0.to_vec();
            answer.0 = &[];
            Told::Extended(contents)
        }
        kind => panic!("an answer of type {kind}"),
    };
    assert!(answer.0.is_empty(), "{told:?}");
    (id, told)
}

impl Client {
    fn new(place: &Place) -> Self {
        Self::with(Options { directory: place.0.clone(), ..Options::default() })
    }

    fn detailed(place: &Place) -> Self {
        Self::with(Options { directory: place.0.clone(), detailed_status: true, ..Options::default() })
    }

    fn with(options: Options) -> Self {
        let mut client = Self { server: Sftp::new(options), next: 7 };
        let mut output = Vec::new();
        let taken = client.server.handle(&[0, 0, 0, 5, kind::INIT, 0, 0, 0, 3], &mut output).unwrap();
        assert_eq!((taken, &output[4..9]), (9, &[kind::VERSION, 0, 0, 0, 3][..]));
        client
    }

    fn ask(&mut self, kind: u8, request: Request) -> Told {
        let id = self.next;
        self.next += 1;
        let (bytes, mut output, mut taken) = (framed(kind, id, &request.0), Vec::new(), 0);
        loop {
            taken += self.server.handle(&bytes[taken..], &mut output).unwrap();
            if !output.is_empty() {
                break;
            }
            match self.server.wait() {
                Wait::Input => assert!(taken < bytes.len(), "no answer"),
                Wait::Now => {}
                Wait::Descriptor { descriptor, events, until } => {
                    let left = until.map(|until| until.saturating_duration_since(Instant::now()).try_into().unwrap());
                    poll(&mut [PollFd::from_borrowed_fd(descriptor, events)], left.as_ref()).unwrap();
                }
            }
        }
        let (answered, told) = take_answer(&mut output);
        assert!(output.is_empty() && taken == bytes.len() && answered == id);
        told
    }

    fn extended(&mut self, name: &str, request: impl FnOnce(Request) -> Request) -> Told {
        self.ask(kind::EXTENDED, request(Request::new().text(name)))
    }

    fn path(&mut self, kind: u8, path: &str) -> Told {
        self.ask(kind, Request::new().text(path))
    }

    fn open(&mut self, path: &str, flags: u32) -> Told {
        self.ask(kind::OPEN, Request::new().text(path).u32(flags).none())
    }

    fn handle(&mut self, path: &str, flags: u32) -> Vec<u8> {
        match self.open(path, flags) {
            Told::Handle(handle) => handle,
            told => panic!("'{path}': {told:?}"),
        }
    }

    fn read(&mut self, handle: &[u8], offset: u64, length: u32) -> Told {
        self.ask(kind::READ, Request::new().text(handle).u64(offset).u32(length))
    }

    fn write(&mut self, handle: &[u8], offset: u64, data: &[u8]) -> Told {
        self.ask(kind::WRITE, Request::new().text(handle).u64(offset).text(data))
    }

    fn close(&mut self, handle: &[u8]) -> Told {
        self.ask(kind::CLOSE, Request::new().text(handle))
    }
}

const OK: Told = Told::Status(0);
const END: Told = Told::Status(1);
const WRITE_NEW: u32 = flag::WRITE | flag::CREATE | flag::TRUNCATE;

fn errno(errno: Errno) -> Told {
    Told::Status(SFTP_ERRNO_BASE + errno.raw_os_error().unsigned_abs())
}

#[test]
fn the_greeting_names_all_extensions() {
    let mut server = Sftp::new(Options::default());
    let mut output = Vec::new();
    server.handle(&[0, 0, 0, 5, 1, 0, 0, 0, 6], &mut output).unwrap();
    let mut reader = Reader(&output[9..]);
    let mut names = Vec::new();
    while !reader.0.is_empty() {
        names.push((reader.string().unwrap(), reader.string().unwrap()));
    }
    assert_eq!(names.len(), 12);
    assert!(names.contains(&(b"posix-rename@openssh.com", b"1")) && names.contains(&(b"statvfs@openssh.com", b"2")));
    for broken in [&[0, 0, 0, 5, kind::STAT, 0, 0, 0, 1][..], &[0, 0, 0, 4, 1, 0, 0, 0], &[0, 4, 4, 1], &[255; 4]] {
        assert!(Sftp::new(Options::default()).handle(broken, &mut Vec::new()).is_err(), "{broken:?}");
    }
}

#[test]
fn files_are_written_and_read_as_openssh_does_it() {
    let place = Place::new("files");
    let mut client = Client::new(&place);
    let handle = client.handle("a", WRITE_NEW | flag::READ);
    assert_eq!(client.write(&handle, 0, b"hello world"), OK);
    assert_eq!(client.write(&handle, 6, b"there"), OK);
    assert_eq!(client.read(&handle, 6, 100), Told::Data(b"there".to_vec()));
    assert_eq!(client.read(&handle, 0, 5), Told::Data(b"hello".to_vec()));
    assert_eq!(client.read(&handle, 0, 0), Told::Data(Vec::new()));
    assert_eq!((client.read(&handle, 11, 1), client.read(&handle, 1 << 40, 1)), (END, END));
    assert_eq!(
        (client.read(&handle, u64::MAX, 1), client.write(&handle, u64::MAX, b"x")),
        (Told::Status(5), Told::Status(5))
    );
    assert_eq!(client.close(&handle), OK);
    assert_eq!((client.close(&handle), client.read(&handle, 0, 1)), (Told::Status(2), Told::Status(4)));
    assert_eq!(fs::read(place.at("a")).unwrap(), b"hello there");

    // Appending ignores offsets, truncating empties, exclusive creation fails, and what is open for one thing is not
    // for another.
    let handle = client.handle("a", flag::WRITE | flag::APPEND);
    assert_eq!((client.write(&handle, 0, b"!"), client.read(&handle, 0, 1)), (OK, Told::Status(2)));
    client.close(&handle);
    assert_eq!(fs::read(place.at("a")).unwrap(), b"hello there!");
    assert_eq!(client.open("a", flag::WRITE | flag::CREATE | flag::EXCLUSIVE), Told::Status(4));
    assert_eq!(
        (client.open("nowhere", flag::READ), client.open("a/b", flag::READ)),
        (Told::Status(2), Told::Status(2))
    );
    let handle = client.handle("a", flag::READ);
    assert_eq!(client.write(&handle, 0, b"x"), Told::Status(2));
    client.handle("a", WRITE_NEW);
    assert_eq!(client.read(&handle, 0, 10), END);

    // The mode of a new file.
    let request = Request::new().text("m").u32(WRITE_NEW).mode(0o600);
    assert!(matches!(client.ask(kind::OPEN, request), Told::Handle(_)));
    assert_eq!(fs::metadata(place.at("m")).unwrap().mode() & 0o7777, 0o600);

    // A directory can be opened and looked at, but not read.
    let handle = client.handle(".", flag::READ);
    assert_eq!(client.read(&handle, 0, 1), Told::Status(4));
    assert!(matches!(client.ask(kind::FSTAT, Request::new().text(&handle)), Told::Attributes(..)));
    assert_eq!(client.extended("fsync@openssh.com", |r| r.text(&handle)), OK);
    assert_eq!(client.open(".", flag::WRITE), Told::Status(4));
}

#[test]
fn large_requests_are_taken_in_parts_and_answers_stay_below_the_limit() {
    let place = Place::new("large");
    let mut client = Client::new(&place);
    let handle = client.handle("a", WRITE_NEW | flag::READ);
    let data: Vec<u8> = (0..256 << 10).map(|at: u32| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    let mut output = Vec::new();
    let mut bytes = Vec::new();
    for piece in 0..8 {
        let request = Request::new().text(&handle).u64(piece * data.len() as u64).text(&data);
        bytes.extend(framed(kind::WRITE, 1, &request.0));
    }
    for part in bytes.chunks(32_749) {
        assert_eq!(client.server.handle(part, &mut output).unwrap(), part.len());
    }
    for _ in 0..8 {
        assert_eq!(take_answer(&mut output), (1, OK));
    }
    assert!(output.is_empty());
    assert_eq!(fs::read(place.at("a")).unwrap(), data.repeat(8));

    // A thousand reads at once: a few answers at a time.
    let mut input = Vec::new();
    for number in 0..1000 {
        let request = Request::new().text(&handle).u64((number % 8) << 18).u32(1 << 20);
        input.extend(framed(kind::READ, number as u32, &request.0));
    }
    let (mut taken, mut answered) = (0, 0);
    while answered < 1000 {
        taken += client.server.handle(&input[taken..], &mut output).unwrap();
        assert!(output.len() <= client.server.options.output_limit + LONGEST_DATA + 13, "{}", output.len());
        while !output.is_empty() {
            let (id, told) = take_answer(&mut output);
            assert_eq!((id, told), (answered, Told::Data(data[..LONGEST_DATA].to_vec())));
            answered += 1;
        }
    }
    assert_eq!(taken, input.len());

    // Byte by byte.
    let request = framed(kind::STAT, 9, &Request::new().text("a").0);
    for byte in &request {
        assert!(output.is_empty());
        assert_eq!(client.server.handle(&[*byte], &mut output).unwrap(), 1);
    }
    assert!(matches!(take_answer(&mut output), (9, Told::Attributes(2_097_152, ..))));
    client.server.release_memory();
    assert_eq!(client.server.partial.capacity(), 0);
    // Its length says that it is too long: nobody waits for it.
    assert!(client.server.handle(&[0, 4, 4, 1, 1], &mut output).is_err());
}

#[test]
fn attributes_are_told_and_set_in_openssh_s_order() {
    let place = Place::new("attributes");
    let mut client = Client::new(&place);
    fs::write(place.at("a"), "12345").unwrap();
    symlink("a", place.at("l")).unwrap();
    let all = |request: Request| {
        request.u32(0xf).u64(3).u32(u32::MAX).u32(u32::MAX).u32(0o100_751).u32(1_000_000_000).u32(4_000_000_000)
    };
    assert_eq!(client.ask(kind::SETSTAT, all(Request::new().text("l"))), OK);
    let found = fs::metadata(place.at("a")).unwrap();
    let expected = Told::Attributes(3, found.uid(), found.gid(), 0o100_751, 1_000_000_000, 4_000_000_000);
    assert_eq!(client.path(kind::STAT, "l"), expected);
    assert_eq!(fs::read(place.at("a")).unwrap(), b"123");
    assert!(matches!(client.path(kind::LSTAT, "l"), Told::Attributes(1, _, _, 0o120_777, ..)));

    // The size can't be set, all the rest is.
    fs::create_dir(place.at("d")).unwrap();
    assert_eq!(client.ask(kind::SETSTAT, all(Request::new().text("d"))), Told::Status(4));
    assert!(matches!(client.path(kind::STAT, "d"), Told::Attributes(_, _, _, 0o40_751, 1_000_000_000, 4_000_000_000)));

    let handle = client.handle("a", flag::WRITE);
    assert_eq!(client.ask(kind::FSETSTAT, Request::new().text(&handle).u32(5).u64(7).u32(0o640)), OK);
    assert!(matches!(client.ask(kind::FSTAT, Request::new().text(&handle)), Told::Attributes(7, _, _, 0o100_640, ..)));
    let handle = client.handle("a", flag::READ);
    assert_eq!(client.ask(kind::FSETSTAT, Request::new().text(&handle).u32(1).u64(7)), Told::Status(5));

    // Of a link itself.
    let times = |request: Request| request.u32(8).u32(5).u32(6);
    assert_eq!(client.extended("lsetstat@openssh.com", |r| times(r.text("l"))), OK);
    assert!(matches!(client.path(kind::LSTAT, "l"), Told::Attributes(_, _, _, _, 5, 6)));
    assert!(matches!(client.path(kind::STAT, "l"), Told::Attributes(_, _, _, _, _, modified) if modified != 6));
    assert_eq!(client.extended("lsetstat@openssh.com", |r| r.text("l").mode(0o600)), Told::Status(8));
    assert_eq!(client.extended("lsetstat@openssh.com", |r| r.text("a").mode(0o600)), OK);
    assert_eq!(fs::metadata(place.at("a")).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(client.extended("lsetstat@openssh.com", |r| r.text("a").u32(1).u64(0)), Told::Status(5));
    assert_eq!(client.extended("lsetstat@openssh.com", |r| r.text("l").u32(2).u32(u32::MAX).u32(u32::MAX)), OK);
    assert_eq!(client.ask(kind::SETSTAT, Request::new().text("nowhere").mode(0)), Told::Status(2));
}

#[test]
fn names_are_changed_as_openssh_does_it() {
    let place = Place::new("names");
    let mut client = Client::new(&place);
    let two = |client: &mut Client, kind, a: &str, b: &str| client.ask(kind, Request::new().text(a).text(b));
    fs::write(place.at("a"), "a").unwrap();
    fs::write(place.at("b"), "b").unwrap();
    assert_eq!(client.ask(kind::MKDIR, Request::new().text("d").mode(0o750)), OK);
    assert_eq!(fs::metadata(place.at("d")).unwrap().mode() & 0o777, 0o750);
    assert_eq!(client.ask(kind::MKDIR, Request::new().text("d").none()), Told::Status(4));

    for (from, to, told) in
        [("a", "b", 4), ("d", "b", 4), ("a", "d", 4), ("a", "a", 4), ("x", "y", 2), ("a", "c", 0), ("d", "e", 0)]
    {
        assert_eq!(two(&mut client, kind::RENAME, from, to), Told::Status(told), "{from} to {to}");
    }
    assert!(place.at("c").is_file() && place.at("e").is_dir());
    assert_eq!(client.extended("posix-rename@openssh.com", |r| r.text("c").text("b")), OK);
    assert_eq!(fs::read(place.at("b")).unwrap(), b"a");
    assert_eq!(client.extended("hardlink@openssh.com", |r| r.text("b").text("h")), OK);
    assert_eq!(fs::metadata(place.at("h")).unwrap().ino(), fs::metadata(place.at("b")).unwrap().ino());
    assert_eq!(client.extended("hardlink@openssh.com", |r| r.text("b").text("h")), Told::Status(4));

    // What it leads to comes first.
    assert_eq!(two(&mut client, kind::SYMLINK, "../some where", "l"), OK);
    assert_eq!(fs::read_link(place.at("l")).unwrap(), Path::new("../some where"));
    let name = |name: &str| Told::Names(vec![(name.into(), name.into(), None)]);
    assert_eq!(client.path(kind::READLINK, "l"), name("../some where"));
    assert_eq!(
        (client.path(kind::READLINK, "b"), client.path(kind::READLINK, "x")),
        (Told::Status(5), Told::Status(2))
    );

    let here = place.0.to_str().unwrap();
    assert_eq!(client.path(kind::REALPATH, ""), name(here));
    assert_eq!(client.path(kind::REALPATH, "e/../missing"), name(&format!("{here}/missing")));
    assert_eq!(client.path(kind::REALPATH, "missing/x"), Told::Status(2));
    assert_eq!(client.path(kind::REMOVE, "e"), Told::Status(4));
    assert_eq!((client.path(kind::RMDIR, "b"), client.path(kind::RMDIR, ".")), (Told::Status(2), Told::Status(5)));
    assert_eq!(
        (client.path(kind::RMDIR, "e"), client.path(kind::REMOVE, "l"), client.path(kind::REMOVE, "l")),
        (OK, OK, Told::Status(2))
    );
    for path in ["a\0b", &"n".repeat(256), &"d/".repeat(2049)] {
        assert_eq!(client.path(kind::STAT, path), Told::Status(5));
    }
    // Any bytes but NUL.
    let path = b"\xff\n\x80";
    assert!(matches!(client.ask(kind::OPEN, Request::new().text(path).u32(WRITE_NEW).none()), Told::Handle(_)));
    assert!(place.0.join(std::ffi::OsStr::from_bytes(path)).exists());
}

#[test]
fn directories_are_listed_whole_in_bounded_answers() {
    let place = Place::new("list");
    let mut client = Client::new(&place);
    fs::create_dir(place.at("d")).unwrap();
    let long = "x".repeat(250);
    for number in 0..700 {
        fs::write(place.at(&format!("d/{number:04}{}", if number % 7 == 0 { &long } else { "" })), "12").unwrap();
    }
    fs::set_permissions(place.at("d/0001"), fs::Permissions::from_mode(0o4711)).unwrap();
    symlink("0001", place.at("d/link")).unwrap();
    let Told::Handle(handle) = client.path(kind::OPENDIR, "d") else { panic!() };
    let (mut all, mut answers) = (Vec::new(), 0);
    loop {
        match client.ask(kind::READDIR, Request::new().text(&handle)) {
            Told::Names(names) => {
                let length: usize = names.iter().map(|(name, line, _)| name.len() + line.len() + 40).sum();
                assert!(length <= LISTING, "{length}");
                answers += 1;
                all.extend(names);
            }
            told => break assert_eq!(told, END),
        }
    }
    assert_eq!(client.ask(kind::READDIR, Request::new().text(&handle)), END);
    assert_eq!(all.len(), 703);
    assert!(answers < 15, "{answers}");
    all.sort();
    assert_eq!((&all[0].0[..], &all[1].0[..]), (&b"."[..], &b".."[..]));
    let (name, line, told) = &all[3];
    assert_eq!((&name[..], *told), (&b"0001"[..], Some((2, 0o104_711))));
    assert!(line.starts_with("-rws--x--x    1 ") && line.ends_with(" 0001"), "{line}");
    assert_eq!(line.split_whitespace().count(), 9, "{line}");
    assert!(all[702].1.starts_with("lrwxrwxrwx    1 "), "{}", all[702].1);

    assert_eq!(client.ask(kind::READ, Request::new().text(&handle).u64(0).u32(1)), Told::Status(4));
    assert!(matches!(client.ask(kind::FSTAT, Request::new().text(&handle)), Told::Attributes(..)));
    assert_eq!(client.close(&handle), OK);
    assert_eq!(
        (client.path(kind::OPENDIR, "d/0001"), client.path(kind::OPENDIR, "x")),
        (Told::Status(2), Told::Status(2))
    );
    let file = client.handle("d/0001", flag::READ);
    assert_eq!(client.ask(kind::READDIR, Request::new().text(&file)), Told::Status(4));
}

#[test]
fn the_extensions_answer() {
    let place = Place::new("extensions");
    let options =
        Options { directory: place.0.clone(), home: "/home/me".into(), user: b"me".to_vec(), ..Options::default() };
    let mut client = Client::with(options);
    let Told::Extended(limits) = client.extended("limits@openssh.com", |r| r) else { panic!() };
    let mut limits = Reader(&limits);
    let limits = [limits.u64().unwrap(), limits.u64().unwrap(), limits.u64().unwrap(), limits.u64().unwrap()];
    assert_eq!(limits, [263_168, 258_048, 258_048, Options::default().max_handles as u64]);

    let handle = client.handle("a", WRITE_NEW);
    let Told::Extended(by_path) = client.extended("statvfs@openssh.com", |r| r.text("a")) else { panic!() };
    let Told::Extended(by_handle) = client.extended("fstatvfs@openssh.com", |r| r.text(&handle)) else { panic!() };
    assert_eq!((by_path.len(), &by_path[..16], by_handle.len()), (88, &by_handle[..16], 88));
    assert_eq!(u64::from_be_bytes(*by_path.last_chunk().unwrap()), 255);
    assert_eq!(client.extended("statvfs@openssh.com", |r| r.text("x")), Told::Status(2));
    assert_eq!(client.extended("fsync@openssh.com", |r| r.text(&handle)), OK);
    assert_eq!(client.extended("fsync@openssh.com", |r| r.text("nothing!")), Told::Status(2));

    let name = |name: &str| Told::Names(vec![(name.into(), name.into(), None)]);
    let here = place.0.to_str().unwrap();
    assert_eq!(client.extended("expand-path@openssh.com", |r| r.text("~root/x")), Told::Status(2));
    assert_eq!(client.extended("expand-path@openssh.com", |r| r.text("a")), name(&format!("{here}/a")));
    assert_eq!(client.extended("expand-path@openssh.com", |r| r.text("")), name(here));
    for (user, told) in [("", name("/home/me")), ("me", name("/home/me")), ("you", Told::Status(4))] {
        assert_eq!(client.extended("home-directory", |r| r.text(user)), told);
    }
    let mut client = Client::with(Options { directory: "/".into(), home: place.0.clone(), ..Options::default() });
    assert_eq!(client.extended("expand-path@openssh.com", |r| r.text("~/a")), name(&format!("{here}/a")));
    assert_eq!(client.extended("nobody@knows", |r| r), Told::Status(8));
    assert_eq!(client.ask(99, Request::new()), Told::Status(8));
}

#[test]
fn times_have_nanoseconds() {
    let place = Place::new("times");
    let mut client = Client::detailed(&place);
    fs::write(place.at("a"), "12345").unwrap();
    symlink("a", place.at("l")).unwrap();
    let set = |client: &mut Client, target, accessed, modified| {
        let mut contents = Vec::new();
        Times { target, accessed, modified }.encode(&mut contents);
        client.extended(TIMES, |mut request| {
            request.0.extend(contents);
            request
        })
    };
    let get = |client: &mut Client, target: Target<'_>| {
        let mut contents = Vec::new();
        target.encode(&mut contents);
        let told = client.extended(STAT, |mut request| {
            request.0.extend(contents);
            request
        });
        match told {
            Told::Extended(bytes) => Stat::decode(&bytes).unwrap(),
            told => panic!("{told:?}"),
        }
    };
    let time = |seconds, nanoseconds| Time { seconds, nanoseconds };
    let (early, late) = (time(-1000, 999_999_999), time(5_000_000_000, 123_456_789));
    assert_eq!(set(&mut client, Target::Path(b"l"), early, late), OK);
    let found = get(&mut client, Target::Path(b"l"));
    assert_eq!((found.accessed, found.modified, found.size, found.mode), (early, late, 5, 0o100_644));
    // What version 3 makes of them.
    assert!(matches!(client.path(kind::STAT, "a"), Told::Attributes(_, _, _, _, 0, u32::MAX)));

    assert_eq!(set(&mut client, Target::Link(b"l"), time(1, 2), time(3, 4)), OK);
    let link = get(&mut client, Target::Link(b"l"));
    assert_eq!((link.accessed, link.modified, link.mode), (time(1, 2), time(3, 4), 0o120_777));
    assert_eq!(get(&mut client, Target::Path(b"a")).modified, late);

    let handle = client.handle("a", flag::READ);
    assert_eq!(set(&mut client, Target::Handle(&handle), time(0, OMIT), time(7, 8)), OK);
    let found = get(&mut client, Target::Handle(&handle));
    assert_eq!((found.accessed, found.modified, found.links), (early, time(7, 8), 1));
    assert_eq!(set(&mut client, Target::Path(b"a"), time(0, NOW), time(0, OMIT)), OK);
    let now = get(&mut client, Target::Path(b"a"));
    assert!(now.accessed.seconds > 1_000_000_000 && now.modified == time(7, 8));
    assert_eq!(set(&mut client, Target::Path(b"a"), time(0, 1_000_000_000), late), errno(Errno::INVAL));
    assert_eq!(set(&mut client, Target::Path(b"x"), late, late), errno(Errno::NOENT));
    assert_eq!(set(&mut client, Target::Handle(b"x"), late, late), errno(Errno::BADF));
    assert_eq!(client.extended(TIMES, |r| r), Told::Status(5));
}

#[test]
fn a_client_of_ours_is_told_the_error_number() {
    let place = Place::new("errno");
    let mut client = Client::detailed(&place);
    fs::create_dir_all(place.at("d/e")).unwrap();
    fs::write(place.at("f"), "").unwrap();
    symlink("loop", place.at("loop")).unwrap();
    let new = flag::WRITE | flag::CREATE | flag::EXCLUSIVE;
    for (path, flags, expected) in [
        ("x", flag::READ, Errno::NOENT),
        ("f/x", flag::READ, Errno::NOTDIR),
        ("d", flag::WRITE, Errno::ISDIR),
        ("f", new, Errno::EXIST),
        ("loop", flag::READ, Errno::LOOP),
        (&"n".repeat(256), flag::READ, Errno::NAMETOOLONG),
        ("/proc/version", flag::WRITE, Errno::ACCESS),
        ("/proc/self/x", new, Errno::NOENT),
        ("a\0b", flag::READ, Errno::INVAL),
    ] {
        let told = client.open(path, flags);
        // Root may do more.
        let is_root = path == "/proc/version" && told != errno(expected);
        assert!(told == errno(expected) || is_root, "{path}: {told:?}");
    }
    assert_eq!(client.path(kind::RMDIR, "d"), errno(Errno::NOTEMPTY));
    assert_eq!(
        (client.path(kind::RMDIR, "f"), client.path(kind::REMOVE, "d")),
        (errno(Errno::NOTDIR), errno(Errno::ISDIR))
    );
    assert_eq!(client.ask(kind::MKDIR, Request::new().text("f").none()), errno(Errno::EXIST));
    assert_eq!(client.ask(kind::RENAME, Request::new().text("f").text("d")), errno(Errno::EXIST));
    assert_eq!(client.extended("posix-rename@openssh.com", |r| r.text("f").text("d")), errno(Errno::ISDIR));
    assert_eq!(client.path(kind::READLINK, "f"), errno(Errno::INVAL));
    assert_eq!(client.close(b"12345678"), errno(Errno::BADF));
    let full = client.handle("/dev/full", flag::WRITE);
    assert_eq!(client.write(&full, 0, b"x"), errno(Errno::NOSPC));
    // What is no error of the system keeps its number.
    let empty = client.handle("f", flag::READ);
    assert_eq!(client.read(&empty, 0, 1), END);
    assert_eq!(
        (client.ask(99, Request::new()), client.ask(kind::OPEN, Request::new())),
        (Told::Status(8), Told::Status(5))
    );
}

#[test]
fn special_files_block_nobody() {
    let place = Place::new("special");
    let wait_timeout = Duration::from_millis(200);
    let options = Options { directory: place.0.clone(), detailed_status: true, wait_timeout, ..Options::default() };
    let mut client = Client::with(options.clone());
    let zero = client.handle("/dev/zero", flag::READ);
    assert_eq!(client.read(&zero, 1 << 40, 1000), Told::Data(vec![0; 1000]));
    let null = client.handle("/dev/null", flag::READ | flag::WRITE);
    assert_eq!((client.write(&null, 1 << 40, &[1; 100_000]), client.read(&null, 0, 1)), (OK, END));
    let version = client.handle("/proc/version", flag::READ);
    assert!(matches!(client.read(&version, 0, 1 << 15), Told::Data(text) if text.starts_with(b"Linux")));

    let _listener = std::os::unix::net::UnixListener::bind(place.at("socket")).unwrap();
    assert_eq!(client.open("socket", flag::READ | flag::WRITE), errno(Errno::OPNOTSUPP));
    assert_eq!(Client::new(&place).open("socket", flag::READ), Told::Status(8));

    mkfifoat(rustix::fs::CWD, place.at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    assert!(fs::metadata(place.at("fifo")).unwrap().file_type().is_fifo());
    // Nobody reads: no; nobody writes: the end.
    assert_eq!(client.open("fifo", flag::WRITE), errno(Errno::NXIO));
    let reading = client.handle("fifo", flag::READ);
    assert_eq!(client.read(&reading, 0, 10), END);
    let writing = client.handle("fifo", flag::WRITE);
    // Nothing is there yet, and nothing comes.
    let begun = Instant::now();
    assert_eq!(client.read(&reading, 0, 10), errno(Errno::AGAIN));
    assert!(begun.elapsed() >= wait_timeout);
    assert_eq!((client.write(&writing, 0, b"abc"), client.read(&reading, 0, 10)), (OK, Told::Data(b"abc".to_vec())));
    // More than a pipe can hold, and nobody reads it.
    assert_eq!(client.write(&writing, 0, &[1; 200_000]), errno(Errno::AGAIN));

    // With a reader that takes its time, all of it arrives.
    let mut other = Client::with(options);
    let data: Vec<u8> = (0..200_000u32).map(|at| (at % 251) as u8).collect();
    drop(client);
    let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(place.at("fifo")).unwrap();
    let writing = other.handle("fifo", flag::WRITE | SFTP_OPEN_DIGEST);
    let expected = data.clone();
    let reading = thread::spawn(move || {
        let mut read = Vec::new();
        while read.len() < expected.len() {
            let mut buffer = [0; 4096];
            match rustix::io::read(&reader, &mut buffer) {
                Ok(length) => read.extend_from_slice(&buffer[..length]),
                Err(errno) => {
                    assert_eq!(errno, Errno::AGAIN);
                    poll(&mut [PollFd::new(&reader, PollFlags::IN)], None).unwrap();
                }
            }
        }
        assert!(read == expected);
    });
    assert_eq!(other.write(&writing, 0, &data), OK);
    reading.join().unwrap();
    assert_eq!(other.close(&writing), OK);
    let digests = other.server.take_digests();
    assert_eq!((digests[0].length, digests[0].sha256), (200_000, Some(sha256(&data))));
}

#[test]
fn others_are_served_while_a_pipe_is_waited_for() {
    let place = Place::new("wait");
    let mut client = Client::new(&place);
    mkfifoat(rustix::fs::CWD, place.at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    let (reading, writing) = (client.handle("fifo", flag::READ), client.handle("fifo", flag::WRITE));
    let read = framed(kind::READ, 1, &Request::new().text(&reading).u64(0).u32(5).0);
    let stat = framed(kind::STAT, 2, &Request::new().text("fifo").0);
    let (mut output, both) = (Vec::new(), [read.clone(), stat].concat());
    // The second request is not taken, and the call returns at once.
    assert_eq!(client.server.handle(&both, &mut output).unwrap(), read.len());
    assert!(output.is_empty());
    let Wait::Descriptor { events: PollFlags::IN, until: Some(until), .. } = client.server.wait() else { panic!() };
    assert!(until > Instant::now());
    assert_eq!(client.server.handle(&both[read.len()..], &mut output).unwrap(), 0);
    let Open::File(file) = client.server.handles.get(&writing).unwrap() else { panic!() };
    rustix::io::write(&file.descriptor, b"12345").unwrap();
    assert_eq!(client.server.handle(&both[read.len()..], &mut output).unwrap(), both.len() - read.len());
    assert_eq!(take_answer(&mut output), (1, Told::Data(b"12345".to_vec())));
    assert!(matches!(take_answer(&mut output), (2, Told::Attributes(..))));
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    ring::digest::digest(&ring::digest::SHA256, bytes).as_ref().try_into().unwrap()
}

#[test]
fn what_passes_in_sequence_is_summed_up() {
    let place = Place::new("digest");
    let mut client = Client::new(&place);
    let write = WRITE_NEW | SFTP_OPEN_DIGEST;
    let open: Vec<_> = ["a", "b", "c", "d"].iter().map(|name| client.handle(name, write)).collect();
    for (handle, offset, data) in [
        (&open[0], 0, &b"abc"[..]),
        (&open[0], 3, b"def"),
        // Not in sequence.
        (&open[1], 0, b"abc"),
        (&open[1], 4, b"def"),
        // Resumed.
        (&open[2], 100, b"abc"),
        (&open[2], 103, b"def"),
    ] {
        assert_eq!(client.write(handle, offset, data), OK);
    }
    let without = client.handle("e", WRITE_NEW);
    for handle in open.iter().rev().chain([&without]) {
        client.close(handle);
    }
    let digest = |path: &str, offset, length, sha256| Digest { path: path.into(), offset, length, sha256 };
    let sum = Some(sha256(b"abcdef"));
    let expected = [
        digest("d", 0, 0, Some(sha256(b""))),
        digest("c", 100, 6, sum),
        digest("b", 0, 3, None),
        digest("a", 0, 6, sum),
    ];
    assert_eq!(client.server.take_digests(), expected);
    assert_eq!(client.server.take_digests(), []);

    let handle = client.handle("a", flag::READ | SFTP_OPEN_DIGEST);
    assert_eq!(client.read(&handle, 0, 4), Told::Data(b"abcd".to_vec()));
    assert_eq!(client.read(&handle, 4, 4), Told::Data(b"ef".to_vec()));
    assert_eq!(client.read(&handle, 6, 4), END);
    client.close(&handle);
    let handle = client.handle("a", flag::WRITE | flag::APPEND | SFTP_OPEN_DIGEST);
    assert_eq!((client.write(&handle, 6, b"g"), client.write(&handle, 6, b"h")), (OK, OK));
    client.close(&handle);
    let handle = client.handle("/dev/full", flag::WRITE | SFTP_OPEN_DIGEST);
    assert_eq!((client.write(&handle, 0, b"g"), client.close(&handle)), (Told::Status(4), OK));
    let expected = [digest("a", 0, 6, sum), digest("a", 6, 2, Some(sha256(b"gh"))), digest("/dev/full", 0, 0, None)];
    let digests = client.server.take_digests();
    assert_eq!((&digests[0], digests[1].sha256, &digests[2]), (&expected[0], expected[1].sha256, &expected[2]));
    // Nobody takes them: the last ones stay.
    for number in 0..MOST_DIGESTS + 10 {
        let handle = client.handle(&format!("n{number}"), write);
        client.close(&handle);
    }
    let digests = client.server.take_digests();
    assert_eq!((digests.len(), &digests[0].path[..]), (MOST_DIGESTS, &b"n10"[..]));
}

#[test]
fn copies_are_made_in_steps_and_keep_holes() {
    let place = Place::new("copy");
    let mut client = Client::new(&place);
    let data: Vec<u8> = (0..10 << 20).map(|at: u32| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect();
    fs::write(place.at("a"), &data).unwrap();
    let (source, target) = (client.handle("a", flag::READ), client.handle("b", WRITE_NEW));
    let copy = |client: &mut Client, source: &[u8], from, length, target: &[u8], to| {
        client.extended("copy-data", |r| r.text(source).u64(from).u64(length).text(target).u64(to))
    };
    assert_eq!(copy(&mut client, &source, 0, 0, &target, 0), OK);
    assert!(fs::read(place.at("b")).unwrap() == data);
    assert_eq!(copy(&mut client, &source, 5, 7, &target, 1), OK);
    let copied = fs::read(place.at("b")).unwrap();
    assert!(copied[1..8] == data[5..12] && copied[8..] == data[8..] && copied[0] == data[0]);
    // More than there is.
    assert_eq!(copy(&mut client, &source, data.len() as u64 - 3, 7, &target, 0), END);
    assert_eq!(copy(&mut client, &source, 0, 0, &source, 0), Told::Status(4));
    let again = client.handle("./a", flag::WRITE);
    assert_eq!(copy(&mut client, &source, 0, 1, &again, 0), Told::Status(4));
    assert_eq!(copy(&mut client, b"x", 0, 1, &again, 0), Told::Status(2));
    assert_eq!(copy(&mut client, &source, u64::MAX, 1, &target, 0), Told::Status(5));
    let appending = client.handle("b", flag::WRITE | flag::APPEND);
    assert_eq!(copy(&mut client, &source, 0, 3, &appending, 0), OK);
    assert_eq!(fs::read(place.at("b")).unwrap().len(), data.len() + 3);

    // Holes in the middle and at the end.
    let sparse = fs::File::create(place.at("s")).unwrap();
    for at in [0, 20 << 20] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, &data[..100_000], at).unwrap();
    }
    sparse.set_len(100 << 20).unwrap();
    let (source, target) = (client.handle("s", flag::READ), client.handle("t", WRITE_NEW));
    assert_eq!(copy(&mut client, &source, 0, 0, &target, 0), OK);
    let (found, there) = (fs::metadata(place.at("s")).unwrap(), fs::metadata(place.at("t")).unwrap());
    assert_eq!(there.len(), 100 << 20);
    assert!(there.blocks() <= found.blocks() + 64, "{} blocks instead of {}", there.blocks(), found.blocks());
    assert!(fs::read(place.at("t")).unwrap() == fs::read(place.at("s")).unwrap());
    // Into what has contents already, zeros are written.
    let target = client.handle("a", flag::WRITE);
    assert_eq!(copy(&mut client, &source, 1 << 20, 1 << 20, &target, 0), OK);
    let copied = fs::read(place.at("a")).unwrap();
    assert!(copied[..1 << 20].iter().all(|byte| *byte == 0) && copied[1 << 20..] == data[1 << 20..]);
    // Files that the system makes up have no size.
    let (source, target) = (client.handle("/proc/version", flag::READ), client.handle("v", WRITE_NEW));
    assert_eq!(copy(&mut client, &source, 0, 0, &target, 0), OK);
    assert_eq!(fs::read(place.at("v")).unwrap(), fs::read("/proc/version").unwrap());

    // Each step returns to the caller.
    let (source, target) = (client.handle("b", flag::READ), client.handle("c", WRITE_NEW));
    let contents = Request::new().text("copy-data").text(&source).u64(0).u64(0).text(&target).u64(0);
    let request = framed(kind::EXTENDED, 1, &contents.0);
    let (mut output, mut steps) = (Vec::new(), 0);
    assert_eq!(client.server.handle(&request, &mut output).unwrap(), request.len());
    while output.is_empty() {
        assert!(matches!(client.server.wait(), Wait::Now));
        client.server.handle(&[], &mut output).unwrap();
        steps += 1;
    }
    assert!(steps >= 2, "{steps}");
    assert_eq!(take_answer(&mut output), (1, OK));
}

#[test]
fn writes_at_offsets_leave_holes() {
    let place = Place::new("holes");
    let mut client = Client::new(&place);
    let handle = client.handle("s", WRITE_NEW);
    assert_eq!((client.write(&handle, 1 << 30, b"end"), client.write(&handle, 0, b"start")), (OK, OK));
    let found = fs::metadata(place.at("s")).unwrap();
    assert!(found.len() == (1 << 30) + 3 && found.blocks() < 1024);
}

#[test]
fn handles_are_limited_and_not_mistaken_for_each_other() {
    let place = Place::new("handles");
    let mut client = Client::with(Options {
        directory: place.0.clone(),
        max_handles: 3,
        detailed_status: true,
        ..Options::default()
    });
    let handles: Vec<_> = ["a", "b", "c"].iter().map(|name| client.handle(name, WRITE_NEW)).collect();
    assert_eq!(
        (client.open("d", WRITE_NEW), client.path(kind::OPENDIR, ".")),
        (errno(Errno::MFILE), errno(Errno::MFILE))
    );
    // Nothing was created for it.
    assert!(!place.at("d").exists());
    assert_eq!(client.close(&handles[1]), OK);
    let again = client.handle("d", WRITE_NEW);
    assert_ne!(again, handles[1]);
    assert_eq!(client.write(&handles[1], 0, b"x"), errno(Errno::BADF));
    for handle in [&again[..7], &[&again[..], &[0]].concat(), b"", &[255; 8]] {
        assert_eq!(client.write(handle, 0, b"x"), errno(Errno::BADF));
    }
    assert_eq!(client.write(&again, 0, b"x"), OK);

    let mut client = Client::with(Options { directory: place.0.clone(), max_handles: 1000, ..Options::default() });
    let open = (0..300).filter(|_| matches!(client.path(kind::OPENDIR, "."), Told::Handle(_))).count();
    assert_eq!(open, 256);
}

/// Requests that make sense, to be mutated.
fn sensible(handle: &[u8]) -> Vec<Vec<u8>> {
    let new = Request::new;
    let mut requests = Vec::new();
    for kind in [kind::STAT, kind::LSTAT, kind::OPENDIR, kind::READLINK, kind::REALPATH, kind::REMOVE, kind::RMDIR] {
        requests.push((kind, new().text("fuzz/a")));
    }
    for kind in [kind::CLOSE, kind::FSTAT, kind::READDIR] {
        requests.push((kind, new().text(handle)));
    }
    requests.push((kind::OPEN, new().text("fuzz/b").u32(WRITE_NEW | flag::READ | SFTP_OPEN_DIGEST).mode(0o644)));
    requests.push((kind::OPEN, new().text("fuzz").u32(flag::READ).none()));
    requests.push((kind::READ, new().text(handle).u64(0).u32(100)));
    requests.push((kind::WRITE, new().text(handle).u64(3).text([7; 60])));
    requests.push((
        kind::SETSTAT,
        new().text("fuzz/a").u32(0x8000_000d).u64(1).u32(0o644).u32(1).u32(2).u32(1).text("k").text("v"),
    ));
    requests.push((kind::FSETSTAT, new().text(handle).u32(8).u32(1).u32(2)));
    requests.push((kind::MKDIR, new().text("fuzz/d").mode(0o755)));
    requests.push((kind::RENAME, new().text("fuzz/a").text("fuzz/c")));
    requests.push((kind::SYMLINK, new().text("a").text("fuzz/l")));
    for (name, request) in [
        ("posix-rename@openssh.com", new().text("fuzz/c").text("fuzz/a")),
        ("hardlink@openssh.com", new().text("fuzz/b").text("fuzz/a")),
        ("statvfs@openssh.com", new().text("fuzz/a")),
        ("fstatvfs@openssh.com", new().text(handle)),
        ("lsetstat@openssh.com", new().text("fuzz/a").mode(0o600)),
        ("limits@openssh.com", new()),
        ("expand-path@openssh.com", new().text("~/x")),
        ("copy-data", new().text(handle).u64(0).u64(10).text(handle).u64(0)),
        ("home-directory", new().text("me")),
        (TIMES, new()),
        (STAT, new()),
    ] {
        let mut request = Request(new().text(name).0.into_iter().chain(request.0).collect());
        if name == TIMES || name == STAT {
            Target::Link(b"fuzz/a").encode(&mut request.0);
            request.0.extend([0; 24]);
        }
        requests.push((kind::EXTENDED, request));
    }
    requests.into_iter().map(|(kind, request)| framed(kind, 1, &request.0)).collect()
}

#[test]
fn hostile_requests_cost_bounded_memory_and_never_panic() {
    let place = Place::new("fuzz");
    fs::create_dir(place.at("fuzz")).unwrap();
    let options =
        Options { directory: place.0.clone(), max_handles: 64, wait_timeout: Duration::ZERO, ..Options::default() };
    let mut random = Mutator::new(0x5eed_0001);
    let mut client = Client::with(options.clone());
    let handle = client.handle("fuzz/a", WRITE_NEW | flag::READ);
    let sensible = sensible(&handle);
    let (mut answers, mut broken) = (0u64, 0);
    for _ in 0..100_000 {
        let mut bytes = sensible[random.below(sensible.len())].clone();
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            match random.below(6) {
                0 => bytes[at] = random.below(256) as u8,
                1 => bytes[at] ^= 1 << random.below(8),
                2 => bytes.truncate(at.max(9)),
                3 => bytes.extend((0..random.below(64)).map(|byte| byte as u8)),
                4 => bytes[at.min(5)..].rotate_left(1),
                // A wild length somewhere.
                _ => {
                    let wild = [u32::MAX, 0x7fff_ffff, 1 << 20, 0, 5][random.below(5)].to_be_bytes();
                    let at = at.clamp(4, bytes.len() - 4);
                    bytes[at..at + 4].copy_from_slice(&wild);
                }
            }
        }
        // Outside of its place it must not go: no byte of a path becomes a slash at the beginning, or a dot.
        if bytes.windows(2).any(|pair| pair == b".." || pair == b"\0/") {
            continue;
        }
        if random.below(8) > 0 {
            let length = (bytes.len() - 4) as u32;
            bytes[..4].copy_from_slice(&length.to_be_bytes());
        }
        let (mut output, mut taken) = (Vec::new(), 0);
        for _ in 0..10_000 {
            match client.server.handle(&bytes[taken..], &mut output) {
                Ok(length) => taken += length,
                Err(_) => {
                    broken += 1;
                    client = Client::with(options.clone());
                    client.handle("fuzz/a", WRITE_NEW | flag::READ);
                    break;
                }
            }
            if taken == bytes.len() && matches!(client.server.wait(), Wait::Input) {
                break;
            }
        }
        // Mostly, the next request is not to be a part of this one.
        if !client.server.partial.is_empty() && random.below(50) > 0 {
            client.server.partial.clear();
        }
        assert!(matches!(client.server.wait(), Wait::Input), "{}", bytes.escape_ascii());
        assert!(output.len() <= LONGEST_DATA + LISTING && client.server.partial.len() <= LONGEST_REQUEST + 4);
        while !output.is_empty() {
            let length = u32::from_be_bytes(*output.first_chunk().unwrap()) as usize;
            assert!(output.drain(..4 + length).count() > 8);
            answers += 1;
        }
    }
    assert!(answers > 50_000 && broken > 100, "{answers} answers, {broken} broken");
    // It still serves.
    let mut client = Client::with(options);
    assert!(matches!(client.path(kind::STAT, "."), Told::Attributes(..)));
}

const REPLACE: u32 = flag::WRITE | flag::CREATE | flag::TRUNCATE | sandbox_protocol::SFTP_OPEN_REPLACE;

fn names(place: &Place) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(&place.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_takes_the_place_of_another_when_it_is_closed() {
    let place = Place::new("replace");
    let mut client = Client::new(&place);
    fs::write(place.at("old"), "old").unwrap();
    fs::set_permissions(place.at("old"), fs::Permissions::from_mode(0o604)).unwrap();
    fs::hard_link(place.at("old"), place.at("other")).unwrap();
    symlink("old", place.at("link")).unwrap();
    symlink("made", place.at("broken")).unwrap();
    for (path, file, mode, before) in
        [("link", "old", 0o604, Some("old")), ("broken", "made", 0o640, None), ("new", "new", 0o640, None)]
    {
        let request = Request::new().text(path).u32(REPLACE).mode(0o640);
        let Told::Handle(handle) = client.ask(kind::OPEN, request) else { panic!("{path}") };
        assert_eq!(client.write(&handle, 0, b"first "), OK);
        assert_eq!(client.write(&handle, 6, b"last"), OK);
        assert_eq!(fs::read_to_string(place.at(file)).ok().as_deref(), before, "{path}");
        assert_eq!(client.close(&handle), OK);
        assert_eq!(fs::read_to_string(place.at(file)).unwrap(), "first last", "{path}");
        assert_eq!(fs::metadata(place.at(file)).unwrap().mode() & 0o7777, mode, "{path}");
    }
    assert_eq!(fs::read_to_string(place.at("other")).unwrap(), "old");
    assert_eq!(names(&place), ["broken", "link", "made", "new", "old", "other"]);
    assert!(fs::symlink_metadata(place.at("link")).unwrap().is_symlink());

    // What is not closed, or not whole, goes away.
    let handle = client.handle("old", REPLACE);
    assert_eq!(client.write(&handle, 0, b"half"), OK);
    let spoiled = client.handle("old", REPLACE);
    client.server.handles.file(&spoiled).unwrap().mark_incomplete();
    assert_eq!(names(&place).len(), 8);
    assert_ne!(client.close(&spoiled), OK);
    drop(client);
    assert_eq!(fs::read_to_string(place.at("old")).unwrap(), "first last");
    assert_eq!(names(&place).len(), 6);
}

#[test]
fn what_can_not_be_replaced_is_refused_or_written_into() {
    let place = Place::new("replace-special");
    let mut client = Client::detailed(&place);
    fs::create_dir(place.at("d")).unwrap();
    symlink("loop", place.at("loop")).unwrap();
    symlink("d/", place.at("to-d")).unwrap();
    symlink("/dev/null", place.at("null")).unwrap();
    mkfifoat(rustix::fs::CWD, place.at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.at("socket")).unwrap();
    let before = names(&place);
    for (path, expected) in [
        ("d", Errno::ISDIR),
        ("to-d", Errno::ISDIR),
        (".", Errno::ISDIR),
        ("missing/", Errno::ISDIR),
        ("missing/x", Errno::NOENT),
        ("null/x", Errno::NOTDIR),
        ("", Errno::NOENT),
        ("loop", Errno::LOOP),
        ("fifo", Errno::NXIO),
        ("socket", Errno::OPNOTSUPP),
        (&"x".repeat(256), Errno::NAMETOOLONG),
    ] {
        let request = Request::new().text(path).u32(REPLACE).none();
        assert_eq!(client.ask(kind::OPEN, request), errno(expected), "{path}");
    }
    let reader = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(place.at("fifo")).unwrap();
    for path in ["null", "fifo"] {
        let handle = client.handle(path, REPLACE);
        assert_eq!((client.write(&handle, 0, b"into"), client.close(&handle)), (OK, OK), "{path}");
    }
    let mut read = [0; 10];
    assert_eq!(rustix::io::read(&reader, &mut read).unwrap(), 4);
    assert_eq!(names(&place), before);
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
}

#[test]
fn a_partial_file_has_a_name_wherever_its_file_has_one() {
    let place = Place::new("replace-long");
    let mut client = Client::new(&place);
    // The longest path that the system takes, with the shortest name at its end.
    let mut short = String::new();
    let mut parent = rustix::fs::open(&place.0, OFlags::PATH, Mode::empty()).unwrap();
    while short.len() < 4094 {
        let name = "d".repeat((4094 - short.len() - 1).min(if short.len() == 3840 { 100 } else { 255 }));
        rustix::fs::mkdirat(&parent, &name, Mode::RWXU).unwrap();
        parent = rustix::fs::openat(&parent, &name, OFlags::PATH, Mode::empty()).unwrap();
        short += &(name + "/");
    }
    short.push('f');
    assert_eq!(short.len(), 4095);
    let long = "n".repeat(255);
    for path in [&short, &long] {
        let handle = client.handle(path, REPLACE);
        assert_eq!((client.write(&handle, 0, b"x"), client.close(&handle)), (OK, OK), "{}", path.len());
        let handle = client.handle(path, flag::READ);
        assert_eq!(client.read(&handle, 0, 9), Told::Data(b"x".to_vec()));
    }
}

#[test]
fn what_has_passed_so_far_has_a_digest_too() {
    let place = Place::new("digest-open");
    let mut client = Client::new(&place);
    let handle = client.handle("a", REPLACE | SFTP_OPEN_DIGEST);
    assert_eq!(client.write(&handle, 0, b"abc"), OK);
    let digest = |length, sha256| Digest { path: b"a".to_vec(), offset: 0, length, sha256: Some(sha256) };
    for _ in 0..2 {
        assert_eq!(client.server.take_digests(), [digest(3, sha256(b"abc"))]);
    }
    assert_eq!(client.write(&handle, 3, b"def"), OK);
    assert_eq!(client.close(&handle), OK);
    assert_eq!(client.server.take_digests(), [digest(6, sha256(b"abcdef"))]);
    assert_eq!(client.server.take_digests(), []);
}
