//! `sandbox key`.

use std::io::{self, Read};
use std::path::Path;
use std::time::SystemTime;

use sandbox::{AuthorizedKey, Client};
use serde_json::{Value, json};

use crate::arguments::KeyVerb;
use crate::output::{self, Failure, plain};

/// More is no public key.
const LONGEST: u64 = 64 << 10;

pub(crate) fn key(client: &Client, verb: &KeyVerb, is_json: bool) -> Result<(), Failure> {
    match verb {
        KeyVerb::Add { name, file, lifetime } => Ok(client.attach(name)?.authorize_key(&read(file)?, *lifetime)?),
        KeyVerb::Ls { name } => list(&client.attach(name)?.authorized_keys()?, is_json),
        KeyVerb::Rm { name, file } => match client.attach(name)?.revoke_key(&read(file)?)? {
            true => Ok(()),
            false => Err(Failure::here(format!("no such key may log in to {name}"))),
        },
    }
}

fn list(keys: &[AuthorizedKey], is_json: bool) -> Result<(), Failure> {
    let now = SystemTime::now();
    let end = |key: &AuthorizedKey| key.remaining.and_then(|left| now.checked_add(left)).map(output::time);
    if is_json {
        let told = |key: &AuthorizedKey| json!({ "key": key.key, "expires_at": end(key) });
        return output::line(Value::from_iter(keys.iter().map(told)));
    }
    keys.iter().try_for_each(|key| {
        output::line(format_args!("{}  {}", end(key).unwrap_or_else(|| "never".into()), plain(&key.key)))
    })
}

fn read(file: &Path) -> Result<String, Failure> {
    let unreadable = |e: io::Error| Failure::here(format!("{}: {e}", file.display()));
    let mut text = String::new();
    match file.to_str() {
        Some("-") => io::stdin().lock().take(LONGEST).read_to_string(&mut text),
        _ => std::fs::File::open(file).map_err(unreadable)?.take(LONGEST).read_to_string(&mut text),
    }
    .map_err(unreadable)?;
    Ok(text)
}
