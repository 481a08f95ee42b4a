//! How long a command takes that does nothing: through keepers, and by `posix_spawn` from this process.
//!
//! `cargo run --release -p sandbox-guest --example spawn_rate [PROGRAM [COUNT]]`

use sandbox_guest::process::{Options, Report, Spawner, Spec, Stdio, Stream};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn spec(program: &str, stdio: Stdio) -> Spec {
    Spec { argv: vec![program.into()], env: vec![(b"PATH".into(), b"/bin:/usr/bin".into())], stdio, ..Spec::default() }
}

fn through_keeper(spawner: &Arc<Spawner>, program: &str) {
    let mut running = match spawner.spawn(spec(program, Stdio::default())) {
        Ok(running) => running,
        Err(error) => panic!("{error}"),
    };
    while let Some(report) = running.wait_report(None) {
        assert!(!matches!(report, Report::Gone { proved: false }));
    }
}

fn by_posix_spawn(program: &str) {
    use std::process::Stdio;
    let child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_clear().spawn();
    assert!(child.and_then(|mut child| child.wait()).is_ok_and(|status| status.success()));
}

/// Keepers that stay busy, so that the next command needs a new one.
fn busy(spawner: &Arc<Spawner>) -> Vec<sandbox_guest::process::Running> {
    let null = || Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
    let sleep = || Spec { argv: vec![b"sleep".into(), b"60".into()], kill_on_close: true, ..spec("sleep", null()) };
    (0..64).filter_map(|_| spawner.spawn(sleep()).ok()).collect()
}

fn measure(what: &str, count: u32, mut work: impl FnMut()) {
    (0..count.min(20)).for_each(|_| work());
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let begin = Instant::now();
            work();
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    let mean = times.iter().sum::<Duration>() / count;
    let at = |share: usize| times[times.len() * share / 100].as_micros();
    println!("{what:44} min {:5} p50 {:5} p99 {:6} mean {:5} us", at(0), at(50), at(99), mean.as_micros());
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().unwrap_or_else(|| "/bin/true".into());
    if program == "keeper" {
        return ExitCode::from(u8::from(sandbox_guest::process::zygote_main() != 0));
    }
    let count = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(2000);
    let spawner = match Spawner::start(Options::default()) {
        Ok(spawner) => spawner,
        Err(error) => panic!("{error}"),
    };
    let memory = vec![1_u8; 64 << 20];
    for _ in 0..2 {
        measure("posix_spawn, pipes", count, || by_posix_spawn(&program));
        measure("keeper, idle one at hand", count, || through_keeper(&spawner, &program));
    }
    let mut held = busy(&spawner);
    let mut fresh = Vec::new();
    measure("keeper, forked for it", count.min(200), || {
        // What has ended leaves its keeper idle; that one is given work, so that the next is new.
        through_keeper(&spawner, &program);
        let sleep = Spec {
            argv: vec![b"sleep".into(), b"60".into()],
            kill_on_close: true,
            ..spec("sleep", Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null })
        };
        fresh.extend(spawner.spawn(sleep).ok());
    });
    held.clear();
    fresh.clear();
    for threads in [4, 64] {
        let each = count / threads;
        let at_once = |work: &(dyn Fn() + Sync)| {
            let begin = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| (0..each).for_each(|_| work()));
                }
            });
            f64::from(threads * each) / begin.elapsed().as_secs_f64()
        };
        println!("{threads} threads, posix_spawn: {:.0}/s", at_once(&|| by_posix_spawn(&program)));
        println!("{threads} threads, keepers:     {:.0}/s", at_once(&|| through_keeper(&spawner, &program)));
    }
    drop(memory);
    ExitCode::SUCCESS
}
