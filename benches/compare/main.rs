//! The compiled side of `benches/compare.py`: this library, and a plain libssh2 loop as the limit of what it can reach.
//!
//! One JSON object per line on standard input says which work to do; one per line on standard output answers with samples in
//! seconds, or with an `error`. A client in any other language can be compared by speaking the same protocol.

mod library;
mod plain;

use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One client under comparison.
trait Peer {
    /// Does one request that all peers have: `warm`, `connect`, `first`, `upload` or `download`, or one of its own.
    fn answer(&mut self, request: &Value) -> Result<Value>;
}

fn main() -> Result<()> {
    let mut peer: Box<dyn Peer> = match std::env::args().nth(1).as_deref() {
        Some("library") => Box::new(library::Library::new()),
        Some("plain") => Box::new(plain::Plain::new()),
        // What `cargo bench` and `cargo test --benches` call.
        _ => {
            println!("this is driven by benches/compare.py");
            return Ok(());
        }
    };
    let mut answers = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let answer = serde_json::from_str(&line?).map_err(Into::into).and_then(|request| peer.answer(&request));
        let answer = answer.unwrap_or_else(|e| json!({ "error": e.to_string() }));
        writeln!(answers, "{answer}")?;
        answers.flush()?;
    }
    Ok(())
}

fn text<'a>(request: &'a Value, name: &str) -> Result<&'a str> {
    request[name].as_str().ok_or_else(|| format!("the request has no {name}").into())
}

/// Seconds of each of `count` runs. What a run returns is dropped after its time is taken.
fn sample<T>(request: &Value, mut run: impl FnMut() -> Result<T>) -> Result<Value> {
    let mut seconds = Vec::new();
    for _ in 0..request["count"].as_u64().unwrap_or(1) {
        let began = Instant::now();
        let result = run()?;
        seconds.push(began.elapsed().as_secs_f64());
        drop(result);
    }
    Ok(json!({ "seconds": seconds }))
}
