//! The connection is cut in the middle of each operation on files, by a server that ends it, by one that stops and by a
//! cable that is pulled: the error is of the right kind, names the file and says how far it came; what was there is
//! intact on both sides; a retry succeeds.
//!
//! `common/tracer.c` stops each operation at one of the guest's calls to the system.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use common::{
    Cable, Position, Scratch, Tracer, await_that, beside, client_over, config, create, disconnect, position,
    served_connections, steady_transports,
};
use sandbox::{Client, Config, Error, ErrorKind, File, Files, OpenOptions, Sandbox, Transport};

/// More than one packet and less than all that may be on its way.
const BIG: usize = 3_000_000;

/// More than input may be on its way to a command, so that its end is not when it is cut.
const HUGE: usize = 20_000_000;

/// How many operations begin at a time: each may have to log in, and a busy machine takes longer for all of them than
/// one may wait.
const AT_A_TIME: usize = 8;

/// What a lost connection means for an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Nature {
    /// Harmless to repeat: asked again by itself if the connection had been used before.
    Question,
    /// Moves bytes, or uses an open file: ends, and can be done again.
    Transfer,
    /// Gives a whole file its name: another connection tells whether it was done.
    Renaming,
    /// Is done at most once.
    Change,
}
use Nature::{Change, Question, Renaming, Transfer};

struct Operation {
    name: &'static str,
    /// The call in the sandbox in which it is cut.
    call: &'static str,
    nature: Nature,
    /// What its error has to say, beside the file's name.
    says: &'static str,
    /// A line of shell in its directory, where the file `file` says "old".
    prepare: &'static str,
    /// Returns how many bytes were resumed.
    run: fn(&Place<'_>) -> Result<u64, Error>,
    /// A line of shell that says `old` before it is done, and `new` then.
    look: &'static str,
    old: &'static str,
    new: &'static str,
}

/// Where one operation works.
struct Place<'a> {
    files: Files<'a>,
    there: String,
    here: PathBuf,
}

impl Place<'_> {
    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.there)
    }

    fn here(&self, name: &str) -> PathBuf {
        self.here.join(name)
    }

    fn open(&self, name: &str, options: &mut OpenOptions) -> File {
        self.files.open_with(self.at(name), options).unwrap()
    }

    /// A local file that becomes `file` there.
    fn upload(&self, change: impl FnOnce(sandbox::Transfer<'_>) -> sandbox::Transfer<'_>) -> Result<u64, Error> {
        change(self.files.transfer()).upload(self.here("big"), self.at("file")).map(|moved| moved.resumed)
    }

    fn download(&self, resume: bool) -> Result<u64, Error> {
        self.files.transfer().resume(resume).download(self.at("big"), self.here("back")).map(|moved| moved.resumed)
    }
}

fn inner(e: std::io::Error) -> Error {
    e.downcast().unwrap()
}

/// The table: all operations of `Files`, `File` and `Transfer` that ask something of the sandbox.
fn operations() -> Vec<Operation> {
    let ask = |name, call, prepare, run| Operation {
        name,
        call,
        nature: Question,
        says: "",
        prepare,
        run,
        look: "cat file",
        old: "old",
        new: "old",
    };
    let get = |name, run| Operation { nature: Transfer, says: "beyond byte ", ..ask(name, "read@20", BIG_FILE, run) };
    let put = |name, call, says, run| Operation {
        nature: Transfer,
        says,
        look: SIZE,
        old: "4",
        new: "3000000",
        ..ask(name, call, "", run)
    };
    let name = |name, run| Operation { nature: Renaming, ..put(name, "rename", "may have been made", run) };
    let tree = |name, call, says, run| Operation { nature: Transfer, says, ..ask(name, call, "", run) };
    let used = |name, call, says, run| Operation {
        nature: Transfer,
        says,
        look: "true",
        old: "",
        new: "",
        ..ask(name, call, BIG_FILE, run)
    };
    let change = |name, call, prepare, run, look, old, new| Operation {
        nature: Change,
        says: "may have been made",
        look,
        old,
        new,
        ..ask(name, call, prepare, run)
    };
    const BIG_FILE: &str = "head -c 3000000 /dev/zero > big";
    const SIZE: &str = "stat -c %s file";
    vec![
        ask("metadata", "stat", "", |p| p.files.metadata(p.at("file")).map(|_| 0)),
        ask("symlink_metadata", "lstat", "", |p| p.files.symlink_metadata(p.at("file")).map(|_| 0)),
        ask("exists", "stat", "", |p| p.files.exists(p.at("file")).map(u64::from)),
        ask("read_link", "readlink", "ln -s file link", |p| p.files.read_link(p.at("link")).map(|_| 0)),
        ask("canonicalize", "lstat", "", |p| p.files.canonicalize(p.at("file")).map(|_| 0)),
        Operation {
            says: "listed beyond ",
            ..ask("read_dir", "readdir@2", "seq 3000 | xargs touch", |p| {
                p.files.read_dir(&p.there).map(|entries| assert_eq!(entries.len(), 3001)).map(|()| 0)
            })
        },
        ask("open", "open", "", |p| p.files.open(p.at("file")).map(|_| 0)),
        ask("read: open", "open", "", |p| p.files.read(p.at("file")).map(|_| 0)),
        Operation {
            look: "stat -c %a file",
            old: "644",
            new: "600",
            ..ask("set_permissions", "chmod", "", |p| p.files.set_permissions(p.at("file"), 0o600).map(|()| 0))
        },
        Operation {
            look: "test ! -d a/b/c || echo made",
            old: "",
            new: "made",
            ..ask("create_dir_all", "mkdir@4", "", |p| p.files.create_dir_all(p.at("a/b/c")).map(|()| 0))
        },
        Operation {
            nature: Question,
            ..put("write: open", "open", "", |p| p.files.write(p.at("file"), vec![0; BIG]).map(|()| 0))
        },
        get("read", |p| p.files.read(p.at("big")).map(|_| 0)),
        get("download", |p| p.download(false)),
        // So late that some of it has arrived: the guest answers many reads at once.
        Operation { call: "read@80", ..get("resume download", |p| p.download(true)) },
        get("download_to", |p| p.files.transfer().download_to(p.at("big"), std::io::sink()).map(|_| 0)),
        put("write", "write@20", "beyond byte ", |p| p.files.write(p.at("file"), vec![0; BIG]).map(|()| 0)),
        put("upload", "write@20", "beyond byte ", |p| p.upload(|t| t)),
        put("resume upload", "write@20", "beyond byte ", |p| p.upload(|t| t.resume(true))),
        put("upload_from", "write@20", "beyond byte ", |p| {
            p.files.transfer().upload_from(&vec![0; BIG][..], p.at("file")).map(|_| 0)
        }),
        put("upload: sync", "fsync", "synced to disk", |p| p.upload(|t| t.sync(true))),
        Operation { nature: Change, ..put("upload: close", "close", "moved into place", |p| p.upload(|t| t)) },
        Operation {
            nature: Change,
            ..name("write: rename", |p| p.files.write(p.at("file"), vec![0; BIG]).map(|()| 0))
        },
        Operation { nature: Change, ..name("checksum upload: rename", |p| p.upload(|t| t.checksum(true))) },
        name("resume upload: rename", |p| p.upload(|t| t.resume(true))),
        Operation {
            look: "test ! -e new || stat -c %s new/big",
            old: "",
            new: "20000000",
            ..tree("upload_dir", "write@3", "beyond '", |p| {
                std::fs::write(p.here("big"), vec![1; HUGE]).unwrap();
                p.files.upload_dir(&p.here, p.at("new")).map(|_| 0)
            })
        },
        Operation {
            nature: Change,
            look: "test ! -e new || stat -c %s new/big",
            old: "",
            new: "3000000",
            ..tree("upload_dir: rename", "rename", "", |p| p.files.upload_dir(&p.here, p.at("new")).map(|_| 0))
        },
        Operation {
            nature: Change,
            prepare: "mkdir t; echo old > t/big",
            look: "stat -c %s t/big",
            old: "4",
            new: "3000000",
            ..tree("upload_dir: merge", "rename", "", |p| p.files.upload_dir(&p.here, p.at("t")).map(|_| 0))
        },
        Operation {
            prepare: BIG_FILE,
            ..tree("download_dir", "read@3", "beyond 'big'", |p| {
                p.files.download_dir(&p.there, p.here("back.d")).map(|_| 0)
            })
        },
        used("File::read", "read@20", "beyond byte ", |p| {
            p.open("big", OpenOptions::new().read(true)).read_to_end(&mut Vec::new()).map_err(inner).map(|_| 0)
        }),
        used("File::write", "write@20", "beyond byte ", |p| {
            p.open("big", OpenOptions::new().write(true)).write_all(&vec![0; BIG]).map_err(inner).map(|()| 0)
        }),
        used("File::seek", "fstat@2", "looked at", |p| {
            p.open("big", OpenOptions::new().read(true)).seek(SeekFrom::End(0)).map_err(inner).map(|_| 0)
        }),
        used("File::metadata", "fstat@2", "looked at", |p| {
            p.open("big", OpenOptions::new().read(true)).metadata().map(|_| 0)
        }),
        used("File::set_len", "ftruncate", "changed", |p| {
            p.open("big", OpenOptions::new().write(true)).set_len(5).map(|()| 0)
        }),
        used("File::set_permissions", "fchmod", "changed", |p| {
            p.open("big", OpenOptions::new().write(true)).set_permissions(0o600).map(|()| 0)
        }),
        used("File::sync_all", "fsync", "synced to disk", |p| {
            p.open("big", OpenOptions::new().write(true)).sync_all().map(|()| 0)
        }),
        used("File::close", "close", "closed", |p| p.open("big", OpenOptions::new().read(true)).close().map(|()| 0)),
        change(
            "open: create_new",
            "open",
            "",
            |p| p.files.open_with(p.at("new"), OpenOptions::new().write(true).create_new(true)).map(|_| 0),
            "test ! -e new || echo made",
            "",
            "made",
        ),
        change(
            "append",
            "write",
            "",
            |p| p.files.append(p.at("file"), "new").map(|()| 0),
            "cat file",
            "old",
            "old\nnew",
        ),
        change(
            "append: close",
            "close",
            "",
            |p| p.files.append(p.at("file"), "new").map(|()| 0),
            "cat file",
            "old",
            "old\nnew",
        ),
        change(
            "File::append",
            "write",
            "",
            |p| {
                let mut file = p.open("file", OpenOptions::new().append(true));
                file.write_all(b"new").map_err(inner).map(|()| 0)
            },
            "cat file",
            "old",
            "old\nnew",
        ),
        change(
            "create_dir",
            "mkdir",
            "",
            |p| p.files.create_dir(p.at("d")).map(|()| 0),
            "test ! -d d || echo made",
            "",
            "made",
        ),
        change(
            "rename",
            "rename",
            "",
            |p| p.files.rename(p.at("file"), p.at("new")).map(|()| 0),
            "cat new || true",
            "",
            "old",
        ),
        change(
            "remove_file",
            "unlink",
            "",
            |p| p.files.remove_file(p.at("file")).map(|()| 0),
            "cat file || true",
            "old",
            "",
        ),
        change(
            "remove_dir",
            "rmdir",
            "mkdir d",
            |p| p.files.remove_dir(p.at("d")).map(|()| 0),
            "test -d d || echo gone",
            "",
            "gone",
        ),
        Operation {
            says: "removed",
            ..change(
                "remove_dir_all",
                "unlink",
                "mkdir d; touch d/x",
                |p| p.files.remove_dir_all(p.at("d")).map(|()| 0),
                "test -d d || echo gone",
                "",
                "gone",
            )
        },
        change(
            "symlink",
            "symlink",
            "",
            |p| p.files.symlink("file", p.at("link")).map(|()| 0),
            "readlink link || true",
            "",
            "file",
        ),
    ]
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cut {
    Ended,
    Stopped,
    Pulled,
}

/// Waits until each of these operations is at its call.
fn await_held(tracer: &Tracer, places: &[Place<'_>]) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let held = tracer.held();
        let is_held = |place: &&Place<'_>| held.iter().any(|name| place.there.ends_with(name));
        let missing: Vec<_> = places.iter().filter(|place| !is_held(place)).map(|place| &place.there).collect();
        if missing.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            tracer.release();
            panic!("not held within 60 s: {missing:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Cuts all operations at once, `when` their calls are ("before" or "after" it), on sessions that have been used before
/// or not.
fn interrupt(config: Config, transport: Transport, when: &str, is_used: bool, cut: Cut) {
    let sandbox = create(&client_over(transport));
    let client = Client::new(config.transport(transport).max_sessions(100)).unwrap();
    let used = client.attach(sandbox.name()).unwrap();
    used.execute("true").unwrap();
    // Only now nobody has to ask to be let in, and none has a connection.
    disconnect(&sandbox);
    let (scratch, operations) = (Scratch::new(), operations());
    let mut prepare = String::from("set -e\n");
    let places: Vec<_> = operations
        .iter()
        .map(|operation| {
            let there = format!("/tmp/w/{when}-{}.{}", operation.call, operation.name.replace([' ', ':'], "-"));
            let here = scratch.path(operation.name);
            std::fs::create_dir(&here).unwrap();
            std::fs::write(here.join("big"), vec![0; BIG]).unwrap();
            prepare += &format!("mkdir -p '{there}'; cd '{there}'; echo old > file; {}\n", operation.prepare);
            Place { files: used.files(), there, here }
        })
        .collect();
    beside(&sandbox, &prepare);
    if is_used {
        let mut open = Vec::new();
        for some in places.chunks(AT_A_TIME) {
            thread::scope(|scope| {
                let openers: Vec<_> =
                    some.iter().map(|place| scope.spawn(|| place.files.open(place.at("file")))).collect();
                open.extend(openers.into_iter().map(|opener| opener.join().unwrap().unwrap()));
            });
        }
    }
    let cable = (cut == Cut::Pulled).then(|| Cable::of(&sandbox));
    let tracer = Tracer::of(&sandbox);
    tracer.arm();
    let results: Vec<_> = thread::scope(|scope| {
        let (mut runs, began) = (Vec::new(), Instant::now());
        for (some, places) in operations.chunks(AT_A_TIME).zip(places.chunks(AT_A_TIME)) {
            runs.extend(some.iter().zip(places).map(|(operation, place)| {
                scope.spawn(|| {
                    let result = (operation.run)(place);
                    (result, Instant::now())
                })
            }));
            await_held(&tracer, places);
        }
        println!("{} are held after {:?}", operations.len(), began.elapsed());
        match &cable {
            Some(cable) => cable.pull(),
            None if cut == Cut::Ended => disconnect(&sandbox),
            // What serves them stands still already.
            None => {}
        }
        let began = Instant::now();
        let results =
            runs.into_iter().map(|run| run.join().unwrap()).map(|(result, at)| (result, at - began)).collect();
        println!("all have ended after {:?}", began.elapsed());
        if let Some(cable) = &cable {
            cable.plug_in();
        }
        tracer.release();
        results
    });
    drop(tracer);
    // What goes on then is done when its connection has gone.
    let idle = || used.session_counts().idle + sandbox.session_counts().idle;
    await_that("the connections to go", || served_connections(&sandbox) <= idle());
    let mut wrong = String::new();
    for ((operation, place), (result, took)) in operations.iter().zip(&places).zip(results) {
        let found = check(operation, place, result, is_used, cut, &sandbox);
        let found =
            found.and_then(|()| if took < Duration::from_secs(120) { Ok(()) } else { Err(format!("took {took:?}")) });
        if let Err(what) = found {
            wrong += &format!("{}: {what}\n", operation.name);
        }
    }
    assert!(
        wrong.is_empty(),
        "{cut:?} {when} the call, on {} sessions:\n{wrong}",
        if is_used { "used" } else { "new" }
    );
    drop(used);
}

/// What came of a cut, and of a retry.
fn check(
    operation: &Operation,
    place: &Place<'_>,
    result: Result<u64, Error>,
    is_used: bool,
    cut: Cut,
    sandbox: &Sandbox,
) -> Result<(), String> {
    use ErrorKind::{Connect, Disconnected, FileExists, FileNotFound, OutcomeUnknown, TimedOut};
    let sends = operation.call.starts_with("write") && operation.name != "upload_dir";
    let kinds: &[Option<ErrorKind>] = match (cut, operation.nature) {
        // This system waits half as long for a peer that takes nothing more, if it has more to send than it keeps.
        (Cut::Stopped, Transfer) if sends => &[Some(TimedOut), Some(Disconnected)],
        (Cut::Stopped, _) => &[Some(TimedOut)],
        (_, Change) | (Cut::Pulled, Renaming) => &[Some(OutcomeUnknown)],
        (_, Transfer) => &[Some(Disconnected)],
        (Cut::Ended, Renaming) => &[None],
        // On a connection that was used before it is asked again, on another one.
        (_, Question) if !is_used => &[Some(Disconnected)],
        (Cut::Ended, Question) => &[None],
        (Cut::Pulled, Question) => &[Some(Connect)],
    };
    let ensure = |is: bool, what: &str| if is { Ok(()) } else { Err(what.to_owned()) };
    let error = result.as_ref().err();
    let text = error.map_or(String::new(), ToString::to_string);
    ensure(kinds.contains(&error.map(Error::kind)), &format!("{result:?}"))?;
    let leaf = place.there.rsplit('/').next().unwrap();
    let says = if error.is_some_and(|e| e.kind() == Connect) { "" } else { operation.says };
    ensure(error.is_none() || (text.contains(leaf) && text.contains(says)), &text)?;
    let ask = |line: &str| {
        let output = sandbox.execute(format!("cd '{}'; {line}", place.there)).unwrap().check().unwrap();
        output.stdout_text().trim().to_owned()
    };
    ensure(!text.contains("run command"), &text)?;
    let look = || ask(operation.look);
    let found = look();
    let is_done = found == operation.new && operation.old != operation.new;
    ensure(found == operation.old || (is_done && matches!(operation.nature, Change | Renaming | Question)), &found)?;
    ensure(error.is_some() || found == operation.new, "said to be done")?;
    let left = || ask("find . -name '.sandbox-*'").lines().count();
    let left_here = || std::fs::read_dir(&place.here).unwrap().count() - usize::from(place.here("back").exists()) - 1;
    let (is_resumed, is_upload) = (operation.name.starts_with("resume"), operation.name.contains("upload"));
    // A stopped server may create the file when nobody waits for it any more.
    let is_late = cut == Cut::Stopped && operation.name == "write: open";
    let expected = usize::from(is_resumed && is_upload && error.is_some() && !is_done);
    // A guest without a cable waits for its clients still.
    ensure(cut == Cut::Pulled || is_late || left() == expected, "left there")?;
    let here: Vec<_> = std::fs::read_dir(&place.here).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    ensure(left_here() == usize::from(is_resumed && !is_upload), &format!("left here: {here:?}, {text}"))?;
    ensure(!place.here("back").exists(), "downloaded")?;
    match (operation.run)(place) {
        Ok(resumed) => ensure(!is_resumed || resumed > 0 || error.is_none() || is_done, "not resumed")?,
        Err(e) if is_done && matches!(e.kind(), FileExists | FileNotFound) => {}
        Err(e) => return Err(format!("retry: {e}")),
    }
    let found = look();
    ensure(found == operation.new || found == format!("{}new", operation.new), &format!("after the retry: {found}"))?;
    ensure(cut == Cut::Pulled || is_late || left() == 0, "left there after the retry")
}

#[test]
fn ended_before_it_is_done() {
    for &transport in steady_transports() {
        interrupt(config(), transport, "before", false, Cut::Ended);
    }
}

#[test]
fn ended_after_it_is_done() {
    for &transport in steady_transports() {
        interrupt(config(), transport, "after", true, Cut::Ended);
    }
}

#[test]
fn stopped_before_it_is_done() {
    for &transport in steady_transports() {
        // Longer than all may take to be held.
        interrupt(config().transfer_timeout(Duration::from_secs(60)), transport, "before", true, Cut::Stopped);
    }
}

// Only inside the way to the Pod is a cable of its own. The tunnel ends in the Pod's own network, where there is none.
#[test]
fn pulled_before_it_is_done() {
    if position() == Position::Inside {
        interrupt(config(), Transport::Direct, "before", false, Cut::Pulled);
    }
}

#[test]
fn pulled_after_it_is_done() {
    if position() == Position::Inside {
        interrupt(config(), Transport::Direct, "after", true, Cut::Pulled);
    }
}
