//! What each way of the guest into a Pod costs at the start: from the call to the first command's end, the ways in
//! turns.
//!
//! `SANDBOX_IMAGE` is an image that has the guest, `PLAIN_IMAGE` any other; the first argument is the number of rounds,
//! 12 if none.

use std::time::{Duration, Instant};

use sandbox::{Client, Config, Guest, Result, SandboxSpec};

/// The times of one creation, from its beginning.
#[derive(Default)]
struct Times {
    started: Vec<Duration>,
    logged_in: Vec<Duration>,
    first_command: Vec<Duration>,
}

fn main() -> Result<()> {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(12);
    let plain = std::env::var("PLAIN_IMAGE").unwrap_or_else(|_| "localhost/plain:dev".into());
    let ways = [Guest::Image, Guest::Volume, Guest::Copy];
    let clients = ways
        .iter()
        .map(|way| {
            let config = Config::from_env()?.guest(*way);
            Client::new(if *way == Guest::Image { config } else { config.image(&plain) })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut times = ways.map(|_| Times::default());
    // One more than counts: the first of each has the node read its image.
    for round in 0..=rounds {
        for (client, times) in clients.iter().zip(&mut times) {
            let began = Instant::now();
            let sandbox = client.create(&SandboxSpec::new().lifetime(Duration::from_secs(120)))?;
            sandbox.command("true").output()?.check()?;
            if let Some(timings) = sandbox.timings().filter(|_| round > 0) {
                times.first_command.push(began.elapsed());
                times.started.push(timings.started);
                times.logged_in.push(timings.logged_in);
            }
            sandbox.delete()?;
        }
    }
    println!("{:<8} {:>22} {:>22} {:>22}", "way", "container started", "logged in", "first command done");
    for (way, times) in ways.iter().zip(times) {
        let [started, logged_in, first] = [times.started, times.logged_in, times.first_command].map(shown);
        println!("{:<8} {started:>22} {logged_in:>22} {first:>22}", way.as_str());
    }
    println!("milliseconds: median (least to most) of {rounds} each");
    Ok(())
}

fn shown(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |place: usize| times.get(place).map_or(0, Duration::as_millis);
    format!("{} ({} to {})", at(times.len() / 2), at(0), at(times.len().saturating_sub(1)))
}
