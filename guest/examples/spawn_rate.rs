//! How long a command takes that does nothing: through keepers, and by `posix_spawn` from this process.
//!
//! `cargo run --release -p sandbox-guest --example spawn_rate [PROGRAM [COUNT]]`

use sandbox_guest::process::{Exit, Options, Report, Running, Spawner, Spec, Stdio, Stream};
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
    let reports: Vec<Report> = std::iter::from_fn(|| running.wait_report(None)).collect();
    assert_eq!(reports, [Report::Exited(Exit::Code(0)), Report::Gone { proved: true }]);
}

fn by_posix_spawn(program: &str) {
    use std::process::Stdio;
    let child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_clear().spawn();
    assert!(child.and_then(|mut child| child.wait()).is_ok_and(|status| status.success()));
}

/// A command that keeps its keeper busy, so that the next command needs a new one.
fn busy(spawner: &Arc<Spawner>) -> Option<Running> {
    let stdio = Stdio::Streams { stdin: Stream::Null, stdout: Stream::Null, stderr: Stream::Null };
    let argv = vec![b"sleep".into(), b"60".into()];
    spawner.spawn(Spec { argv, kill_on_close: true, ..spec("sleep", stdio) }).ok()
}

fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn measure(what: &str, count: u32, mut work: impl FnMut() -> Duration) {
    (0..count.min(20)).for_each(|_| {
        let _ = work();
    });
    let mut times: Vec<Duration> = (0..count).map(|_| work()).collect();
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
        measure("posix_spawn, pipes", count, || timed(|| by_posix_spawn(&program)));
        measure("keeper, idle one at hand", count, || timed(|| through_keeper(&spawner, &program)));
    }
    let mut held: Vec<_> = (0..64).filter_map(|_| busy(&spawner)).collect();
    measure("keeper, forked for it", count.min(200), || {
        let time = timed(|| through_keeper(&spawner, &program));
        // What has ended leaves its keeper idle; that one is given work, so that the next is new.
        held.extend(busy(&spawner));
        time
    });
    held.clear();
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
