//! `sandbox forward`.

use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sandbox::{Client, Error, Forward as Forwarded};
use serde_json::{Value, json};

use crate::arguments::Forward;
use crate::output::{self, Failure};
use crate::signals::Interruption;

/// How often it is asked whether this program was told to end.
const TICK: Duration = Duration::from_millis(50);

pub(crate) fn forward(client: &Client, wanted: &Forward, is_json: bool) -> Result<ExitCode, Failure> {
    let interruption = Interruption::listen().map_err(|e| Failure::here(e.to_string()))?;
    let sandbox = client.attach(&wanted.name)?;
    let start = |(local, target): &(_, _)| sandbox.forward(Clone::clone(local), Clone::clone(target));
    let forwards = wanted.ports.iter().map(start).collect::<Result<Vec<_>, Error>>()?;
    if is_json {
        let told = |one: &Forwarded| json!({ "local": one.local().to_string(), "target": one.target().to_string() });
        output::line(Value::from_iter(forwards.iter().map(told)))?;
    } else {
        for one in &forwards {
            output::line(format_args!("{} -> {}", one.local(), one.target()))?;
        }
    }
    let end = thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        for one in &forwards {
            let sender = sender.clone();
            scope.spawn(move || sender.send(one.wait()));
        }
        let end = loop {
            match receiver.recv_timeout(TICK) {
                // All go with the sandbox.
                Ok(end) => break Some(end),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) if interruption.has_come() => break None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        forwards.iter().for_each(Forwarded::close);
        end
    });
    match end {
        Some(end) => end.map(|()| ExitCode::SUCCESS).map_err(Failure::from),
        None => Ok(ExitCode::from(interruption.code())),
    }
}
