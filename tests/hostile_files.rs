//! What a program gets from a sandbox whose SFTP server lies: an error in time, or what is true; never a success that is made up, and
//! never a file that is half new. These tests run in the cluster's network only, with the library and libssh2 under AddressSanitizer.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, reason = "a test program")]

mod common;
mod sshd;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{Scratch, config, noise};
use sandbox::{Client, Error, ErrorKind, OpenOptions, Result, Sandbox, Transport};
use sshd::Server;
use sshd::connection::Connection;
use sshd::sftp::*;
use sshd::wire::*;

/// How long an operation may take.
const TIMEOUT: Duration = Duration::from_millis(1500);
/// For tidying up, for the verdict of Kubernetes, and for a machine that is busy with all of these tests at once.
const SLACK: Duration = Duration::from_secs(8);
/// Trials at the same time: most of them wait.
const WORKERS: usize = 16;
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
const OPERATIONS: [(&str, Operation); 37] = [
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

const LIES: [Lie; 40] = [
    // What all operations are told, whatever they ask.
    lie("a packet of 4 GiB", |client, _, answer| client.stdout(with_length(u32::MAX, answer))),
    lie("failure", |client, request, _| client.answer(&request.status(FAILURE))),
    lie("the end of the channel", |client, _, _| client.eof().and_then(|()| client.close_channel())),
    // What the simplest operation is told.
    lie("a packet of nothing", |client, _, answer| client.stdout(with_length(0, answer))),
    lie("a packet of 4 bytes", |client, _, answer| client.stdout(with_length(4, answer))),
    lie("a packet of 2 GiB", |client, _, answer| client.stdout(with_length(1 << 31, answer))),
    lie("a packet of more than 256 KiB", |client, _, answer| client.stdout(with_length((256 << 10) + 1, answer))),
    lie("type 0", |client, request, _| client.answer(&request.reply(0).raw(&[0; 20]))),
    lie("type 255", |client, request, _| client.answer(&request.reply(255).raw(&[0; 20]))),
    lie("no more than type and id", |client, _, answer| client.answer(&Message(answer.0[..5].to_vec()))),
    lie("half a status", |client, _, answer| client.answer(&Message(answer.0[..7].to_vec()))),
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
    lie("status 31 bits", |client, request, _| client.answer(&request.status(i32::MAX.cast_unsigned()))),
    lie("status 32 bits", |client, request, _| client.answer(&request.status(u32::MAX))),
    lie("status -31", |client, request, _| client.answer(&request.status((-31_i32).cast_unsigned()))),
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
        is_one_for: |request| !matches!(request.kind, READDIR | READLINK | REALPATH),
        ..lie("an empty name", |client, request, _| {
            let name = entry("", &attributes(1, 0o100_644));
            client.answer(&request.reply(NAME).u32(1).raw(&name.0))
        })
    },
    Lie {
        is_one_for: |request| !matches!(request.kind, STAT | LSTAT | FSTAT),
        ..lie("attributes", |client, request, _| client.answer(&request.reply(ATTRS).raw(&attributes(1, 0o100_644).0)))
    },
    lie("an extended reply", |client, request, _| client.answer(&request.reply(EXTENDED_REPLY).raw(&[1; 100]))),
    lie("the client's own request", |client, request, _| {
        client.answer(&request.reply(request.kind).raw(&request.body))
    }),
    lie("an answer to another request", |client, request, answer| {
        let other = request.id.wrapping_add(1).to_be_bytes();
        client.answer(&Message([&answer.0[..1], &other, &answer.0[5..]].concat()))
    }),
    lie("nothing", |_, _, _| Ok(())),
    lie("half an answer and nothing", |client, _, answer| client.stdout(&framed(answer)[..11])),
    lie("half an answer and the end", |client, _, answer| {
        client.stdout(&framed(answer)[..11])?;
        client.eof()?;
        client.close_channel()
    }),
    lie("half a length and the end", |client, _, answer| {
        client.stdout(&framed(answer)[..2])?;
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
            _ => framed(answer).iter().try_for_each(|byte| client.stdout([*byte])),
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
            client.stderr("careful")?;
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
const KINDS: [ErrorKind; 6] = [
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
    client: Client,
    there: Arc<Scratch>,
    trials: Trials,
    next: AtomicUsize,
}

type Trials = Arc<Mutex<HashMap<String, Trial>>>;

#[derive(Clone, Default)]
struct Trial {
    /// The kind of request that is answered by a lie.
    lie: Option<(u8, Lie)>,
    /// The kinds of requests that have come, each once.
    seen: Vec<u8>,
}

/// What is in a directory, without what is left of transfers.
type Tree = BTreeMap<PathBuf, (u32, Vec<u8>)>;

fn tree(directory: &Path) -> Tree {
    let mut tree = Tree::new();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
        let (path, found) = (entry.path(), entry.metadata().unwrap());
        if entry.file_name().as_encoded_bytes().starts_with(b".sandbox-") {
            continue;
        }
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
    seen: Vec<u8>,
    there: [Tree; 2],
    here: [Tree; 2],
    parts_here: usize,
}

impl Ground {
    fn new() -> Self {
        let (there, trials) = (Arc::new(Scratch::new()), Trials::default());
        let (root, known) = (Arc::clone(&there), Arc::clone(&trials));
        let server = Server::start(move |client: &mut Connection| {
            client.log_in()?;
            let mut directory = None;
            client.serve_files(&root.path(""), |client: &mut Connection, files: &mut Files, request: &Request| {
                if let Some(name) = directory_of(request) {
                    directory = Some(name);
                }
                let mut lie = None;
                if let Some(trial) = directory.as_ref().and_then(|name| {
                    known.lock().unwrap().get_mut(name).map(|t| {
                        if !t.seen.contains(&request.kind) {
                            t.seen.push(request.kind);
                        }
                        t.clone()
                    })
                }) {
                    lie = trial.lie.filter(|(kind, lie)| *kind == request.kind && (lie.is_one_for)(request));
                }
                let Some((_, lie)) = lie else {
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
        Self { server, client: client(), there, trials, next: AtomicUsize::new(0) }
    }

    /// Does an operation in directories that are made for it.
    fn run(&self, operation: Operation, lie: Option<(u8, Lie)>) -> Ended {
        self.run_with(&self.client, operation, lie)
    }

    fn run_with(&self, client: &Client, operation: Operation, lie: Option<(u8, Lie)>) -> Ended {
        let directory = format!("trial-{}", self.next.fetch_add(1, Ordering::Relaxed));
        self.trials.lock().unwrap().insert(directory.clone(), Trial { lie, seen: Vec::new() });
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
        Ended { outcome, took, seen: trial.seen, there, here, parts_here }
    }
}

fn client() -> Client {
    let config = config().transport(Transport::Direct).max_sessions(2 * WORKERS);
    Client::new(config.command_timeout(TIMEOUT).transfer_timeout(TIMEOUT)).unwrap()
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
        if self.took > TIMEOUT + SLACK {
            return Some("too late");
        }
        if self.parts_here > 0 && !operation.contains("resumed") {
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
            (Err(e), _) if !e.to_string().contains("trial-") => Some("the file is not named"),
            (Err(_), _) if self.here[1] != self.here[0] => Some("something is done here"),
            (Err(_), _) if works_in_place(operation) => None,
            (Err(_), _) => {
                let is_whole = |(path, found)| honest.there.iter().any(|tree| tree.get(path) == Some(found));
                (!self.there[1].iter().all(is_whole)).then_some("a file is neither old nor new")
            }
        }
    }
}

/// Tells lies of `LIES` in place of the answers to each kind of request that each of these operations makes.
fn tell(operations: &[(&'static str, Operation)], lies: impl Fn(usize, u8) -> &'static [Lie]) {
    let ground = Ground::new();
    // On new connections: old ones are asked whether they live.
    let honest: Vec<_> = operations.iter().map(|(_, operation)| ground.run_with(&client(), *operation, None)).collect();
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
