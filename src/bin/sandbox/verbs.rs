//! The verbs that take one call of the library or two.

use std::ffi::OsString;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};

use sandbox::{Client, ErrorKind, Filter, SandboxInfo, SandboxSpec};
use serde_json::{Value, json};

use crate::arguments::{Create, List, Order, Spec};
use crate::output::{self, Failure, plain};

/// How many sandboxes are deleted or asked at once.
pub(crate) const AT_ONCE: usize = 16;

pub(crate) fn create(client: &Client, create: Create, is_json: bool) -> Result<(), Failure> {
    let mut spec = spec(create.spec)?;
    if let Some(name) = create.name {
        spec = spec.name(name);
    }
    let sandbox = client.create(&spec)?;
    match is_json {
        true => output::line(as_json(&sandbox.info()?)),
        false => output::line(sandbox.name()),
    }
}

pub(crate) fn spec(create: Spec) -> Result<SandboxSpec, Failure> {
    let mut spec = SandboxSpec::new();
    type Set = fn(SandboxSpec, String) -> SandboxSpec;
    let texts: [(Option<String>, Set); 6] = [
        (create.image, SandboxSpec::image),
        (create.cpu, SandboxSpec::cpu),
        (create.memory, SandboxSpec::memory),
        (create.disk, SandboxSpec::disk),
        (create.commands_as, SandboxSpec::commands_as),
        (create.runtime_class, SandboxSpec::runtime_class),
    ];
    for (text, set) in texts {
        if let Some(text) = text {
            spec = set(spec, text);
        }
    }
    for variable in create.env {
        let (name, value) = text_variable(variable)?;
        spec = spec.env(name, value);
    }
    for (name, value) in create.label {
        spec = spec.label(name, value);
    }
    if let Some(lifetime) = create.lifetime {
        spec = spec.lifetime(lifetime.0);
    }
    if let Some(timeout) = create.idle_timeout {
        spec = spec.idle_timeout(timeout.0);
    }
    if create.user_from_cluster {
        spec = spec.user_from_cluster();
    }
    if let Some(path) = create.pod_template {
        let json = fs::read_to_string(&path).map_err(|e| Failure::here(format!("{}: {e}", path.display())))?;
        spec = spec.pod_template(&json)?;
    }
    Ok(spec)
}

/// A variable for all of a sandbox.
pub(crate) fn text_variable((name, value): (OsString, OsString)) -> Result<(String, String), Failure> {
    match (name.into_string(), value.into_string()) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        _ => Err(Failure::here("the environment of a sandbox is UTF-8")),
    }
}

pub(crate) fn list(client: &Client, wanted: List, is_json: bool) -> Result<(), Failure> {
    let filter = filter(&wanted);
    if wanted.watch {
        return watch(client, &filter, is_json);
    }
    let mut found = client.find(&filter)?;
    match wanted.sort {
        Order::Name => found.sort_by(|a, b| a.name.cmp(&b.name)),
        Order::Age => {}
        // What never expires comes last.
        Order::Expiry => found.sort_by_key(|info| (info.expires_at.is_none(), info.expires_at)),
    }
    if is_json {
        return output::line(Value::from_iter(found.iter().map(as_json)));
    }
    if wanted.quiet {
        return found.iter().try_for_each(|info| output::line(&info.name));
    }
    if found.is_empty() {
        output::complain(format_args!("No sandboxes in namespace {}.", client.namespace()));
        return Ok(());
    }
    let head = ["NAME", "PHASE", "AGE", "EXPIRES", "OWNER", "IMAGE"].map(str::to_owned);
    let rows: Vec<_> = [head].into_iter().chain(found.iter().map(row)).collect();
    output::bytes(output::table(&rows).as_bytes())
}

fn row(info: &SandboxInfo) -> [String; 6] {
    let now = SystemTime::now();
    let age = info.created_at.map_or("?".into(), |time| short(now.duration_since(time).unwrap_or_default()));
    let expires = match info.expires_at.map(|expiry| expiry.duration_since(now)) {
        None => "never".into(),
        Some(Err(_)) => "expired".into(),
        Some(Ok(left)) => short(left),
    };
    [plain(&info.name), info.phase.to_string(), age, expires, plain(&info.owner), plain(&info.image)]
}

fn watch(client: &Client, filter: &Filter, is_json: bool) -> Result<(), Failure> {
    for change in client.watch(filter)? {
        let change = change?;
        match is_json {
            true => output::line(json!({ "change": change.kind.as_str(), "sandbox": as_json(&change.info) }))?,
            false => output::line(format_args!("{:7}   {}", change.kind.as_str(), row(&change.info).join("   ")))?,
        }
    }
    Ok(())
}

fn filter(wanted: &List) -> Filter {
    let mut filter = Filter::new();
    if let Some(owner) = &wanted.owner {
        filter = filter.owner(owner);
    }
    for (name, value) in &wanted.label {
        filter = filter.label(name, value);
    }
    for phase in &wanted.phase {
        filter = filter.phase(*phase);
    }
    if let Some(age) = wanted.older_than {
        filter = filter.older_than(age);
    }
    if let Some(age) = wanted.younger_than {
        filter = filter.younger_than(age);
    }
    filter
}

pub(crate) fn info(client: &Client, name: &str, is_json: bool) -> Result<(), Failure> {
    let info = client.get_sandbox_info(name)?;
    if is_json {
        return output::line(as_json(&info));
    }
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    let labels: Vec<_> = info.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let rows = [
        ("Name:", info.name),
        ("Namespace:", info.namespace),
        ("UID:", info.uid),
        ("Phase:", info.phase.to_string()),
        ("Verdict:", or_dash(info.verdict.map(|verdict| format!("{} ({verdict})", verdict.cause)))),
        ("Owner:", info.owner),
        ("Image:", info.image),
        ("Node:", or_dash(info.node)),
        ("Address:", or_dash(info.pod_ip.map(|address| address.to_string()))),
        ("SSH user:", info.ssh_user),
        ("SSH port:", info.ssh_port.to_string()),
        ("Host key:", or_dash(info.host_key)),
        ("Created:", or_dash(info.created_at.map(output::time))),
        ("Expires:", info.expires_at.map_or("never".into(), output::time)),
        ("Labels:", labels.join(", ")),
    ];
    let rows = rows.map(|(name, value)| [name.to_owned(), plain(&value)]);
    output::bytes(output::table(&rows).as_bytes())
}

pub(crate) fn remove(client: &Client, names: &[String], is_forced: bool, is_json: bool) -> Result<ExitCode, Failure> {
    let (mut code, mut removed) = (ExitCode::SUCCESS, Vec::new());
    for names in names.chunks(AT_ONCE) {
        let results: Vec<_> = thread::scope(|scope| {
            let deletions: Vec<_> = names.iter().map(|name| scope.spawn(|| client.delete_sandbox(name))).collect();
            deletions.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        for (name, result) in names.iter().zip(results) {
            match result {
                Ok(Ok(())) if is_json => removed.push(name),
                Ok(Ok(())) => output::line(name)?,
                Ok(Err(e)) if is_forced && e.kind() == ErrorKind::NotFound => {}
                Ok(Err(e)) => code = Failure::from(e).tell(is_json),
                Err(_) => code = Failure::here(format!("the deletion of {name} panicked")).tell(is_json),
            }
        }
    }
    if is_json {
        output::line(json!(removed))?;
    }
    Ok(code)
}

pub(crate) fn renew(client: &Client, name: &str, lifetime: Duration, is_json: bool) -> Result<(), Failure> {
    let expiry = output::time(client.attach(name)?.renew(lifetime)?);
    match is_json {
        true => output::line(json!({ "name": name, "expires_at": expiry })),
        false => output::line(expiry),
    }
}

pub(crate) fn reap(client: &Client, is_json: bool) -> Result<(), Failure> {
    let names = client.reap()?;
    match is_json {
        true => output::line(json!(names)),
        false => names.iter().try_for_each(output::line),
    }
}

pub(crate) fn as_json(info: &SandboxInfo) -> Value {
    json!({
        "name": info.name,
        "namespace": info.namespace,
        "uid": info.uid,
        "phase": info.phase.as_str(),
        "verdict": info.verdict.as_ref().map(output::verdict_as_json),
        "owner": info.owner,
        "image": info.image,
        "node": info.node,
        "pod_ip": info.pod_ip.map(|address| address.to_string()),
        "ssh_user": info.ssh_user,
        "ssh_port": info.ssh_port,
        "host_key": info.host_key,
        "created_at": info.created_at.map(output::time),
        "expires_at": info.expires_at.map(output::time),
        "labels": info.labels,
    })
}

/// A duration as kubectl's tables have it.
fn short(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ ..120 => format!("{seconds}s"),
        seconds @ ..7_200 => format!("{}m", seconds / 60),
        seconds @ ..172_800 => format!("{}h", seconds / 3_600),
        seconds => format!("{}d", seconds / 86_400),
    }
}
