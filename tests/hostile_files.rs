//! What a program gets from a sandbox whose SFTP server lies: an error in time, or what is true; never a success that
//! is made up, and never a file that is half new. These tests need no cluster; `make test` runs them with the library
//! and libssh2 under AddressSanitizer.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, reason = "a test program")]

mod common;
mod sshd;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Scratch, noise};
use openssl::sha::sha256;
use sandbox::{Client, Error, ErrorKind, OpenOptions, Result, Sandbox};
use sandbox_protocol::SFTP_ERRNO_BASE;
use sshd::Server;
use sshd::connection::Connection;
use sshd::sftp::*;
use sshd::wire::*;

/// How long an operation may take that is lied to. Where the machine is too busy for it to get to the lie, it is done
/// again with more time. What gets the truth may take the most.
const TIMEOUTS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(20)];
/// For tidying up, for the verdict of Kubernetes, and for a busy machine.
const SLACK: Duration = Duration::from_secs(20);
/// Trials at the same time: most of them wait.
const WORKERS: usize = 24;
/// Bytes of the files here: four of libssh2's requests, the last one for less than the others.
const SIZE: usize = 100_000;

/// What an operation works on: a directory of its own in the sandbox, and one on this machine.
struct Place {
    sandbox: Sandbox,
    directory: String,
    here: Scratch,
}

impl Place {
    fn files(&self) -> sandbox::Files<'_> {
        self.sandbox.files()
    }

    fn there(&self, name: &str) -> String {
        format!("{}/{name}", self.directory)
    }

    fn here(&self, name: &str) -> PathBuf {
        self.here.path(name)
    }

    fn fetched(&self) -> Vec<u8> {
        fs::read(self.here("old")).unwrap()
    }
}

/// What it found, in any form that can be compared.
type Outcome = Result<Vec<u8>>;
type Operation = fn(&Place) -> Outcome;

/// The simplest one for each kind of request comes first.
const OPERATIONS: [(&str, Operation); 38] = [
    ("metadata", |place| {
        let found = place.files().metadata(place.there("file"))?;
        Ok(format!("{} {:o} {}", found.len(), found.mode(), found.is_file()).into())
    }),
    ("symlink_metadata", |place| {
        let found = place.files().symlink_metadata(place.there("link"))?;
        Ok(format!("{} {}", found.len(), found.is_symlink()).into())
    }),
    ("File::metadata", |place| {
        let mut file = place.files().open(place.there("file"))?;
        let found = file.metadata()?;
        file.close()?;
        Ok(format!("{} {:o} {}", found.len(), found.mode(), found.is_file()).into())
    }),
    ("read", |place| place.files().read(place.there("file"))),
    ("read_dir", |place| {
        let mut entries = place.files().read_dir(&place.directory)?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries
            .iter()
            .flat_map(|entry| format!("{:?} {}\n", entry.name, entry.metadata.mode()).into_bytes())
            .collect())
    }),
    ("append", |place| place.files().append(place.there("file"), "more").map(nothing)),
    ("rename", |place| place.files().rename(place.there("file"), place.there("old")).map(nothing)),
    ("set_permissions", |place| place.files().set_permissions(place.there("file"), 0o750).map(nothing)),
    ("create_dir", |place| place.files().create_dir(place.there("new")).map(nothing)),
    ("remove_file", |place| place.files().remove_file(place.there("file")).map(nothing)),
    ("remove_dir", |place| place.files().remove_dir(place.there("empty")).map(nothing)),
    ("symlink", |place| place.files().symlink("original", place.there("new")).map(nothing)),
    ("read_link", |place| Ok(place.files().read_link(place.there("link"))?.into_os_string().into_encoded_bytes())),
    ("canonicalize", |place| {
        Ok(place.files().canonicalize(place.there("link"))?.file_name().unwrap_or_default().as_encoded_bytes().to_vec())
    }),
    ("File::set_len", |place| {
        let mut file = place.files().open_with(place.there("file"), OpenOptions::new().write(true))?;
        file.set_len(7)?;
        file.close().map(nothing)
    }),
    ("File::set_permissions", |place| {
        let mut file = place.files().open_with(place.there("file"), OpenOptions::new().write(true))?;
        file.set_permissions(0o750)?;
        file.close().map(nothing)
    }),
    ("File::sync_all", |place| {
        let mut file = place.files().open_with(place.there("file"), OpenOptions::new().write(true))?;
        file.sync_all()?;
        file.close().map(nothing)
    }),
    ("exists", |place| place.files().exists(place.there("file")).map(|is_there| vec![is_there.into()])),
    ("File::read", |place| {
        let (mut file, mut contents) = (place.files().open(place.there("file"))?, Vec::new());
        file.read_to_end(&mut contents).map_err(error_in)?;
        file.close()?;
        Ok(contents)
    }),
    ("File::seek", |place| {
        let (mut file, mut contents) = (place.files().open(place.there("file"))?, vec![0; 50_000]);
        file.seek(SeekFrom::End(-50_000)).map_err(error_in)?;
        file.read_exact(&mut contents).map_err(error_in)?;
        file.close()?;
        Ok(contents)
    }),
    ("File::write", |place| {
        let mut file = place.files().open_with(place.there("file"), OpenOptions::new().write(true).truncate(true))?;
        file.write_all(&noise(SIZE / 2)).map_err(error_in)?;
        file.close().map(nothing)
    }),
    ("File::write and read", |place| {
        let mut options = OpenOptions::new();
        let mut file = place.files().open_with(place.there("file"), options.read(true).write(true))?;
        let mut contents = vec![0; 100];
        file.read_exact(&mut contents).map_err(error_in)?;
        file.write_all(b"middle").map_err(error_in)?;
        file.read_exact(&mut contents[50..]).map_err(error_in)?;
        file.close()?;
        Ok(contents)
    }),
    ("create_new", |place| {
        let mut file = place.files().open_with(place.there("new"), OpenOptions::new().write(true).create_new(true))?;
        file.write_all(b"new").map_err(error_in)?;
        file.close().map(nothing)
    }),
    ("write", |place| place.files().write(place.there("file"), "new").map(nothing)),
    ("create_dir_all", |place| place.files().create_dir_all(place.there("one/two/three")).map(nothing)),
    ("remove_dir_all", |place| place.files().remove_dir_all(place.there("full")).map(nothing)),
    ("upload", |place| place.files().upload(place.here("local"), place.there("file")).map(nothing)),
    ("upload_from", |place| place.files().transfer().upload_from(&noise(SIZE)[..], place.there("file")).map(nothing)),
    ("upload with checksum", |place| {
        place.files().transfer().checksum(true).upload(place.here("local"), place.there("file")).map(nothing)
    }),
    ("upload to the disk", |place| {
        place.files().transfer().sync(true).upload(place.here("local"), place.there("file")).map(nothing)
    }),
    ("upload that is resumed", |place| {
        let _ = place.files().transfer().resume(true).progress(stop).upload(place.here("local"), place.there("file"));
        place.files().transfer().resume(true).upload(place.here("local"), place.there("file")).map(nothing)
    }),
    ("upload of a new file", |place| place.files().upload(place.here("local"), place.there("new")).map(nothing)),
    ("download", |place| place.files().download(place.there("file"), place.here("old")).map(|_| place.fetched())),
    ("download_to", |place| {
        let mut contents = Vec::new();
        place.files().transfer().download_to(place.there("file"), &mut contents)?;
        Ok(contents)
    }),
    ("download with checksum", |place| {
        place.files().transfer().checksum(true).download(place.there("file"), place.here("old"))?;
        Ok(place.fetched())
    }),
    ("download that is resumed", |place| {
        let _ = place.files().transfer().resume(true).progress(stop).download(place.there("file"), place.here("old"));
        place.files().transfer().resume(true).download(place.there("file"), place.here("old"))?;
        Ok(place.fetched())
    }),
    ("download of the rest", |place| {
        let name: String = sha256(b"old")[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(place.here(&format!(".sandbox-{name}.part")), &noise(SIZE)[..60_000]).unwrap();
        let moved = place.files().transfer().resume(true).download(place.there("file"), place.here("old"))?;
        Ok([format!("{} ", moved.resumed).into_bytes(), place.fetched()].concat())
    }),
    ("download of a new file", |place| {
        place.files().download(place.there("file"), place.here("new"))?;
        Ok(fs::read(place.here("new")).unwrap())
    }),
];

fn nothing<T>(_: T) -> Vec<u8> {
    Vec::new()
}

fn error_in(e: io::Error) -> Error {
    match e.downcast::<Error>() {
        Ok(error) => error,
        Err(e) => panic!("an error that is not the library's: {e}"),
    }
}

/// Ends a transfer in its middle.
fn stop(progress: &sandbox::Progress<'_>) -> Result<()> {
    if progress.done > 0 { Err(Error::cancelled("enough")) } else { Ok(()) }
}

/// Whether the files that an operation changes may be half done after a failure.
fn works_in_place(operation: &str) -> bool {
    operation.starts_with("File::") || matches!(operation, "append" | "create_new" | "remove_dir_all")
}

/// What comes in place of an answer.
type Tell = fn(&mut Connection, &Request, &Message) -> io::Result<()>;

#[derive(Clone, Copy)]
struct Lie {
    name: &'static str,
    tell: Tell,
    /// Whether it can come in place of an answer to this request.
    is_one_for: fn(&Request) -> bool,
    outcome: Expected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// A failure. The server does nothing.
    Failure,
    /// The server does what it is asked. Success is the truth.
    Truth,
    /// The same, but the client need not understand the server.
    TruthOrFailure,
}

const fn lie(name: &'static str, tell: Tell) -> Lie {
    Lie { name, tell, is_one_for: |_| true, outcome: Expected::Failure }
}

const LIES: [Lie; 37] = [
    // What all operations are told, whatever they ask.
    lie("a packet of 4 GiB", |client, _, answer| client.data(with_length(u32::MAX, answer))),
    lie("failure", |client, request, _| client.answer(&request.status(FAILURE))),
    lie("the end of the channel", |client, _, _| client.eof().and_then(|()| client.close_channel())),
    // What the simplest operation is told.
    lie("a packet of nothing", |client, _, answer| client.data(with_length(0, answer))),
    lie("a packet of 4 bytes", |client, _, answer| client.data(with_length(4, answer))),
    lie("a packet of more than 256 KiB", |client, _, answer| client.data(with_length((256 << 10) + 1, answer))),
    lie("type 0", |client, request, _| client.answer(&request.reply(0).raw(&[0; 20]))),
    lie("type 255", |client, request, _| client.answer(&request.reply(255).raw(&[0; 20]))),
    lie("no more than type and id", |client, _, answer| client.answer(&Message(answer.0[..5].to_vec()))),
    Lie {
        // There it has the whole name.
        is_one_for: |request| request.asks_for_data() && !matches!(request.kind, READLINK | REALPATH),
        ..lie("three quarters of a packet", |client, _, answer| {
            client.answer(&Message(answer.0[..answer.0.len() * 3 / 4].to_vec()))
        })
    },
    lie("the wrong half of a packet", |client, _, answer| {
        client.answer(&Message(answer.0[answer.0.len() / 2..].to_vec()))
    }),
    Lie {
        is_one_for: Request::asks_for_data,
        ..lie("all is well", |client, request, _| client.answer(&request.status(OK)))
    },
    Lie {
        // There it is the truth.
        is_one_for: |request| request.kind != READ && request.kind != READDIR,
        ..lie("the end of the file", |client, request, _| client.answer(&request.status(EOF)))
    },
    lie("permission denied", |client, request, _| client.answer(&request.status(PERMISSION_DENIED))),
    lie("not supported", |client, request, _| client.answer(&request.status(OP_UNSUPPORTED))),
    // A guest says so that something failed with an error number of Linux.
    lie("error number 0", |client, request, _| client.answer(&request.status(SFTP_ERRNO_BASE))),
    lie("error number 13", |client, request, _| client.answer(&request.status(SFTP_ERRNO_BASE + 13))),
    lie("error number 4096", |client, request, _| client.answer(&request.status(SFTP_ERRNO_BASE + 4096))),
    lie("status 31 bits", |client, request, _| client.answer(&request.status(i32::MAX.cast_unsigned()))),
    lie("status 32 bits", |client, request, _| client.answer(&request.status(u32::MAX))),
    Lie {
        is_one_for: |request| !matches!(request.kind, OPEN | OPENDIR),
        ..lie("a handle", |client, request, _| client.answer(&request.reply(HANDLE).string("handle")))
    },
    Lie {
        is_one_for: |request| request.kind != READ,
        ..lie("data", |client, request, _| client.answer(&request.reply(DATA).string([b'x'; 100])))
    },
    Lie {
        is_one_for: |request| !matches!(request.kind, READDIR | READLINK | REALPATH),
        ..lie("a name", |client, request, _| {
            let name = entry("n", &attributes(1, 0o100_644));
            client.answer(&request.reply(NAME).u32(1).raw(&name.0))
        })
    },
    Lie {
        is_one_for: |request| request.kind == SYMLINK,
        ..lie("an empty name", |client, request, _| {
            let name = entry("", &attributes(1, 0o100_644));
            client.answer(&request.reply(NAME).u32(1).raw(&name.0))
        })
    },
    Lie {
        is_one_for: |request| !matches!(request.kind, STAT | LSTAT | FSTAT),
        ..lie("attributes", |client, request, _| client.answer(&request.reply(ATTRS).raw(&attributes(1, 0o100_644).0)))
    },
    lie("an answer to another request", |client, request, answer| {
        let other = request.id.wrapping_add(1).to_be_bytes();
        client.answer(&Message([&answer.0[..1], &other, &answer.0[5..]].concat()))
    }),
    lie("nothing", |_, _, _| Ok(())),
    lie("half an answer and nothing", |client, _, answer| client.data(&framed(answer)[..11])),
    lie("half an answer and the end", |client, _, answer| {
        client.data(&framed(answer)[..11])?;
        client.eof()?;
        client.close_channel()
    }),
    lie("an end that is none", |client, _, _| client.eof()),
    lie("goodbye", |client, _, _| client.send(Message::new(DISCONNECT).u32(2).string("no more").string(""))),
    lie("the end of the connection", |client, _, _| client.transport.end()),
    lie("a reset of the connection", |client, _, _| client.transport.reset()),
    Lie {
        outcome: Expected::Truth,
        ..lie("the truth byte by byte", |client, request, answer| match request.kind {
            READ => client.answer(answer),
            _ => framed(answer).iter().try_for_each(|byte| client.data([*byte])),
        })
    },
    Lie {
        outcome: Expected::Truth,
        ..lie("the truth twice", |client, _, answer| client.answer(answer).and_then(|()| client.answer(answer)))
    },
    Lie {
        outcome: Expected::Truth,
        ..lie("the truth after answers to nobody", |client, request, answer| {
            for kind in [STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY, VERSION, INIT] {
                client.answer(&Message::new(kind).u32(request.id.wrapping_add(1 << 20)).u32(1).raw(&[0; 30]))?;
            }
            client.extended(1, "careful")?;
            client.answer(answer)
        })
    },
    Lie {
        outcome: Expected::TruthOrFailure,
        ..lie("the truth with something behind it", |client, _, answer| {
            client.answer(&answer.clone().raw(&[0xff; 5000]))
        })
    },
];

/// What operations fail with.
const KINDS: [ErrorKind; 7] = [
    ErrorKind::IsADirectory,
    ErrorKind::Transfer,
    ErrorKind::Connect,
    ErrorKind::Disconnected,
    ErrorKind::OutcomeUnknown,
    ErrorKind::TimedOut,
    ErrorKind::PermissionDenied,
];

/// How many lies each operation is told.
const FOR_ALL: usize = 3;

/// The answer in a packet that gives its length as this.
fn with_length(length: u32, answer: &Message) -> Vec<u8> {
    Message(Vec::new()).u32(length).raw(&answer.0).0
}

/// One server and one client for many trials. A trial's directory tells the server whose request it is.
struct Ground {
    server: Server,
    clients: [Client; TIMEOUTS.len()],
    there: Arc<Scratch>,
    trials: Trials,
    next: AtomicUsize,
    /// The one answer that no trial is known for: to the start of SFTP.
    start: Arc<Mutex<Option<Tell>>>,
}

type Trials = Arc<Mutex<HashMap<String, Trial>>>;

#[derive(Clone, Default)]
struct Trial {
    /// The kind of request that is answered by a lie.
    lie: Option<(u8, Lie)>,
    is_told: bool,
    /// The kinds of requests that have come, each once.
    seen: Vec<u8>,
}

impl Trial {
    fn lie_for(&mut self, request: &Request) -> Option<Lie> {
        if !self.seen.contains(&request.kind) {
            self.seen.push(request.kind);
        }
        let (_, lie) = self.lie.filter(|(kind, lie)| *kind == request.kind && (lie.is_one_for)(request))?;
        self.is_told = true;
        Some(lie)
    }
}

/// What is in a directory, without what is left of transfers.
type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn tree(directory: &Path) -> Tree {
    let mut tree = Tree::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
        // These go when the server sees that a connection has ended.
        if entry.file_name().as_encoded_bytes().starts_with(b".sandbox-") {
            continue;
        }
        let (path, found) = (entry.path(), entry.metadata().unwrap());
        let contents = if found.is_dir() {
            tree.extend(self::tree(&path));
            Vec::new()
        } else if found.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        tree.insert(path, (found.mode(), contents));
    }
    tree
}

/// The same as seen from `directory`.
fn seen_from(directory: &Path, tree: Tree) -> Tree {
    tree.into_iter().map(|(path, found)| (path.strip_prefix(directory).unwrap().to_owned(), found)).collect()
}

/// What an operation came to, and what it has left.
struct Ended {
    outcome: Outcome,
    took: Duration,
    timeout: Duration,
    is_told: bool,
    seen: Vec<u8>,
    there: [Tree; 2],
    here: [Tree; 2],
    parts_here: usize,
}

impl Ground {
    fn new() -> Self {
        let (there, trials) = (Arc::new(Scratch::new()), Trials::default());
        let (root, known, start) = (Arc::clone(&there), Arc::clone(&trials), Arc::<Mutex<Option<Tell>>>::default());
        let start_of = Arc::clone(&start);
        let server = Server::start(move |client: &mut Connection| {
            client.log_in()?;
            let mut directory = None;
            client.serve_files(&root.path(""), |client: &mut Connection, files: &mut Files, request: &Request| {
                if let Some(name) = directory_of(request) {
                    directory = Some(name);
                }
                if let (INIT, Some(tell)) = (request.kind, *start_of.lock().unwrap()) {
                    return tell(client, request, &files.answer(request));
                }
                let lie = directory.as_ref().and_then(|name| known.lock().unwrap().get_mut(name)?.lie_for(request));
                let Some(lie) = lie else {
                    let answer = files.answer(request);
                    return client.answer(&answer);
                };
                let answer = match lie.outcome {
                    Expected::Failure if request.kind == OPEN => request.reply(HANDLE).string("handle"),
                    Expected::Failure if !request.asks_for_data() => request.status(OK),
                    _ => files.answer(request),
                };
                (lie.tell)(client, request, &answer)
            })
        });
        Self { server, clients: TIMEOUTS.map(client), there, trials, next: AtomicUsize::new(0), start }
    }

    /// Does an operation in directories that are made for it.
    fn run(&self, operation: Operation, lie: Option<(u8, Lie)>) -> Ended {
        let is_true = lie.is_none_or(|(_, lie)| lie.outcome == Expected::Truth);
        for (client, timeout) in self.clients.iter().zip(TIMEOUTS).skip(if is_true { TIMEOUTS.len() - 1 } else { 0 }) {
            let ended = self.run_with(client, timeout, operation, lie);
            if lie.is_none() || ended.is_told {
                return ended;
            }
        }
        panic!("the lie is never told");
    }

    fn run_with(&self, client: &Client, timeout: Duration, operation: Operation, lie: Option<(u8, Lie)>) -> Ended {
        let directory = format!("trial-{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.trials.lock().unwrap().insert(directory.clone(), Trial { lie, ..Trial::default() });
        let (there, here) = (self.there.path(&directory), Scratch::new());
        for name in ["", "empty", "full", "full/deep"] {
            fs::create_dir(there.join(name)).unwrap();
        }
        for path in [there.join("file"), here.path("local")] {
            fs::write(path, noise(SIZE)).unwrap();
        }
        for path in [there.join("old"), there.join("full/deep/old"), here.path("old")] {
            fs::write(path, "old").unwrap();
        }
        fs::write(there.join("endless"), "").unwrap();
        symlink("file", there.join("link")).unwrap();
        let tree_here = || seen_from(&here.path(""), tree(&here.path("")));
        let tree_there = || seen_from(&there, tree(&there));
        let before = (tree_there(), tree_here());
        let sandbox = client.attach(self.server.name()).unwrap();
        let place = Place { sandbox, directory: directory.clone(), here };
        let began = Instant::now();
        let outcome = operation(&place);
        let took = began.elapsed();
        let here = place.here;
        let tree_here = seen_from(&here.path(""), tree(&here.path("")));
        let parts_here = here.names().iter().filter(|name| name.starts_with(".sandbox-")).count();
        let trial = self.trials.lock().unwrap().remove(&directory).unwrap();
        let (there, here) = ([before.0, tree_there()], [before.1, tree_here]);
        Ended { outcome, took, timeout, is_told: trial.is_told, seen: trial.seen, there, here, parts_here }
    }
}

fn client(timeout: Duration) -> Client {
    sshd::client(|config| config.max_sessions(2 * WORKERS).command_timeout(timeout).transfer_timeout(timeout))
}

/// The trial that a request belongs to, if it names one.
fn directory_of(request: &Request) -> Option<String> {
    let text = String::from_utf8_lossy(&request.body);
    let (_, rest) = text.split_once("trial-")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    Some(format!("trial-{}", &rest[..digits]))
}

impl Ended {
    /// What is wrong with it.
    fn complaint(&self, operation: &str, lie: &Lie, honest: &Self) -> Option<&'static str> {
        if self.took > self.timeout + SLACK {
            return Some("too late");
        }
        if self.parts_here > 0 && !(operation.contains("resumed") || operation.contains("rest")) {
            return Some("a part is left");
        }
        match (&self.outcome, lie.outcome) {
            (Ok(_), Expected::Failure) => Some("a success that is made up"),
            (Ok(found), _) if found != honest.outcome.as_ref().unwrap() => Some("something else is found"),
            (Ok(_), _) if self.there[1] != honest.there[1] => Some("something else is done there"),
            (Ok(_), _) if self.here[1] != honest.here[1] => Some("something else is done here"),
            (Ok(_), _) => None,
            (Err(_), Expected::Truth) => Some("the truth is not believed"),
            (Err(e), _) if !KINDS.contains(&e.kind()) => Some("another kind"),
            (Err(e), _) if !(is_of_something_else(e) || e.to_string().contains("trial-")) => {
                Some("the file is not named")
            }
            (Err(_), _) if self.here[1] != self.here[0] => Some("something is done here"),
            (Err(_), _) if works_in_place(operation) => None,
            (Err(_), _) => {
                let is_whole = |(path, found)| honest.there.iter().any(|tree| tree.get(path) == Some(found));
                (!self.there[1].iter().all(is_whole)).then_some("a file is neither old nor new")
            }
        }
    }
}

/// A connection that takes the place of a lost one may fail, too, and so may the command that tells a checksum.
fn is_of_something_else(e: &Error) -> bool {
    ["no request was sent to the sandbox", "the start of SFTP", "can't be started"]
        .iter()
        .any(|text| e.message().contains(text))
}

/// Tells lies of `LIES` in place of the answers to each kind of request that each of these operations makes.
fn tell(operations: &[(&'static str, Operation)], lies: impl Fn(usize, u8) -> &'static [Lie]) {
    let ground = Ground::new();
    // On new connections: old ones are asked whether they live.
    let honest: Vec<_> = operations
        .iter()
        .map(|(_, operation)| ground.run_with(&client(TIMEOUTS[2]), TIMEOUTS[2], *operation, None))
        .collect();
    let mut cases = Vec::new();
    for (index, ended) in honest.iter().enumerate() {
        assert!(ended.outcome.is_ok(), "{}: {:?}", operations[index].0, ended.outcome.as_ref().err());
        for kind in &ended.seen {
            cases.extend(lies(index, *kind).iter().map(|lie| (index, *kind, *lie)));
        }
    }
    let (next, complaints) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((index, kind, lie)) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = Request { kind: *kind, id: 0, body: Vec::new() };
                    if (lie.is_one_for)(&request) {
                        let (name, operation) = operations[*index];
                        let ended = ground.run(operation, Some((*kind, *lie)));
                        let what = format!("{name}, {} for request {kind}", lie.name);
                        println!("{what}: {:?} after {:?}", ended.outcome.as_ref().map(Vec::len), ended.took);
                        if let Some(complaint) = ended.complaint(name, lie, &honest[*index]) {
                            complaints
                                .lock()
                                .unwrap()
                                .push(format!("{complaint}: {what}: {:?}", ended.outcome.map(nothing)));
                        }
                    }
                }
            });
        }
    });
    let complaints = complaints.into_inner().unwrap();
    assert!(complaints.is_empty(), "{complaints:#?}");
    // The client is as good as before.
    for ((name, operation), honest) in operations.iter().zip(&honest) {
        let ended = ground.run(*operation, None);
        assert!(*ended.outcome.as_ref().expect(name) == *honest.outcome.as_ref().unwrap(), "{name}");
    }
}

static ALL: [Lie; LIES.len()] = LIES;

#[test]
fn lies_to_the_simplest_operation_of_a_kind() {
    let told = Mutex::new(Vec::new());
    tell(&OPERATIONS, |_, kind| {
        let mut told = told.lock().unwrap();
        if told.contains(&kind) {
            return &[];
        }
        told.push(kind);
        &ALL
    });
}

#[test]
fn lies_to_all_operations() {
    tell(&OPERATIONS, |_, _| &ALL[..FOR_ALL]);
}

/// Tells these lies for the requests of some kinds that the operations of these names make.
fn tell_some(names: &[&str], kinds: &[u8], lies: &'static [Lie]) {
    let chosen: Vec<_> = OPERATIONS.into_iter().filter(|(name, _)| names.contains(name)).collect();
    assert_eq!(chosen.len(), names.len());
    tell(&chosen, |_, kind| if kinds.contains(&kind) { lies } else { &[] });
}

/// Says something that is wrong without being broken.
const fn true_or_failure(name: &'static str, tell: Tell) -> Lie {
    Lie { outcome: Expected::TruthOrFailure, ..lie(name, tell) }
}

const fn truth(name: &'static str, tell: Tell) -> Lie {
    Lie { outcome: Expected::Truth, ..lie(name, tell) }
}

fn say(client: &mut Connection, request: &Request, kind: u8, body: Message) -> io::Result<()> {
    client.answer(&request.reply(kind).raw(&body.0))
}

fn fields() -> Message {
    Message(Vec::new())
}

#[test]
fn handles() {
    static LIES: [Lie; 9] = [
        lie("an empty handle", |c, r, _| say(c, r, HANDLE, fields().string(""))),
        lie("a handle that is not there", |c, r, _| say(c, r, HANDLE, fields().u32(u32::MAX))),
        lie("less than it says", |c, r, _| say(c, r, HANDLE, fields().u32(u32::MAX).raw(b"short"))),
        lie("257 bytes", |c, r, _| say(c, r, HANDLE, fields().string([b'x'; 257]))),
        lie("4093 bytes", |c, r, _| say(c, r, HANDLE, fields().string([b'x'; 4093]))),
        lie("200 000 bytes", |c, r, _| say(c, r, HANDLE, fields().string(vec![b'x'; 200_000]))),
        lie("a status without an error, and no handle", |c, r, _| c.answer(&r.status(OK))),
        true_or_failure("a status without an error, and then the handle", |c, r, answer| {
            c.answer(&r.status(OK))?;
            c.answer(answer)
        }),
        lie("a handle and a failure", |c, r, _| {
            say(c, r, HANDLE, fields().string("handle"))?;
            c.answer(&r.status(FAILURE))
        }),
    ];
    tell_some(&["File::metadata", "read", "read_dir", "append", "write"], &[OPEN, OPENDIR], &LIES);
}

#[test]
fn attributes_that_are_none() {
    static LIES: [Lie; 9] = [
        lie("none", |c, r, _| say(c, r, ATTRS, fields().u32(0).u32(0))),
        lie("only the owner", |c, r, _| say(c, r, ATTRS, fields().u32(ATTR_OWNER).u32(1).u32(2))),
        lie("a size beyond all positions", |c, r, _| sized(c, r, 1 << 63)),
        lie("everything but the bytes for it", |c, r, _| say(c, r, ATTRS, fields().u32(u32::MAX))),
        lie("a part of a size", |c, r, _| say(c, r, ATTRS, fields().u32(ATTR_SIZE).raw(&[0; 7]))),
        lie("2^32 - 1 extensions that are not there", |c, r, _| {
            say(c, r, ATTRS, fields().u32(ATTR_MODE | ATTR_EXTENDED).u32(0o100_644).u32(u32::MAX))
        }),
        lie("2^32 - 1 extensions of which some are there", |c, r, _| {
            say(c, r, ATTRS, fields().u32(ATTR_MODE | ATTR_EXTENDED).u32(0o100_644).u32(u32::MAX).raw(&[0; 100_000]))
        }),
        lie("an extension of 4 GiB", |c, r, _| {
            let extension = fields().u32(ATTR_MODE | ATTR_EXTENDED).u32(0o100_644).u32(1).u32(u32::MAX).u32(u32::MAX);
            say(c, r, ATTRS, extension)
        }),
        true_or_failure("flags that nobody knows", |c, _, answer| {
            let mut unknown = answer.clone();
            unknown.0[6] |= 0xff;
            c.answer(&unknown)
        }),
    ];
    let names =
        ["metadata", "symlink_metadata", "File::metadata", "exists", "canonicalize", "read", "upload", "download"];
    tell_some(&names, &[STAT, LSTAT, FSTAT], &LIES);
}

const FILE: u32 = 0o100_644;

fn sized(client: &mut Connection, request: &Request, size: u64) -> io::Result<()> {
    say(client, request, ATTRS, attributes(size, FILE))
}

#[test]
fn sizes_of_what_is_read() {
    static WRONG: [Lie; 6] = [
        lie("one byte more", |c, r, _| sized(c, r, SIZE as u64 + 1)),
        lie("2^63", |c, r, _| sized(c, r, 1 << 63)),
        lie("2^64 - 1", |c, r, _| sized(c, r, u64::MAX)),
        lie("a directory", |c, r, _| say(c, r, ATTRS, attributes(SIZE as u64, 0o040_755))),
        lie("a device", |c, r, _| say(c, r, ATTRS, attributes(SIZE as u64, 0o020_666))),
        // What has no size is read to its end.
        truth("0", |c, r, _| sized(c, r, 0)),
    ];
    let checked = ["download with checksum", "download of the rest"];
    tell_some(&[&checked[..], &["read", "download", "download_to"]].concat(), &[FSTAT], &WRONG);
}

/// Less than there is can't be told from a file that grows meanwhile: what it held at the beginning is what is moved,
/// unless a checksum says that this is not all.
#[test]
fn sizes_that_are_too_small() {
    const SIZES: [(usize, Lie); 3] = [
        (SIZE - 1, lie("one byte less", |c, r, _| sized(c, r, SIZE as u64 - 1))),
        (59_999, lie("less than was kept", |c, r, _| sized(c, r, 59_999))),
        (1, lie("one byte", |c, r, _| sized(c, r, 1))),
    ];
    let ground = Ground::new();
    for (size, lie) in SIZES {
        for (name, operation) in OPERATIONS {
            let is_checked = ["download with checksum", "download of the rest"].contains(&name);
            if !is_checked && !["read", "download", "download_to"].contains(&name) {
                continue;
            }
            let ended = ground.run_with(&ground.clients[2], TIMEOUTS[2], operation, Some((FSTAT, lie)));
            let what = format!("{name}, {}", lie.name);
            assert!(ended.is_told && ended.took < ended.timeout + SLACK, "{what}: {:?}", ended.took);
            match ended.outcome {
                Ok(found) => assert!(!is_checked && found == noise(SIZE)[..size], "{what}: {} bytes", found.len()),
                Err(e) => {
                    assert!(is_checked && e.kind() == ErrorKind::Transfer, "{what}: {e}");
                    assert!(ended.here[0] == ended.here[1], "{what}: something is done here");
                }
            }
        }
    }
}

/// Where an open file ends is what the server says; what is read there is what it gives.
#[test]
fn ends_of_an_open_file() {
    const READ_THE_END: Operation = |place| {
        let (mut file, mut rest) = (place.files().open(place.there("file"))?, Vec::new());
        let beyond = file.seek(SeekFrom::Start(1 << 63)).map_err(error_in).unwrap_err();
        assert_eq!(beyond.kind(), ErrorKind::InvalidArgument, "{beyond}");
        let end = file.seek(SeekFrom::End(0)).map_err(error_in)?;
        file.read_to_end(&mut rest).map_err(error_in)?;
        file.close()?;
        Ok(format!("{end} {}", rest.len()).into())
    };
    const WRITE_AT_THE_END: Operation = |place| {
        let mut file = place.files().open_with(place.there("file"), OpenOptions::new().write(true))?;
        let end = file.seek(SeekFrom::End(0)).map_err(error_in)?;
        file.write_all(b"more").map_err(error_in)?;
        file.close()?;
        Ok(end.to_string().into())
    };
    // What is read from there on, and the length of the file when something was written there.
    const ENDS: [(Lie, u64, usize, usize); 3] = [
        (lie("one byte more", |c, r, _| sized(c, r, SIZE as u64 + 1)), SIZE as u64 + 1, 0, SIZE + 5),
        (lie("one byte less", |c, r, _| sized(c, r, SIZE as u64 - 1)), SIZE as u64 - 1, 1, SIZE + 3),
        (lie("nothing", |c, r, _| sized(c, r, 0)), 0, SIZE, SIZE),
    ];
    let ground = Ground::new();
    for (lie, end, rest, length) in ENDS {
        for (operation, found, length) in
            [(READ_THE_END, format!("{end} {rest}"), SIZE), (WRITE_AT_THE_END, end.to_string(), length)]
        {
            let ended = ground.run_with(&ground.clients[2], TIMEOUTS[2], operation, Some((FSTAT, lie)));
            assert_eq!(String::from_utf8(ended.outcome.unwrap()).unwrap(), found, "{}", lie.name);
            assert_eq!(ended.there[1][Path::new("file")].1.len(), length, "{}", lie.name);
        }
    }
}

#[test]
fn sizes_of_what_was_written() {
    static LIES: [Lie; 5] = [
        lie("one byte more", |c, r, _| sized(c, r, SIZE as u64 + 1)),
        lie("one byte less", |c, r, _| sized(c, r, SIZE as u64 - 1)),
        lie("0", |c, r, _| sized(c, r, 0)),
        lie("2^64 - 1", |c, r, _| sized(c, r, u64::MAX)),
        lie("no size", |c, r, _| say(c, r, ATTRS, fields().u32(ATTR_MODE).u32(FILE))),
    ];
    let names = ["write", "upload", "upload_from", "upload with checksum", "upload to the disk"];
    tell_some(&names, &[LSTAT], &LIES);
}

#[test]
fn contents() {
    static LIES: [Lie; 6] = [
        lie("nothing, and no end", |c, r, _| say(c, r, DATA, fields().string(""))),
        lie("more than was asked for", |c, r, _| say(c, r, DATA, fields().string(vec![b'x'; 30_001]))),
        lie("the most that a packet holds", |c, r, _| say(c, r, DATA, fields().string(vec![b'x'; (256 << 10) - 9]))),
        lie("less than it says", |c, r, _| say(c, r, DATA, fields().u32(30_000).raw(b"short"))),
        lie("2^32 - 1 bytes that are not there", |c, r, _| {
            say(c, r, DATA, fields().u32(u32::MAX).raw(&[b'x'; 20_000]))
        }),
        true_or_failure("half of it", |c, r, answer| match answer.0[0] {
            DATA => say(c, r, DATA, fields().string(&answer.0[9..9 + (answer.0.len() - 9) / 2])),
            _ => c.answer(answer),
        }),
    ];
    static END: [Lie; 3] = [
        true_or_failure("byte by byte", |c, r, answer| match answer.0[0] {
            DATA => say(c, r, DATA, fields().string(&answer.0[9..10])),
            _ => c.answer(answer),
        }),
        lie("the end", |c, r, _| c.answer(&r.status(EOF))),
        lie("the end after some of it", |c, r, answer| match offset(r) {
            0 => c.answer(answer),
            _ => c.answer(&r.status(EOF)),
        }),
    ];
    static OTHER: [Lie; 1] = [lie("others", |c, r, answer| match answer.0[0] {
        DATA => say(c, r, DATA, fields().string(vec![b'x'; answer.0.len() - 9])),
        _ => c.answer(answer),
    })];
    let checked = ["download with checksum", "download of the rest"];
    let sized = ["read", "download", "download_to"];
    tell_some(&[&checked[..], &sized, &["File::read", "File::seek"]].concat(), &[READ], &LIES);
    tell_some(&[&checked[..], &sized].concat(), &[READ], &END);
    // SFTP alone can't tell.
    tell_some(&checked, &[READ], &OTHER);
}

/// Where a read or a write begins.
fn offset(request: &Request) -> u64 {
    let mut fields = Fields(&request.body);
    fields.string().and_then(|_| fields.u64()).unwrap()
}

#[test]
fn writes_that_fail_late() {
    static LIES: [Lie; 2] = [
        lie("failure", |c, r, answer| match offset(r) {
            60_000.. => c.answer(&r.status(FAILURE)),
            _ => c.answer(answer),
        }),
        lie("nothing", |c, r, answer| match offset(r) {
            60_000.. => Ok(()),
            _ => c.answer(answer),
        }),
    ];
    tell_some(&["upload", "upload_from", "upload with checksum"], &[WRITE], &LIES);
}

fn named(client: &mut Connection, request: &Request, name: impl AsRef<[u8]>) -> io::Result<()> {
    let entries = fields().u32(2).raw(&entry("a", &attributes(1, FILE)).0).raw(&entry(name, &attributes(1, FILE)).0);
    say(client, request, NAME, entries)
}

#[test]
fn listings() {
    static LIES: [Lie; 19] = [
        lie("an empty name", |c, r, _| named(c, r, "")),
        lie("a name with a slash", |c, r, _| named(c, r, "a/b")),
        lie("a way out", |c, r, _| named(c, r, "../../etc/passwd")),
        lie("the root", |c, r, _| named(c, r, "/")),
        lie("a NUL", |c, r, _| named(c, r, "\0")),
        lie("a name with a NUL", |c, r, _| named(c, r, "a\0b")),
        lie("a name of 4096 bytes", |c, r, _| named(c, r, [b'x'; 4096])),
        lie("a name of 64 KiB", |c, r, _| named(c, r, vec![b'x'; 64 << 10])),
        lie("a name of 8 MiB", |c, r, _| named(c, r, vec![b'x'; 4 << 20])),
        lie("a name that is not there", |c, r, _| say(c, r, NAME, fields().u32(1).u32(u32::MAX).raw(&[0; 50]))),
        lie("2^32 - 1 names", |c, r, _| {
            say(c, r, NAME, fields().u32(u32::MAX).raw(&entry("a", &attributes(1, FILE)).0))
        }),
        lie("one name too few", |c, r, _| say(c, r, NAME, fields().u32(2).raw(&entry("a", &attributes(1, FILE)).0))),
        lie("a name without attributes", |c, r, _| say(c, r, NAME, fields().u32(1).string("a").string("a"))),
        lie("attributes that are not there", |c, r, _| {
            say(c, r, NAME, fields().u32(1).raw(&entry("a", &fields().u32(u32::MAX)).0))
        }),
        lie("a size beyond all positions", |c, r, _| {
            say(c, r, NAME, fields().u32(1).raw(&entry("a", &attributes(1 << 63, FILE)).0))
        }),
        lie("2^32 - 1 extensions", |c, r, _| {
            let extended = fields().u32(ATTR_EXTENDED).u32(u32::MAX).raw(&[0; 200_000]);
            say(c, r, NAME, fields().u32(1).raw(&entry("a", &extended).0))
        }),
        // Endless, as each request is answered by this.
        lie("the same names again and again", |c, r, _| named(c, r, "b")),
        lie("nothing but dots again and again", |c, r, _| {
            let dots = vec![entry(".", &fields().u32(0)).0; 4000].concat();
            say(c, r, NAME, fields().u32(4000).raw(&dots))
        }),
        lie("long names again and again", |c, r, _| {
            let names = vec![entry([b'x'; 4000], &fields().u32(0)).0; 30].concat();
            say(c, r, NAME, fields().u32(30).raw(&names))
        }),
    ];
    tell_some(&["read_dir"], &[READDIR], &LIES);
}

/// A listing without end is given up at its limit: of entries, or of the bytes of their names.
#[test]
fn listings_without_end() {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    fn many(client: &mut Connection, request: &Request, count: usize, name: &[u8]) -> io::Result<()> {
        TOLD.fetch_add(count, Ordering::Relaxed);
        let entry = fields().string(name).string("").u32(0);
        say(client, request, NAME, fields().u32(u32::try_from(count).unwrap()).raw(&entry.0.repeat(count)))
    }
    const LISTINGS: [(Lie, usize); 2] = [
        (lie("long names", |c, r, _| many(c, r, 50, &[b'x'; 4000])), (64 << 20) / 4000),
        (lie("many names", |c, r, _| many(c, r, 5000, &[b'x'; 20])), 1 << 20),
    ];
    let (ground, timeout) = (Ground::new(), Duration::from_secs(300));
    let (_, operation) = OPERATIONS.into_iter().find(|(name, _)| *name == "read_dir").unwrap();
    for (lie, limit) in LISTINGS {
        TOLD.store(0, Ordering::Relaxed);
        let ended = ground.run_with(&client(timeout), timeout, operation, Some((READDIR, lie)));
        let (error, told) = (ended.outcome.expect_err(lie.name), TOLD.load(Ordering::Relaxed));
        println!("{}: {told} entries, {:?}: {error}", lie.name, ended.took);
        assert!(error.kind() == ErrorKind::Transfer && error.to_string().contains("64 MiB of names"), "{error}");
        assert!((limit..limit + 10_001).contains(&told), "{}: {told} entries were taken", lie.name);
    }
}

#[test]
fn names_of_links() {
    static LIES: [Lie; 8] = [
        lie("no name", |c, r, _| say(c, r, NAME, fields().u32(0))),
        lie("an empty name", |c, r, _| say(c, r, NAME, fields().u32(1).string("").string("").u32(0))),
        lie("a NUL", |c, r, _| say(c, r, NAME, fields().u32(1).string("a\0b").string("").u32(0))),
        lie("a name of 4097 bytes", |c, r, _| say(c, r, NAME, fields().u32(1).string([b'x'; 4097]).string("").u32(0))),
        lie("a name of 200 000 bytes", |c, r, _| {
            say(c, r, NAME, fields().u32(1).string(vec![b'x'; 200_000]).string("").u32(0))
        }),
        lie("a name that is not there", |c, r, _| say(c, r, NAME, fields().u32(1).u32(u32::MAX))),
        lie("less than it says", |c, r, _| say(c, r, NAME, fields().u32(1).u32(100).raw(b"short"))),
        true_or_failure("2^32 - 1 names", |c, _, answer| {
            let mut many = answer.clone();
            many.0[5..9].copy_from_slice(&u32::MAX.to_be_bytes());
            c.answer(&many)
        }),
    ];
    static RELATIVE: [Lie; 1] =
        [lie("a path that is not absolute", |c, r, _| say(c, r, NAME, fields().u32(1).string("a").string("").u32(0)))];
    tell_some(&["read_link", "canonicalize"], &[READLINK, REALPATH], &LIES);
    tell_some(&["canonicalize"], &[REALPATH], &RELATIVE);
}

/// Starts of SFTP that are none: nothing is done then, and the file is as it was.
#[test]
fn starts_that_are_none() {
    const STARTS: [(&str, Tell); 14] = [
        ("no number", |c, _, _| c.answer(&Message::new(VERSION))),
        ("half a number", |c, _, _| c.answer(&Message::new(VERSION).raw(&[0, 0]))),
        ("an extension without a name", |c, _, answer| c.answer(&answer.clone().u32(u32::MAX))),
        ("an extension that is cut off", |c, _, answer| c.answer(&answer.clone().u32(10).raw(b"short"))),
        ("an extension without data", |c, _, answer| c.answer(&answer.clone().string("name"))),
        ("something behind the extensions", |c, _, answer| c.answer(&answer.clone().raw(&[0; 3]))),
        ("a status", |c, r, _| c.answer(&r.status(FAILURE))),
        ("a handle", |c, r, _| c.answer(&r.reply(HANDLE).string("handle"))),
        ("nothing", |_, _, _| Ok(())),
        ("half of it", |c, _, answer| c.data(&framed(answer)[..10])),
        ("a packet of nothing", |c, _, answer| c.data(with_length(0, answer))),
        ("a packet of 4 GiB", |c, _, answer| c.data(with_length(u32::MAX, answer))),
        ("the end", |c, _, _| c.eof().and_then(|()| c.close_channel())),
        ("a reset", |c, _, _| c.transport.reset()),
    ];
    with_starts("write", 1, &STARTS, |ended, what| {
        let error = ended.outcome.as_ref().expect_err(what);
        let kinds = [ErrorKind::Connect, ErrorKind::Disconnected, ErrorKind::TimedOut];
        assert!(
            kinds.contains(&error.kind()) && ended.took < ended.timeout + SLACK,
            "{what}: {error} after {:?}",
            ended.took
        );
        assert!(ended.there[0] == ended.there[1], "{what}: something is done");
    });
}

/// A server need not be able to do all that OpenSSH's can. What it can't do is an error.
#[test]
fn starts_of_other_servers() {
    const STARTS: [(&str, Tell); 10] = [
        ("version 0", |c, _, _| c.answer(&Message::new(VERSION).u32(0))),
        ("version 1", |c, _, _| c.answer(&Message::new(VERSION).u32(1))),
        ("version 2", |c, _, _| c.answer(&Message::new(VERSION).u32(2))),
        ("version 6", |c, _, _| c.answer(&Message::new(VERSION).u32(6))),
        ("version 2^32 - 1", |c, _, _| c.answer(&Message::new(VERSION).u32(u32::MAX))),
        ("no extensions", |c, _, _| c.answer(&Message::new(VERSION).u32(3))),
        ("another rename", |c, _, _| {
            c.answer(&Message::new(VERSION).u32(3).string("posix-rename@openssh.com").string("18446744073709551617"))
        }),
        ("a rename without a version", |c, _, _| {
            c.answer(&Message::new(VERSION).u32(3).string("posix-rename@openssh.com").string(""))
        }),
        ("many extensions", |c, _, _| {
            let many = (0..10_000).fold(Message::new(VERSION).u32(3), |all, _| all.string("name").string("1"));
            c.answer(&many)
        }),
        ("a long extension", |c, _, _| c.answer(&Message::new(VERSION).u32(3).string(vec![0; 200_000]).string("1"))),
    ];
    with_starts("rename", 2, &STARTS, |ended, what| {
        let error = ended.outcome.as_ref().expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Transfer, "{what}: {error}");
        assert!(error.to_string().contains("the SFTP server can't do that"), "{what}: {error}");
        assert!(ended.there[0] == ended.there[1], "{what}: something is done");
    });
}

/// Does the operation of this name with servers that start like this.
fn with_starts(operation: &str, timeout: usize, starts: &[(&'static str, Tell)], check: impl Fn(&Ended, &str) + Sync) {
    let (_, operation) = OPERATIONS.into_iter().find(|(name, _)| *name == operation).unwrap();
    // One server says the same to everybody at a time, and each start takes a client without connections.
    thread::scope(|scope| {
        for some in starts.chunks(starts.len().div_ceil(5)) {
            let check = &check;
            scope.spawn(move || {
                let ground = Ground::new();
                for (what, tell) in some {
                    *ground.start.lock().unwrap() = Some(*tell);
                    let ended = ground.run_with(&client(TIMEOUTS[timeout]), TIMEOUTS[timeout], operation, None);
                    println!("{what}: {:?} after {:?}", ended.outcome.as_ref().map(Vec::len), ended.took);
                    check(&ended, what);
                }
                *ground.start.lock().unwrap() = None;
                ground.run(operation, None).outcome.expect("the client is as good as before");
            });
        }
    });
}

/// Sends this many packets at a time without end, and counts the bytes.
fn flood(client: &mut Connection, packet: &Message, count: usize, sent: &AtomicU64) -> io::Result<()> {
    let packets = framed(packet).repeat(count);
    loop {
        client.transport.check_age()?;
        for piece in packets.chunks(30_000) {
            client.say(piece)?;
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }
}

/// What nobody asked for has to be kept, since it may be asked for yet. So there is a limit, long before the time runs
/// out.
#[test]
fn answers_to_nobody_fill_no_memory() {
    static SENT: AtomicU64 = AtomicU64::new(0);
    const FLOODS: [Lie; 2] = [
        lie("long ones", |c, r, _| flood(c, &Message::new(STATUS).u32(!r.id).raw(&[0; 200_000]), 1, &SENT)),
        true_or_failure("an honest one among them", |c, r, answer| {
            for _ in 0..20 {
                c.answer(&Message::new(DATA).u32(!r.id).raw(&[0; 200_000]))?;
                SENT.fetch_add(200_000, Ordering::Relaxed);
            }
            c.answer(answer)
        }),
    ];
    let ground = Ground::new();
    for (name, kind) in [("metadata", STAT), ("read", READ), ("read_dir", READDIR), ("write", WRITE)] {
        let (_, operation) = OPERATIONS.into_iter().find(|(of, _)| *of == name).unwrap();
        for lie in FLOODS {
            SENT.store(0, Ordering::Relaxed);
            let ended = ground.run_with(&ground.clients[2], TIMEOUTS[2], operation, Some((kind, lie)));
            let (what, sent) = (format!("{name}, {}", lie.name), SENT.load(Ordering::Relaxed));
            println!("{what}: {:?} after {:?} and {sent} bytes", ended.outcome.as_ref().map(Vec::len), ended.took);
            assert!(sent < 32 << 20, "{what}: {sent} bytes were taken");
            if let Err(e) = ended.outcome {
                assert!([ErrorKind::Disconnected, ErrorKind::OutcomeUnknown].contains(&e.kind()), "{what}: {e}");
                assert!(e.to_string().contains("sends data that was not requested"), "{what}: {e}");
            }
        }
    }
}

/// libssh2 looks through all that it keeps at each packet, so that a few MiB of short ones would take it minutes.
#[test]
fn short_answers_to_nobody_take_no_longer_than_the_time_allows() {
    static UNCOUNTED: AtomicU64 = AtomicU64::new(0);
    const FLOOD: Lie = lie("short ones", |c, r, _| flood(c, &Message::new(STATUS).u32(!r.id), 20_000, &UNCOUNTED));
    let ground = Ground::new();
    for (name, kind) in [("metadata", STAT), ("read", READ), ("read_dir", READDIR), ("write", CLOSE)] {
        let (_, operation) = OPERATIONS.into_iter().find(|(of, _)| *of == name).unwrap();
        let ended = ground.run(operation, Some((kind, FLOOD)));
        println!("{name}: {:?} after {:?}", ended.outcome, ended.took);
        assert!(ended.took < ended.timeout + SLACK, "{name} took {:?}", ended.took);
        let error = ended.outcome.expect_err(name);
        let kinds = [ErrorKind::TimedOut, ErrorKind::Disconnected, ErrorKind::OutcomeUnknown];
        assert!(kinds.contains(&error.kind()), "{name}: {error}");
    }
}

/// A file that never ends is read until the limit, or until the time runs out.
#[test]
fn a_file_without_end() {
    const ENDLESS: Lie = lie("more", |c, r, _| say(c, r, DATA, fields().string([b'x'; 30_000])));
    const UNTIL_THE_LIMIT: Operation = |place| {
        let mut transfer = place.files().transfer().max_bytes(1 << 20);
        transfer.download(place.there("endless"), place.here("old")).map(nothing)
    };
    const FOR_EVER: Operation = |place| place.files().download(place.there("endless"), place.here("old")).map(nothing);
    const TO_NOBODY: Operation =
        |place| place.files().transfer().download_to(place.there("endless"), io::sink()).map(nothing);
    let ground = Ground::new();
    for (what, operation, kind) in [
        ("until the limit", UNTIL_THE_LIMIT, ErrorKind::Transfer),
        ("for ever", FOR_EVER, ErrorKind::TimedOut),
        ("to nobody", TO_NOBODY, ErrorKind::TimedOut),
    ] {
        let lie = Some((READ, ENDLESS));
        let ended = match kind {
            // Done again with more time where the machine is too busy for it to get to the lie.
            ErrorKind::TimedOut => ground.run(operation, lie),
            _ => ground.run_with(&ground.clients[2], TIMEOUTS[2], operation, lie),
        };
        let error = ended.outcome.as_ref().expect_err(what);
        assert!(error.kind() == kind && ended.took < ended.timeout + SLACK, "{what}: {error} after {:?}", ended.took);
        assert!(ended.is_told && ended.here[0] == ended.here[1] && ended.parts_here == 0, "{what}: something is done");
    }
}
