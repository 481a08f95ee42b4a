//! The verbs of warm pools.

use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};

use sandbox::{Claim, Client, Pool, PoolOptions, SandboxSpec};
use serde_json::json;

use crate::arguments::{PoolClaim, PoolFill, PoolVerb, Spec};
use crate::output::{self, Failure, plain};
use crate::signals::Interruption;
use crate::verbs::{as_json, spec, text_variable};

/// How often a command that goes on looks whether it is to end.
const LOOK_FOR_SIGNALS: Duration = Duration::from_millis(100);

pub(crate) fn pool(client: &Client, verb: PoolVerb, is_json: bool) -> Result<ExitCode, Failure> {
    match verb {
        PoolVerb::Fill(arguments) => return fill(client, arguments, is_json),
        PoolVerb::Claim(arguments) => claim(client, arguments, is_json),
        PoolVerb::Status { pool, spec } => status(client, &pool, spec, is_json),
        // These look at all specs.
        PoolVerb::Drain { pool } => deleted(is_json, any(client, &pool)?.drain()?),
        PoolVerb::Rm { pool } => deleted(is_json, any(client, &pool)?.remove()?),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn any(client: &Client, pool: &str) -> sandbox::Result<Pool> {
    client.pool(pool, &SandboxSpec::new(), &PoolOptions::new())
}

fn fill(client: &Client, arguments: PoolFill, is_json: bool) -> Result<ExitCode, Failure> {
    let options = PoolOptions::new()
        .size(arguments.size)
        .idle_lifetime(arguments.idle_lifetime)
        .creates_at_once(arguments.creates_at_once)
        .creates_per_second(arguments.creates_per_second)
        .keep_filled(arguments.watch);
    let interruption = arguments.watch.then(Interruption::listen).transpose();
    let interruption = interruption.map_err(|e| Failure::here(e.to_string()))?;
    let pool = client.pool(&arguments.pool, &spec(arguments.spec)?, &options)?;
    if let Some(interruption) = interruption {
        while !interruption.has_come() {
            thread::sleep(LOOK_FOR_SIGNALS);
        }
        // What is half made goes with it.
        drop(pool);
        return Ok(ExitCode::from(interruption.code()));
    }
    let filled = pool.fill()?;
    match is_json {
        true => output::line(json!({ "created": filled.created, "retired": filled.retired })),
        false => output::line(format_args!("{} created, {} retired", filled.created, filled.retired)),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn claim(client: &Client, arguments: PoolClaim, is_json: bool) -> Result<(), Failure> {
    let lifetime = arguments.spec.lifetime;
    let mut claim = Claim::new().on_miss(arguments.on_miss);
    for variable in arguments.claim_env {
        let (name, value) = text_variable(variable)?;
        claim = claim.env(name, value);
    }
    for (name, value) in arguments.claim_label {
        claim = claim.label(name, value);
    }
    if let Some(owner) = arguments.claim_owner {
        claim = claim.owner(owner);
    }
    if let Some(lifetime) = lifetime {
        claim = claim.lifetime(lifetime.0);
    }
    for (local, remote) in arguments.claim_file {
        let contents = fs::read(&local).map_err(|e| Failure::here(format!("{local}: {e}")))?;
        claim = claim.file(remote, contents);
    }
    let pool = client.pool(&arguments.pool, &spec(arguments.spec)?, &PoolOptions::new())?;
    let sandbox = pool.claim(&claim)?;
    if !is_json {
        return output::line(sandbox.name());
    }
    let mut object = as_json(&sandbox.info()?);
    object["origin"] = json!(sandbox.timings().map(|timings| timings.origin.as_str()));
    output::line(object)
}

fn status(client: &Client, pool: &str, of: Spec, is_json: bool) -> Result<(), Failure> {
    let status = client.pool(pool, &spec(of)?, &PoolOptions::new())?.status()?;
    if is_json {
        return output::line(json!({
            "ready": status.ready,
            "filling": status.filling,
            "claimed": status.claimed,
            "ending": status.ending,
            "foreign": status.foreign,
            "oldest": status.oldest.map(output::time),
            "held": status.held,
        }));
    }
    let age = |time| SystemTime::now().duration_since(time).unwrap_or_default().as_secs();
    let rows = [
        ("Ready:", status.ready.to_string()),
        ("Filling:", status.filling.to_string()),
        ("Claimed:", status.claimed.to_string()),
        ("Ending:", status.ending.to_string()),
        ("Of other specs:", status.foreign.to_string()),
        ("Oldest:", status.oldest.map_or("-".into(), |time| format!("{}s", age(time)))),
        ("Held:", status.held.unwrap_or("-".into())),
    ];
    let rows = rows.map(|(name, value)| [name.to_owned(), plain(&value)]);
    output::bytes(output::table(&rows).as_bytes())
}

fn deleted(is_json: bool, count: usize) -> Result<(), Failure> {
    match is_json {
        true => output::line(json!({ "deleted": count })),
        false => output::line(format_args!("{count} deleted")),
    }
}
