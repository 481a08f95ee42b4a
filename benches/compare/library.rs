//! This library through its public API.

use std::any::Any;
use std::hint::black_box;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use sandbox::{Client, Config, Error, Sandbox, SandboxSpec, Transfer, Transport};
use serde_json::{Value, json};

use crate::{Peer, Result, number, paths, sample, text, together};

/// How long the Pod's address may take after the first login.
const ADDRESS: Duration = Duration::from_secs(20);

pub(crate) struct Library {
    /// The sandboxes that all peers use.
    owned: Vec<Sandbox>,
    opened: Option<Opened>,
}

/// The handle whose commands and transfers are measured, and what else is open for the works.
struct Opened {
    config: Config,
    client: Client,
    sandbox: Sandbox,
    /// What each thread uses.
    crew: Vec<Sandbox>,
    /// A handle with a pool for idle sessions.
    many: Option<Sandbox>,
    /// Sessions of no pool.
    alone: Vec<Box<dyn Any>>,
}

impl Library {
    pub(crate) fn new() -> Self {
        Self { owned: Vec::new(), opened: None }
    }

    /// Creates a sandbox and says how other clients reach it.
    fn create(&mut self, request: &Value) -> Result<Value> {
        let client = Client::new(config(request)?)?;
        let sandbox = client.create(&spec())?;
        self.owned.push(sandbox.clone());
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
        // All of them, whatever happens to one.
        let results: Vec<_> = self.owned.drain(..).map(|sandbox| sandbox.delete()).collect();
        results.into_iter().collect::<sandbox::Result<()>>()?;
        Ok(Value::Null)
    }

    fn open(&mut self, request: &Value) -> Result<Value> {
        let transport = match request["transport"].as_str() {
            Some("tunnel") => Transport::Tunnel,
            _ => Transport::Direct,
        };
        let config = config(request)?.transport(transport);
        let client = Client::new(config.clone())?;
        let sandbox = client.attach(text(request, "name")?)?;
        command(&sandbox)?;
        self.opened = Some(Opened { config, client, sandbox, crew: Vec::new(), many: None, alone: Vec::new() });
        Ok(Value::Null)
    }

    /// One whole creation, its first command included, by phase.
    fn phases(request: &Value) -> Result<Value> {
        let mut config = config(request)?;
        let mut spec = spec();
        if let Some(way) = request["guest"].as_str() {
            config = config.guest(way.parse()?);
            spec = spec.image(text(request, "image")?);
        }
        let client = Client::new(config)?;
        let began = Instant::now();
        let sandbox = client.create(&spec)?;
        let output = sandbox.command("true").output();
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

impl Opened {
    /// From nothing to the end of the first command, by a client that has just found the sandbox.
    fn first(&self, request: &Value) -> Result<Value> {
        let mut seconds = Vec::new();
        for _ in 0..number(request, "count")? {
            let sandbox = Client::new(self.config.clone())?.attach(self.sandbox.name())?;
            let began = Instant::now();
            command(&sandbox)?;
            seconds.push(began.elapsed().as_secs_f64());
        }
        Ok(json!(seconds))
    }

    /// Gives each thread one of the sandboxes, and opens the sessions.
    fn gather(&mut self, request: &Value) -> Result<Value> {
        let names = request["names"].as_array().ok_or("the request has no names")?;
        for name in names.iter().cycle().take(number(request, "threads")?) {
            self.crew.push(self.client.attach(name.as_str().ok_or("a name is no text")?)?);
        }
        together(self.crew.len(), 1, |thread| command(&self.crew[thread]))
    }

    fn output(&self, request: &Value) -> Result<Value> {
        let bytes = number(request, "bytes")?;
        sample(request, || {
            let mut seen = 0;
            let head = self.sandbox.command("head").args(["-c", &bytes.to_string(), "/dev/zero"]);
            let status = head.stream(|_, piece| {
                seen += piece.len();
                Ok(())
            })?;
            if status.success() && seen == bytes { Ok(()) } else { Err(format!("{status}, {seen} bytes").into()) }
        })
    }

    /// Fills the pool with idle sessions that have run a command at the same time, each on a thread of its own, and
    /// have used SFTP if that is asked for; or opens sessions `alone`, without commands and threads.
    fn hold(&mut self, request: &Value) -> Result<Value> {
        let (count, sftp) = (number(request, "count")?, request["sftp"] == json!(true));
        if request["alone"] == json!(true) {
            while self.alone.len() < count {
                self.alone.push(Box::new(self.sandbox.new_session()?));
            }
            return Ok(Value::Null);
        }
        let sandbox = match self.many.take() {
            Some(sandbox) => sandbox,
            None => Client::new(self.config.clone().max_sessions(count))?.attach(self.sandbox.name())?,
        };
        let sandbox = self.many.insert(sandbox);
        let gate = Mutex::new(());
        std::thread::scope(|scope| {
            // Each command keeps its session until all have one; also when this returns early.
            let _closed = gate.lock().unwrap_or_else(PoisonError::into_inner);
            for _ in 0..count {
                if sftp {
                    // On the session that the next command takes: the pool lends the one that was used last.
                    sandbox.files().read("/etc/hostname")?;
                }
                let (running, runs) = mpsc::channel();
                let (gate, sandbox) = (&gate, &*sandbox);
                scope.spawn(move || {
                    sandbox.shell("echo").stream(|_, _| {
                        running.send(()).map_err(|e| Error::cancelled(e.to_string()))?;
                        drop(gate.lock());
                        Ok(())
                    })
                });
                runs.recv()?;
            }
            Ok(Value::Null)
        })
    }
}

/// Seconds of each of `count` runs of `calls` calls, which are too short to be timed one by one.
fn repeat<T>(request: &Value, call: impl Fn() -> sandbox::Result<T>) -> Result<Value> {
    let calls = number(request, "calls")?;
    sample(request, || {
        for _ in 0..calls {
            black_box(call()?);
        }
        Ok(())
    })
}

/// With the check of SHA-256 if that is asked for.
fn transfer<'a>(sandbox: &'a Sandbox, request: &Value) -> Transfer<'a> {
    sandbox.files().transfer().checksum(request["checksum"] == json!(true))
}

/// `true`, as a program with no shell around it.
fn command(sandbox: &Sandbox) -> Result<()> {
    sandbox.command("true").output()?.check()?;
    Ok(())
}

/// The same as a line for the shell, which is what SSH's own way of asking is.
fn line(sandbox: &Sandbox) -> Result<()> {
    sandbox.execute("true")?.check()?;
    Ok(())
}

impl Peer for Library {
    fn answer(&mut self, request: &Value) -> Result<Value> {
        let work = text(request, "work")?;
        match work {
            "create" => return self.create(request),
            "delete" => return self.delete(),
            "open" => return self.open(request),
            "phases" => return Self::phases(request),
            _ => {}
        }
        let opened = self.opened.as_mut().ok_or("nothing is open")?;
        let Opened { client, sandbox, crew, .. } = opened;
        match work {
            "warm" if request["shell"] == json!(true) => sample(request, || line(sandbox)),
            "warm" => sample(request, || command(sandbox)),
            "ssh_port" => repeat(request, || Ok(black_box(&*sandbox).ssh_port())),
            "host_key" => repeat(request, || Ok(sandbox.host_key())),
            "detached" => repeat(request, || sandbox.detached("boundary")),
            "api_requests" => Ok(json!(client.stats().api_requests)),
            "connect" => sample(request, || Ok(sandbox.new_session()?)),
            "first" => opened.first(request),
            "gather" => opened.gather(request),
            "parallel" => together(crew.len(), number(request, "count")?, |thread| command(&crew[thread])),
            "output" => opened.output(request),
            "hold" => opened.hold(request),
            "upload" => {
                let (local, remote) = paths(request)?;
                sample(request, || Ok(transfer(sandbox, request).upload(local, remote)?))
            }
            "download" => {
                let (local, remote) = paths(request)?;
                sample(request, || Ok(transfer(sandbox, request).download(remote, local)?))
            }
            "upload_tree" => {
                let (local, remote) = paths(request)?;
                sample(request, || Ok(sandbox.files().upload_dir(local, remote)?))
            }
            "download_tree" => {
                let (local, remote) = paths(request)?;
                sample(request, || Ok(sandbox.files().download_dir(remote, local)?))
            }
            "write" => {
                let (contents, remote) = (vec![b'x'; number(request, "bytes")?], text(request, "remote")?);
                sample(request, || Ok(sandbox.files().write(remote, &contents)?))
            }
            "read" => {
                let (bytes, remote) = (number(request, "bytes")?, text(request, "remote")?);
                sample(request, || match sandbox.files().read(remote)?.len() {
                    length if length == bytes => Ok(()),
                    length => Err(format!("{length} bytes of {bytes} came").into()),
                })
            }
            "upload_together" => {
                let (local, remote) = paths(request)?;
                together(crew.len(), 1, |thread| {
                    Ok(crew[thread].files().upload(local, format!("{remote}-{thread}")).map(drop)?)
                })
            }
            "download_together" => {
                let (local, remote) = paths(request)?;
                together(crew.len(), 1, |thread| {
                    let (remote, local) = (format!("{remote}-{thread}"), format!("{local}-{thread}"));
                    Ok(crew[thread].files().download(remote, local).map(drop)?)
                })
            }
            "remove_together" => {
                let remote = text(request, "remote")?;
                together(crew.len(), 1, |thread| Ok(crew[thread].files().remove_file(format!("{remote}-{thread}"))?))
            }
            other => Err(format!("there is no work {other}").into()),
        }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        if let Err(e) = self.delete() {
            eprintln!("a sandbox stays until it expires: {e}");
        }
    }
}

fn config(request: &Value) -> Result<Config> {
    Ok(Config::from_env()?.ssh_key(text(request, "key")?).owner("bench").lifetime(Duration::from_secs(900)))
}

/// More CPU than the machine has, so that no peer is measured against the limit's accounting, and memory for the SSH
/// server's side of all sessions.
fn spec() -> SandboxSpec {
    SandboxSpec::new().cpu("4").memory("4Gi")
}
