//! The compiled side of `benches/compare.py`: this library, a plain libssh2 loop as the limit of what it can reach, and
//! a slow link.
//!
//! One JSON object per line on standard input says which work to do; one per line on standard output has its `result`,
//! or an `error`. A client in any other language can be compared by speaking the same protocol: `benches/peers/base.py`
//! lists the works.

mod library;
mod plain;
mod relay;

use std::error::Error;
use std::io::{BufRead, Write};
use std::sync::Barrier;
use std::time::Instant;

use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One client under comparison.
trait Peer {
    /// Does one request, of a work that all peers have or of its own.
    fn answer(&mut self, request: &Value) -> Result<Value>;
}

fn main() -> Result<()> {
    let mut peer: Box<dyn Peer> = match std::env::args().nth(1).as_deref() {
        Some("library") => Box::new(library::Library::new()),
        Some("plain") => Box::new(plain::Plain::new()),
        Some("relay") => Box::new(relay::Relay),
        // What `cargo bench` and `cargo test --benches` call.
        _ => {
            println!("this is driven by benches/compare.py");
            return Ok(());
        }
    };
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let result = serde_json::from_str(&line?).map_err(Into::into).and_then(|request| peer.answer(&request));
        let answer = match result {
            Ok(result) => json!({ "result": result }),
            Err(e) => json!({ "error": e.to_string() }),
        };
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

fn text<'a>(request: &'a Value, name: &str) -> Result<&'a str> {
    request[name].as_str().ok_or_else(|| format!("the request has no {name}").into())
}

fn number(request: &Value, name: &str) -> Result<usize> {
    let number = request[name].as_u64().ok_or_else(|| format!("the request has no {name}"))?;
    Ok(number.try_into()?)
}

/// The file here and the one in the sandbox.
fn paths(request: &Value) -> Result<(&str, &str)> {
    Ok((text(request, "local")?, text(request, "remote")?))
}

/// Seconds of each of `count` runs, or of one. What a run returns is dropped after its time is taken.
fn sample<T>(request: &Value, mut run: impl FnMut() -> Result<T>) -> Result<Value> {
    let mut seconds = Vec::new();
    for _ in 0..request["count"].as_u64().unwrap_or(1) {
        let began = Instant::now();
        let result = run()?;
        seconds.push(began.elapsed().as_secs_f64());
        drop(result);
    }
    Ok(json!(seconds))
}

/// Lets `threads` threads do `count` runs each, which get the thread's number; how long all took, and how busy the
/// machine was.
fn together(threads: usize, count: usize, run: impl Fn(usize) -> Result<()> + Sync) -> Result<Value> {
    let start = Barrier::new(threads + 1);
    let work = |thread| {
        start.wait();
        // Boxed errors stay on their thread.
        (0..count).try_for_each(|_| run(thread).map_err(|e| e.to_string()))
    };
    std::thread::scope(|scope| {
        let work = &work;
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        start.wait();
        let (before, began) = (Processors::now()?, Instant::now());
        for worker in workers {
            worker.join().map_err(|_| "a thread panicked")??;
        }
        let (seconds, after) = (began.elapsed().as_secs_f64(), Processors::now()?);
        Ok(json!({ "seconds": seconds, "busy": after.busy_since(&before) }))
    })
}

/// The machine's processor time, of all cores, in the kernel's ticks.
struct Processors {
    all: f64,
    idle: f64,
}

impl Processors {
    fn now() -> Result<Self> {
        let stat = std::fs::read_to_string("/proc/stat")?;
        let first = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what follows is in user and nice already.
        let ticks: Vec<f64> = first.split_whitespace().skip(1).take(8).flat_map(str::parse).collect();
        let [_, _, _, idle, waiting, ..] = ticks[..] else { return Err("/proc/stat has another form".into()) };
        Ok(Self { all: ticks.iter().sum(), idle: idle + waiting })
    }

    /// The share of all cores that was in use.
    fn busy_since(&self, before: &Self) -> f64 {
        1.0 - (self.idle - before.idle) / (self.all - before.all).max(1.0)
    }
}
