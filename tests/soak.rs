//! What a guest takes of memory: at rest, with many sessions, while data passes, and after very many commands; and what
//! these leave in the client. `make soak` is the long form, with 100,000 commands.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test program")]

mod common;

use std::fs;
use std::io::Read;
use std::thread;
use std::time::Duration;

use common::{Scratch, await_that, client, config, create, create_from, guest_process, session_counts};
use parking_lot::Mutex;
use rustix::fs::ftruncate;
use sandbox::{Client, ErrorKind, Sandbox, SandboxSpec};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const IDLE: u64 = 4 * MIB;
const SESSIONS: usize = 100;
const IDLE_WITH_SESSIONS: u64 = 12 * MIB;
/// What a client may have sent on one channel before it was read, and what may be on its way out.
const WINDOW: u64 = 4 * MIB;
/// What passes each way while the memory is looked at.
const STREAMED: u64 = 48 * MIB;

/// By turns: commands that end while others run, and alone.
const THREADS: [usize; 2] = [4, 1];
const SLICES: usize = 10;
/// Commands, if `SANDBOX_TEST_SOAK` names no number.
const COMMANDS: usize = 10_000;
/// What the guest may have grown by since the first slice, and this process: sixty bytes a command would be more.
const GUEST_GROWTH: u64 = 256 * KIB;
const CLIENT_GROWTH: u64 = 2 * MIB;

/// The memory of this process is that of one test.
static ALONE: Mutex<()> = Mutex::new(());

/// What a process has.
#[derive(Clone, Copy, Debug)]
struct Held {
    resident: u64,
    /// The most that was resident since the last `forget_peak`.
    peak: u64,
    threads: u64,
    descriptors: usize,
    children: usize,
}

impl Held {
    fn by(pid: i32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        // Threads may end meanwhile, with their lists.
        let lists = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let lists = lists.filter_map(|task| fs::read_to_string(task.unwrap().path().join("children")).ok());
        Self {
            resident: number("VmRSS:") * KIB,
            peak: number("VmHWM:") * KIB,
            threads: number("Threads:"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            children: lists.map(|list| list.split_whitespace().count()).sum(),
        }
    }
}

fn forget_peak(pid: i32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// Waits for this; if it does not come, it says how much there is.
fn await_at_most(what: &str, guest: i32, most: u64) {
    let mut least = u64::MAX;
    await_that(&format!("{what}: at most {most} bytes"), || {
        least = least.min(Held::by(guest).resident);
        least <= most
    });
    println!("{what}: {} KiB of {}", least / KIB, most / KIB);
}

#[test]
fn the_guests_memory_is_bounded() {
    let _alone = ALONE.lock();
    let client = Client::new(config().max_sessions(SESSIONS)).unwrap();
    let sandbox = create(&client);
    let guest = guest_process(&sandbox);
    await_at_most("idle", guest, IDLE);

    let scratch = Scratch::new();
    let local = scratch.path("streamed");
    ftruncate(fs::File::create(&local).unwrap(), STREAMED).unwrap();
    let size = STREAMED.to_string();
    let works: [(&str, &dyn Fn()); 4] = [
        ("output", &|| {
            let mut child = sandbox.command("head").args(["-c", &size, "/dev/zero"]).spawn().unwrap();
            let read = std::io::copy(child.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
            assert_eq!((read, child.wait().unwrap().code()), (STREAMED, Some(0)));
        }),
        ("input", &|| {
            let input = vec![0; usize::try_from(STREAMED).unwrap()];
            assert!(sandbox.shell("cat > /dev/null").stdin(input).status().unwrap().success());
        }),
        ("upload", &|| assert_eq!(sandbox.upload_file(&local, "/dev/shm/streamed").unwrap(), STREAMED)),
        ("download", &|| {
            assert_eq!(sandbox.download_file("/dev/shm/streamed", scratch.path("back")).unwrap(), STREAMED)
        }),
    ];
    for (name, work) in works {
        forget_peak(guest);
        work();
        let peak = Held::by(guest).peak;
        println!("{name}: {} KiB at most", peak / KIB);
        assert!(peak <= IDLE + 2 * WINDOW, "{name}: {peak} bytes");
    }
    // Nobody reads: what has no room in the window is not read from the commands either.
    let mut children: Vec<_> =
        (0..8).map(|_| sandbox.command("head").args(["-c", &size, "/dev/zero"]).spawn().unwrap()).collect();
    for child in &mut children {
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 1000]).unwrap();
    }
    let peak = Held::by(guest).peak;
    println!("8 outputs that nobody reads: {} KiB at most", peak / KIB);
    assert!(peak <= IDLE + 8 * WINDOW, "{peak} bytes");
    drop(children);

    let children: Vec<_> = (0..SESSIONS).map(|_| sandbox.command("sleep").arg("600").spawn().unwrap()).collect();
    assert_eq!(session_counts(&sandbox), (0, SESSIONS));
    for child in children {
        child.kill().unwrap();
        assert_eq!(child.wait_shared().unwrap().signal(), Some("KILL"));
    }
    assert_eq!(session_counts(&sandbox), (SESSIONS, 0));
    await_at_most("100 idle sessions", guest, IDLE_WITH_SESSIONS);
}

/// One command, of one of many kinds.
fn one(sandbox: &Sandbox, index: usize) {
    match index % 40 {
        37 => {
            let key = format!("job-{index}");
            let job = sandbox.shell("cat; exit 4").stdin("input").detach(&key).unwrap();
            assert_eq!(job.wait(Duration::from_secs(60)).unwrap().code(), Some(4));
            job.remove().unwrap();
        }
        38 => {
            let child = sandbox.command("sleep").arg("600").spawn().unwrap();
            child.kill().unwrap();
            assert_eq!(child.wait_shared().unwrap().signal(), Some("KILL"));
        }
        39 => {
            let name = format!("file-{index}");
            sandbox.files().write(&name, "contents").unwrap();
            assert_eq!(sandbox.shell(format!("cat {name}; rm {name}")).output().unwrap().stdout, b"contents");
        }
        number => match number % 4 {
            0 => assert!(sandbox.command("true").status().unwrap().success()),
            1 => assert_eq!(sandbox.execute("echo out; echo err >&2").unwrap().stdout, b"out\n"),
            2 => assert_eq!(sandbox.command("cat").stdin("input").output().unwrap().stdout, b"input"),
            _ => {
                let error = sandbox.command("/no/such/program").status().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Command, "{error}");
            }
        },
    }
}

#[test]
fn many_commands_leave_nothing() {
    let _alone = ALONE.lock();
    let commands = std::env::var("SANDBOX_TEST_SOAK").map_or(COMMANDS, |number| number.parse().unwrap());
    // The long form takes longer than other tests' sandboxes live.
    let sandbox = create_from(&client(), &SandboxSpec::new().lifetime(Duration::from_secs(6 * 3600)));
    let (guest, own) = (guest_process(&sandbox), i32::try_from(std::process::id()).unwrap());
    let mut seen: Vec<(Held, Held)> = Vec::new();
    for slice in 0..SLICES {
        let threads = THREADS[slice % THREADS.len()];
        let (slice_size, part) = (commands / SLICES, commands / SLICES / threads);
        thread::scope(|scope| {
            for number in 0..threads {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    let first = slice * slice_size + number * part;
                    (first..first + part).for_each(|index| one(sandbox, index));
                });
            }
        });
        // What has just ended is reaped in its own time.
        if let Some(first) = seen.first().copied() {
            await_that("guest and client to have no more than after the first slice", || {
                let few = |now: Held, then: Held| {
                    now.threads <= then.threads && now.descriptors <= then.descriptors && now.children <= then.children
                };
                few(Held::by(guest), first.0) && few(Held::by(own), first.1)
            });
        }
        seen.push((Held::by(guest), Held::by(own)));
        let (of_guest, of_client) = seen[slice];
        println!("after {} commands: the guest {of_guest:?}, the client {of_client:?}", (slice + 1) * slice_size);
    }
    let ((first, first_own), (_, last_own)) = (seen[0], seen[SLICES - 1]);
    // What a busy machine made it buffer goes when it rests.
    await_at_most("after all", guest, first.resident + GUEST_GROWTH);
    assert!(last_own.resident <= first_own.resident + CLIENT_GROWTH, "{seen:#?}");
}
