//! The SFTP server against OpenSSH's client, which starts it with `-D` on its own streams: no SSH is between them.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory of a test's own, removed at its end, with what is local and what is remote apart.
struct Place(PathBuf);

impl Place {
    fn new(test: &str) -> Self {
        let place = std::env::temp_dir().join(format!("sandbox-sftp-client-{test}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(place.join("here")).unwrap();
        fs::create_dir_all(place.join("there")).unwrap();
        Self(place)
    }

    fn here(&self, name: &str) -> PathBuf {
        self.0.join("here").join(name)
    }

    fn there(&self, name: &str) -> PathBuf {
        self.0.join("there").join(name)
    }

    /// Gives the client these commands, of which none may fail.
    fn sftp(&self, options: &[&str], commands: &str) -> String {
        let output = self.attempt(options, commands);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{commands}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    fn attempt(&self, options: &[&str], commands: &str) -> Output {
        let batch = self.0.join("batch");
        fs::write(&batch, format!("cd {}\n{commands}", self.0.join("there").display())).unwrap();
        Command::new("sftp")
            .args(options)
            .arg("-b")
            .arg(&batch)
            .args(["-D", concat!(env!("CARGO_BIN_EXE_sandbox-guest"), " sftp")])
            .current_dir(self.0.join("here"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// False, and says so, on a machine without the client.
fn has_client() -> bool {
    let found = Command::new("sftp").arg("-h").stdin(Stdio::null()).output().is_ok();
    if !found {
        eprintln!("skipped: there is no sftp");
    }
    found
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x5eed_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn same(a: &Path, b: &Path) {
    assert!(fs::read(a).unwrap() == fs::read(b).unwrap(), "{} and {}", a.display(), b.display());
}

#[test]
fn files_go_there_and_come_back_the_same() {
    if !has_client() {
        return;
    }
    let place = Place::new("files");
    for length in [0, 1, 32_767, 258_048, 258_049, 20_000_003] {
        fs::write(place.here("a"), noise(length)).unwrap();
        // Small and large requests, one at a time and many.
        for options in [&[][..], &["-B", "1000", "-R", "1"], &["-B", "200000"], &["-B", "4096", "-R", "512"]] {
            if length > 300_000 && options.contains(&"1000") {
                continue;
            }
            place.sftp(options, "put a b\nget b c\nrm b");
            same(&place.here("a"), &place.here("c"));
            fs::remove_file(place.here("c")).unwrap();
        }
    }
    // What was cut off goes on.
    let whole = fs::read(place.here("a")).unwrap();
    fs::write(place.there("b"), &whole[..7_000_001]).unwrap();
    fs::write(place.here("c"), &whole[..3_000_001]).unwrap();
    place.sftp(&[], "reput a b\nreget b c");
    same(&place.here("a"), &place.there("b"));
    same(&place.here("a"), &place.here("c"));
    // With -f, fsync comes before the end.
    place.sftp(&[], "put -f a d\nget -f d e");
    same(&place.here("a"), &place.here("e"));
}

#[test]
fn attributes_and_names_are_as_the_client_wants_them() {
    if !has_client() {
        return;
    }
    let place = Place::new("names");
    fs::write(place.here("a"), noise(100_000)).unwrap();
    fs::set_permissions(place.here("a"), fs::Permissions::from_mode(0o751)).unwrap();
    let file = fs::File::open(place.here("a")).unwrap();
    let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    file.set_times(fs::FileTimes::new().set_modified(old).set_accessed(old)).unwrap();
    let said = place.sftp(
        &[],
        "put -p a b\nmkdir d\nrename b d/b\nsymlink d/b l\nln d/b h\ncp h copy\nchmod 600 copy\nls -l\nls -ln d\ndf -h .\n\
         get -p d/b back\npwd\n",
    );
    let found = fs::metadata(place.there("d/b")).unwrap();
    assert_eq!((found.mode() & 0o7777, found.mtime(), found.nlink()), (0o751, 1_234_567_890, 2));
    assert_eq!(fs::metadata(place.here("back")).unwrap().mtime(), 1_234_567_890);
    assert_eq!(fs::read_link(place.there("l")).unwrap(), Path::new("d/b"));
    assert_eq!(fs::metadata(place.there("copy")).unwrap().mode() & 0o7777, 0o600);
    same(&place.here("a"), &place.there("copy"));
    same(&place.here("a"), &place.here("back"));
    let line = said.lines().find(|line| line.starts_with("-") && line.ends_with(" h")).unwrap();
    let (user, group) = (found.uid(), found.gid());
    assert_eq!(line, format!("-rwxr-x--x    2 {user:<8} {group:<8}   100000 Feb 13  2009 h"));
    assert!(said.lines().any(|line| line.starts_with("drwxr-xr-x    2 ") && line.ends_with(" d")), "{said}");
    assert!(said.contains("%Capacity") && said.contains(place.there("").to_str().unwrap().trim_end_matches('/')));

    // Refused, each by itself: what is there is not replaced by plain renames, which the client does with -l.
    for (command, word) in [
        ("rename -l h copy", "Failure"),
        ("mkdir d", "Failure"),
        ("rmdir d", "Failure"),
        ("rm nowhere", "No such file"),
        ("get nowhere", "not found"),
        ("ls nowhere", "not found"),
        ("ln nowhere x", "No such file"),
        ("chmod 600 nowhere", "No such file"),
        ("cd h", "not a directory"),
    ] {
        let output = place.attempt(&[], command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{command}: {said}");
    }
    place.sftp(&[], "rename h copy\nchmod -h 640 copy\nrm l\nrm copy\nrm d/b\nrmdir d\nls");
    assert_eq!(fs::read_dir(place.there("")).unwrap().count(), 0);
}

#[test]
fn trees_and_large_directories_are_moved() {
    if !has_client() {
        return;
    }
    let place = Place::new("trees");
    for number in 0..1200 {
        let directory = place.here(&format!("tree/{}", number % 7));
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(format!("file {number} ü")), noise(number * 13)).unwrap();
    }
    let said = place.sftp(&["-q"], "put -R tree\nls -1 tree/3\nget -R tree back");
    assert_eq!(said.lines().filter(|line| line.contains("tree/3/file ")).count(), 171, "{said}");
    for number in 0..1200 {
        let name = format!("{}/file {number} ü", number % 7);
        same(&place.here(&format!("tree/{name}")), &place.here(&format!("back/{name}")));
    }
}

#[test]
fn a_copy_there_keeps_holes() {
    if !has_client() {
        return;
    }
    let place = Place::new("holes");
    let file = fs::File::create(place.there("s")).unwrap();
    file.write_all_at(b"data", 512 << 20).unwrap();
    file.set_len(1 << 30).unwrap();
    place.sftp(&[], "cp s t");
    let copied = fs::File::open(place.there("t")).unwrap();
    let (found, mut data) = (copied.metadata().unwrap(), [0; 6]);
    copied.read_exact_at(&mut data, (512 << 20) - 1).unwrap();
    assert_eq!((found.len(), &data), (1 << 30, b"\0data\0"));
    assert!(found.blocks() < 2048, "{}", found.blocks());
}

/// OpenSSH's own server, where Debian and others have it.
const OTHERS: [&str; 3] =
    ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server"];

/// A server that is asked one request after the other.
struct Server {
    child: std::process::Child,
    next: u32,
}

impl Server {
    fn start(program: &str, args: &[&str], directory: &Path) -> Self {
        let mut command = Command::new(program);
        command.args(args).current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut server = Self { child: command.spawn().unwrap(), next: 0 };
        let greeting = server.exchange(&[1, 0, 0, 0, 3]);
        assert_eq!(greeting[..5], [2, 0, 0, 0, 3]);
        server
    }

    fn exchange(&mut self, packet: &[u8]) -> Vec<u8> {
        let length = u32::try_from(packet.len()).unwrap().to_be_bytes();
        self.child.stdin.as_mut().unwrap().write_all(&[&length, packet].concat()).unwrap();
        let (stdout, mut length) = (self.child.stdout.as_mut().unwrap(), [0; 4]);
        stdout.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stdout.read_exact(&mut answer).unwrap();
        answer
    }

    /// Asks, with the handle that the server gave in the place of `HANDLE`; returns the answer without its id.
    fn ask(&mut self, request: &[Field<'_>], handles: &[Vec<u8>]) -> (u8, Vec<u8>) {
        self.next += 1;
        let (Field::Byte(kind), fields) = (&request[0], &request[1..]) else {
            panic!("a request begins with its type")
        };
        let mut packet = vec![*kind];
        packet.extend(self.next.to_be_bytes());
        let text = |packet: &mut Vec<u8>, bytes: &[u8]| {
            packet.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            packet.extend(bytes);
        };
        for field in fields {
            match field {
                Field::Byte(byte) => packet.push(*byte),
                Field::U32(number) => packet.extend(number.to_be_bytes()),
                Field::U64(number) => packet.extend(number.to_be_bytes()),
                Field::Text(bytes) => text(&mut packet, bytes.as_bytes()),
                Field::Handle(number) => text(&mut packet, &handles[*number]),
            }
        }
        let answer = self.exchange(&packet);
        assert_eq!(answer[1..5], self.next.to_be_bytes());
        (answer[0], answer[5..].to_vec())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

enum Field<'f> {
    Byte(u8),
    U32(u32),
    U64(u64),
    Text(&'f str),
    /// The handle that was given as this one, counted from 0.
    Handle(usize),
}

/// What two servers must say alike: of a status its code, of an answer with a name of the server's own its type.
fn alike(kind: u8, contents: &[u8], place: &Path) -> String {
    match kind {
        101 => format!("status {}", contents[3]),
        102 => "a handle".to_owned(),
        // Flags, size, owner, mode; and the times, which were set.
        105 => format!("attributes {contents:?}"),
        201 => format!("{} bytes", contents.len()),
        _ => String::from_utf8_lossy(contents).replace(place.to_str().unwrap(), "").escape_debug().to_string(),
    }
}

#[test]
fn openssh_s_server_gives_the_same_answers() {
    use Field::{Byte, Handle, Text, U32, U64};
    let Some(other) = OTHERS.iter().find(|path| Path::new(path).exists()) else {
        eprintln!("skipped: OpenSSH's server is not here");
        return;
    };
    // Both need names of the same length, as the answers have it.
    let places = [Place::new("alike-a"), Place::new("alike-b")];
    let [ours, theirs] = [places[0].there(""), places[1].there("")].map(|path| fs::canonicalize(path).unwrap());
    for place in [&ours, &theirs] {
        fs::create_dir_all(place.join("d/e")).unwrap();
        fs::write(place.join("f"), "contents").unwrap();
        std::os::unix::fs::symlink("f", place.join("l")).unwrap();
        std::os::unix::fs::symlink("loop", place.join("loop")).unwrap();
        std::os::unix::fs::symlink("d/missing", place.join("broken")).unwrap();
    }
    let mut servers = [
        (Server::start(env!("CARGO_BIN_EXE_sandbox-guest"), &["sftp"], &ours), Vec::new(), &ours),
        (Server::start(other, &[], &theirs), Vec::new(), &theirs),
    ];
    let (open, close, read, write, lstat, fstat, setstat, fsetstat) = (3, 4, 5, 6, 7, 8, 9, 10);
    let (opendir, readdir, remove, mkdir, rmdir, realpath, stat, rename, readlink, symlink, extended) =
        (11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 200);
    let name = |kind, path| vec![Byte(kind), Text(path)];
    let two = |kind, first, second| vec![Byte(kind), Text(first), Text(second)];
    let opened = |path, flags| vec![Byte(open), Text(path), U32(flags), U32(4), U32(0o640)];
    let times = |kind, target| vec![Byte(kind), target, U32(8), U32(1_000_000_000), U32(1_000_000_001)];
    let long = "n".repeat(300);
    let mut script = vec![
        times(setstat, Text("f")),
        times(setstat, Text("d")),
        vec![Byte(setstat), Text("f"), U32(4), U32(0o100_604)],
        vec![Byte(setstat), Text("d"), U32(5), U64(3), U32(0o705)],
        name(stat, "f"),
        name(stat, "l"),
        opened("f", 1),
        opened("f", 2),
        opened("f", 3),
        opened("new", 0x1a),
        opened("new", 0x2a),
        opened("f", 6),
        opened("d", 1),
        opened("d", 2),
        opened("x", 1),
        opened("x/y", 0x1a),
        opened("f/y", 0x1a),
        opened("loop", 1),
        opened("", 1),
        opened(&long, 1),
        vec![Byte(open), Text("f"), U32(0), U32(0)],
    ];
    for number in 0..6 {
        for (offset, length) in [(0, 3), (5, 100), (8, 1), (1 << 40, 1), (u64::MAX, 1), (3, 0)] {
            script.push(vec![Byte(read), Handle(number), U64(offset), U32(length)]);
        }
        for offset in [0, 4, u64::MAX] {
            script.push(vec![Byte(write), Handle(number), U64(offset), Text("ab")]);
        }
        script.push(vec![Byte(readdir), Handle(number)]);
        script.push(vec![Byte(extended), Text("fstatvfs@openssh.com"), Handle(number)]);
        script.push(vec![Byte(extended), Text("fsync@openssh.com"), Handle(number)]);
    }
    for number in [0, 1, 5] {
        script.push(vec![Byte(fsetstat), Handle(number), U32(5), U64(6), U32(0o600)]);
        script.push(times(fsetstat, Handle(number)));
        script.push(vec![Byte(fstat), Handle(number)]);
    }
    script.extend([
        vec![Byte(extended), Text("copy-data"), Handle(0), U64(0), U64(0), Handle(3), U64(1)],
        vec![Byte(extended), Text("copy-data"), Handle(0), U64(0), U64(0), Handle(0), U64(1)],
        vec![Byte(extended), Text("copy-data"), Handle(0), U64(0), U64(0), Handle(1), U64(1)],
        vec![Byte(close), Handle(0)],
        vec![Byte(close), Handle(0)],
        vec![Byte(fstat), Handle(0)],
        vec![Byte(close), Text("what")],
        vec![Byte(read), Text("what"), U64(0), U32(1)],
        vec![Byte(write), Text("what"), U64(0), Text("x")],
        vec![Byte(readdir), Text("what")],
        vec![Byte(fsetstat), Text("what"), U32(0)],
        vec![Byte(extended), Text("fsync@openssh.com"), Text("what")],
        vec![Byte(extended), Text("fstatvfs@openssh.com"), Text("what")],
        times(setstat, Text("new")),
        name(stat, "new"),
        name(opendir, "d"),
        name(opendir, "f"),
        name(opendir, "x"),
    ]);
    let odd = [
        "f",
        "l",
        "d",
        "d/",
        "f/",
        "x",
        "loop",
        "broken",
        "",
        ".",
        "d/..",
        "x/y",
        "f/y",
        "d/missing",
        "d/e/../../l",
        &long,
    ];
    for path in odd {
        if !["d/..", "."].contains(&path) {
            script.push(name(lstat, path));
        }
        for kind in [realpath, readlink] {
            script.push(name(kind, path));
        }
        script.push(vec![Byte(extended), Text("expand-path@openssh.com"), Text(path)]);
        script.push(vec![Byte(extended), Text("statvfs@openssh.com"), Text(path)]);
    }
    for path in ["f", "d", "x", "", "d/new", "x/new", "f/new", &long] {
        script.push(vec![Byte(mkdir), Text(path), U32(4), U32(0o700)]);
    }
    for (from, to) in [
        ("f", "new"),
        ("f", "d"),
        ("d", "f"),
        ("d", "d/e"),
        ("x", "y"),
        ("l", "f"),
        ("l", "k"),
        ("f", "g"),
        ("g", "x/g"),
        ("f", ""),
        ("d", "d2"),
        ("d2", "d"),
    ] {
        script.push(two(rename, from, to));
    }
    for (target, link) in [("any where", "s"), ("x", "s"), ("x", "d"), ("", "s2"), ("x", "x/s"), (&long, "s3")] {
        script.push(two(symlink, target, link));
        script.push(name(readlink, link));
    }
    for extension in ["posix-rename@openssh.com", "hardlink@openssh.com"] {
        for (from, to) in [("g", "h"), ("h", "g"), ("g", "d"), ("x", "y"), ("new", "g"), ("d", "g"), ("g", "x/y")] {
            script.push(vec![Byte(extended), Text(extension), Text(from), Text(to)]);
        }
    }
    let lset =
        |path, flags: u32| vec![Byte(extended), Text("lsetstat@openssh.com"), Text(path), U32(flags), U32(7), U32(8)];
    script.extend([lset("s", 8), name(lstat, "s"), lset("x", 8), lset("s", 1), lset("s", 2), lset("x", 2)]);
    script.extend([vec![Byte(extended), Text("home-directory"), Text("nobody knows them")], name(extended, "no@such")]);
    script.push(vec![Byte(extended), Text("expand-path@openssh.com"), Text("~nobody-knows-them/x")]);
    for path in ["f", "g", "d", "s", "x", "", "x/y", "d/e", "."] {
        script.push(name(remove, path));
        script.push(name(rmdir, path));
    }
    let mut answered = 0;
    for (at, request) in script.iter().enumerate() {
        let [ours, theirs] = servers.each_mut().map(|(server, handles, place)| {
            let (kind, contents) = server.ask(request, handles);
            if kind == 102 {
                handles.push(contents[4..].to_vec());
            }
            alike(kind, &contents, place)
        });
        assert_eq!(
            ours,
            theirs,
            "request {at} of type {}",
            match request[0] {
                Byte(kind) => kind,
                _ => 0,
            }
        );
        answered += 1;
    }
    assert!(answered > 200, "{answered}");
}
