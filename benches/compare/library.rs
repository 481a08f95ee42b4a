//! This library through its public API.

use std::time::{Duration, Instant};

use sandbox::{Client, Config, Sandbox, SandboxSpec, Transport};
use serde_json::{Value, json};

use crate::{Peer, Result, sample, text};

/// How long the Pod's address may take after the first login.
const ADDRESS: Duration = Duration::from_secs(20);

pub(crate) struct Library {
    owned: Option<Owned>,
    opened: Option<Opened>,
}

/// The sandbox that all peers use.
struct Owned {
    client: Client,
    sandbox: Sandbox,
}

/// The handle whose commands and transfers are measured.
struct Opened {
    config: Config,
    client: Client,
    sandbox: Sandbox,
}

impl Library {
    pub(crate) fn new() -> Self {
        Self { owned: None, opened: None }
    }

    fn opened(&self) -> Result<&Opened> {
        self.opened.as_ref().ok_or_else(|| "nothing is open".into())
    }

    /// Creates the sandbox and says how other clients reach it.
    fn create(&mut self, request: &Value) -> Result<Value> {
        let client = Client::new(config(request)?)?;
        let sandbox = client.create(&spec())?;
        let Owned { client, sandbox } = self.owned.insert(Owned { client, sandbox });
        let began = Instant::now();
        let info = loop {
            let info = sandbox.info()?;
            if info.pod_ip.is_some() {
                break info;
            }
            if began.elapsed() > ADDRESS {
                return Err("the Pod gets no address".into());
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        Ok(json!({
            "name": info.name,
            "namespace": client.namespace(),
            "image": info.image,
            "address": info.pod_ip.map(|ip| ip.to_string()),
            "port": info.ssh_port,
            "user": info.ssh_user,
            "host_key": sandbox.host_key(),
        }))
    }

    fn delete(&mut self) -> Result<Value> {
        if let Some(Owned { sandbox, .. }) = self.owned.take() {
            sandbox.delete()?;
        }
        Ok(json!({}))
    }

    fn open(&mut self, request: &Value) -> Result<Value> {
        let transport = match request["transport"].as_str() {
            Some("tunnel") => Transport::Tunnel,
            _ => Transport::Direct,
        };
        let config = config(request)?.transport(transport);
        let client = Client::new(config.clone())?;
        let sandbox = client.attach(text(request, "name")?)?;
        sandbox.execute("true")?.check()?;
        self.opened = Some(Opened { config, client, sandbox });
        Ok(json!({}))
    }

    /// Commands on a warm session, and how many calls to the API server they made.
    fn warm(&self, request: &Value) -> Result<Value> {
        let Opened { client, sandbox, .. } = self.opened()?;
        let before = client.stats().api_requests;
        let mut answer = sample(request, || Ok(sandbox.execute("true")?.check()?))?;
        answer["api_requests"] = json!(client.stats().api_requests - before);
        Ok(answer)
    }

    /// From nothing to the end of the first command, by a client that has just found the sandbox.
    fn first(&self, request: &Value) -> Result<Value> {
        let Opened { config, sandbox, .. } = self.opened()?;
        let mut seconds = Vec::new();
        for _ in 0..request["count"].as_u64().unwrap_or(1) {
            let sandbox = Client::new(config.clone())?.attach(sandbox.name())?;
            let began = Instant::now();
            sandbox.execute("true")?.check()?;
            seconds.push(began.elapsed().as_secs_f64());
        }
        Ok(json!({ "seconds": seconds }))
    }

    /// One whole creation, its first command included, by phase.
    fn phases(request: &Value) -> Result<Value> {
        let client = Client::new(config(request)?)?;
        let began = Instant::now();
        let sandbox = client.create(&spec())?;
        let output = sandbox.execute("true");
        let first_command = began.elapsed();
        let timings = sandbox.timings();
        sandbox.delete()?;
        output?.check()?;
        let timings = timings.ok_or("a created sandbox has no timings")?;
        Ok(json!({
            "accepted": timings.accepted.as_secs_f64(),
            "started": timings.started.as_secs_f64(),
            "logged in": timings.logged_in.as_secs_f64(),
            "first command": first_command.as_secs_f64(),
        }))
    }
}

impl Peer for Library {
    fn answer(&mut self, request: &Value) -> Result<Value> {
        match text(request, "work")? {
            "create" => self.create(request),
            "delete" => self.delete(),
            "open" => self.open(request),
            "warm" => self.warm(request),
            "connect" => {
                let sandbox = &self.opened()?.sandbox;
                sample(request, || Ok(sandbox.new_session()?))
            }
            "first" => self.first(request),
            "upload" => {
                let (files, local, remote) =
                    (self.opened()?.sandbox.files(), text(request, "local")?, remote(request)?);
                sample(request, || Ok(files.upload(local, remote)?))
            }
            "download" => {
                let (files, local, remote) =
                    (self.opened()?.sandbox.files(), text(request, "local")?, remote(request)?);
                sample(request, || Ok(files.download(remote, local)?))
            }
            "phases" => Self::phases(request),
            other => Err(format!("there is no work {other}").into()),
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        if let Err(e) = self.delete() {
            eprintln!("the sandbox stays until it expires: {e}");
        }
    }
}

fn remote(request: &Value) -> Result<&str> {
    text(request, "remote")
}

fn config(request: &Value) -> Result<Config> {
    Ok(Config::from_env()?.ssh_key(text(request, "key")?).owner("bench").lifetime(Duration::from_secs(900)))
}

/// More CPU than the machine has, so that no peer is measured against the limit's accounting.
fn spec() -> SandboxSpec {
    SandboxSpec::new().cpu("4")
}
