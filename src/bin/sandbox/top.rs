//! `sandbox top`.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use sandbox::{Client, Filter, Phase, Usage};
use serde_json::{Value, json};

use crate::arguments::Top;
use crate::output::{self, Failure, plain};
use crate::verbs::AT_ONCE;

/// How often a terminal's table is drawn anew.
const INTERVAL: Duration = Duration::from_secs(2);
/// To the upper left corner, and nothing below it.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Processor time of a sandbox and when it was that, by name.
type Seen = HashMap<String, (Duration, Instant)>;

pub(crate) fn top(client: &Client, wanted: &Top, is_json: bool) -> Result<ExitCode, Failure> {
    let is_drawn = !is_json && io::stdout().is_terminal();
    let interval = wanted.interval.or(is_drawn.then_some(INTERVAL));
    let mut seen = Seen::new();
    loop {
        let names = match &wanted.names[..] {
            [] => running(client)?,
            names => names.to_vec(),
        };
        let (found, failures) = ask(client, &names);
        let text = match is_json {
            true => format!("{}\n", Value::from_iter(found.iter().map(|(name, usage)| as_json(name, usage)))),
            false => table(&found, &mut seen),
        };
        output::bytes(format!("{}{text}", if is_drawn { CLEAR } else { "" }).as_bytes())?;
        let code = failures.into_iter().map(|failure| failure.tell(is_json)).last().unwrap_or(ExitCode::SUCCESS);
        match interval {
            Some(interval) => thread::sleep(interval),
            None => return Ok(code),
        }
    }
}

/// The sandboxes of the namespace that run.
fn running(client: &Client) -> Result<Vec<String>, Failure> {
    let found = client.find(&Filter::new().phase(Phase::Running))?;
    let mut names: Vec<_> = found.into_iter().map(|info| info.name).collect();
    names.sort();
    Ok(names)
}

/// What the sandboxes use, and why some of them do not say.
fn ask(client: &Client, names: &[String]) -> (Vec<(String, Usage)>, Vec<Failure>) {
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for names in names.chunks(AT_ONCE) {
        let answers = thread::scope(|scope| {
            let asked = names.iter().map(|name| scope.spawn(|| client.attach(name)?.usage()));
            asked.collect::<Vec<_>>().into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for (name, answer) in names.iter().zip(answers) {
            match answer {
                Ok(Ok(usage)) => found.push((name.clone(), usage)),
                Ok(Err(e)) => failures.push(e.into()),
                Err(_) => failures.push(Failure::here(format!("the question to {name} panicked"))),
            }
        }
    }
    (found, failures)
}

fn table(found: &[(String, Usage)], seen: &mut Seen) -> String {
    let now = Instant::now();
    let head = ["NAME", "CPU%", "TIME", "MEMORY", "LIMIT", "PEAK", "PROCESSES", "COMMANDS"].map(str::to_owned);
    let rows = found.iter().map(|(name, usage)| {
        let before = usage.cpu.and_then(|cpu| seen.insert(name.clone(), (cpu, now)));
        let share = before.zip(usage.cpu).map(|((cpu, then), cpu_now)| {
            100.0 * cpu_now.saturating_sub(cpu).as_secs_f64() / (now - then).as_secs_f64()
        });
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
        [
            plain(name),
            or_dash(share.map(|share| format!("{share:.0}"))),
            or_dash(usage.cpu.map(|cpu| format!("{:.1}s", cpu.as_secs_f64()))),
            or_dash(usage.memory.map(binary)),
            or_dash(usage.memory_limit.map(binary)),
            or_dash(usage.memory_peak.map(binary)),
            or_dash(usage.processes.map(|count| count.to_string())),
            usage.commands.to_string(),
        ]
    });
    output::table(&[head].into_iter().chain(rows).collect::<Vec<_>>())
}

fn as_json(name: &str, usage: &Usage) -> Value {
    json!({
        "name": name,
        "cpu_seconds": usage.cpu.map(|time| time.as_secs_f64()),
        "throttled_seconds": usage.throttled.map(|time| time.as_secs_f64()),
        "memory": usage.memory,
        "memory_peak": usage.memory_peak,
        "memory_limit": usage.memory_limit,
        "oom_kills": usage.oom_kills,
        "processes": usage.processes,
        "processes_limit": usage.processes_limit,
        "disk": usage.disk,
        "disk_limit": usage.disk_limit,
        "received": usage.received,
        "sent": usage.sent,
        "guest_memory": usage.guest_memory,
        "commands": usage.commands,
        "connections": usage.connections,
    })
}

/// Bytes as people read them.
#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn binary(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut number = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    while number >= 1023.95
        && let Some(next) = units.next()
    {
        number /= 1024.0;
        unit = Some(next);
    }
    format!("{number:.1}{}", unit.unwrap_or(&"PiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_told_with_their_unit() {
        let told = [(0, "0B"), (1023, "1023B"), (1024, "1.0KiB"), (1_048_575, "1.0MiB"), (3 << 29, "1.5GiB")];
        for (bytes, text) in told {
            assert_eq!(binary(bytes), text);
        }
        assert_eq!(binary(u64::MAX), "16384.0PiB");
    }

    #[test]
    fn the_share_of_a_processor_is_that_since_the_last_time() {
        let mut seen = Seen::new();
        let usage = |seconds| {
            let mut usage = Usage::default();
            usage.cpu = Some(Duration::from_secs(seconds));
            usage
        };
        let first = table(&[("box".to_owned(), usage(10))], &mut seen);
        let row = first.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(row, ["box", "-", "10.0s", "-", "-", "-", "-", "0"]);
        seen.insert("box".to_owned(), (Duration::from_secs(10), Instant::now() - Duration::from_secs(4)));
        let second = table(&[("box".to_owned(), usage(12))], &mut seen);
        assert_eq!(second.lines().nth(1).unwrap().split_whitespace().nth(1), Some("50"));
    }
}
