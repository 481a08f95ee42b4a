//! The command channel: requests of the library, one after another. `docs/guest-protocol.md` describes it.

mod detached;
mod frames;
mod port;
mod run;
mod usage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use sandbox_protocol::{
    AuthorizeKey, Claim, Decoder, Failure, FailureKind, FrameKind, Hello, MAX_CONTROL_PAYLOAD, PROTOCOL, Piece,
    Request, Resize, Response, signal_number,
};

use crate::detached::Entry;
use crate::environment::is_variable;
use crate::expiry::{milliseconds, now};
use crate::keys::Refusal;
use crate::log::log;
use crate::process::Whom;
use crate::server::Shared;
use crate::server::channel::{Channel, Context, Link, Slots};
use crate::sftp::Digest;
use crate::ssh::PublicKey;
use detached::{Follow, Upload};
use frames::Outbox;
use port::PortWait;
use run::Command;

/// What the channel works at.
#[derive(Debug, Default)]
enum Active {
    #[default]
    Nothing,
    Run(Box<Command>),
    /// A detached command whose input is still coming.
    Upload(Box<Upload>),
    /// A detached command that is being started; by this request, if it says so.
    Start(Arc<Entry>, bool),
    Wait(Arc<Entry>, Option<Instant>),
    Follow(Box<Follow>),
    Kill(Arc<Entry>, u64),
    Port(PortWait),
    Digests,
}

/// A channel for requests.
#[derive(Debug, Default)]
pub(crate) struct CommandChannel {
    decoder: Decoder,
    active: Active,
    outbox: Outbox,
    /// The client sends nothing more.
    ended: bool,
    /// The client does not keep to the protocol.
    broken: bool,
    is_closed: bool,
}

fn failure(kind: FailureKind, message: impl Into<String>) -> Response {
    Response::Failed(Failure { kind, message: message.into(), errno: None })
}

impl CommandChannel {
    fn finish(&mut self, response: &Response) {
        self.active = Active::Nothing;
        self.outbox.add_json(FrameKind::Result, response);
    }

    fn frame(&mut self, context: &Context, kind: FrameKind, payload: &[u8]) {
        match kind {
            FrameKind::Request if !matches!(self.active, Active::Nothing) => {
                log!("command channel: a request came before the result of the one before");
                self.broken = true;
            }
            FrameKind::Request => match serde_json::from_slice(payload) {
                Ok(request) => match self.start(context, request) {
                    Ok(active) => self.active = active,
                    Err(response) => self.finish(&response),
                },
                Err(e) => self.finish(&failure(FailureKind::Invalid, format!("no request: {e}"))),
            },
            FrameKind::StdinEof => match std::mem::take(&mut self.active) {
                Active::Run(mut command) => {
                    command.end_input();
                    self.active = Active::Run(command);
                }
                Active::Upload(upload) => match upload.start(context) {
                    Ok(active) => self.active = active,
                    Err(response) => self.finish(&response),
                },
                other => self.active = other,
            },
            FrameKind::Signal => {
                if let Active::Run(command) = &mut self.active
                    && let Some(number) = str::from_utf8(payload).ok().and_then(signal_number)
                {
                    command.signal(number);
                }
            }
            FrameKind::Resize => {
                if let Active::Run(command) = &mut self.active
                    && let Ok(Resize { columns, rows }) = serde_json::from_slice(payload)
                {
                    command.resize(columns, rows);
                }
            }
            FrameKind::Cancel => self.cancel(),
            // Those that go the other way.
            _ => self.broken = true,
        }
    }

    fn cancel(&mut self) {
        match &mut self.active {
            Active::Run(command) => command.cancel(),
            Active::Follow(follow) => {
                let response = follow.response();
                self.finish(&response);
            }
            // It was not to wait for it any longer, and neither has it ended.
            Active::Wait(entry, _) => {
                let response = Response::Detached(Box::new(entry.info(false)));
                self.finish(&response);
            }
            Active::Port(_) => self.finish(&failure(FailureKind::Cancelled, "nothing listened yet")),
            Active::Upload(_) => {
                self.finish(&failure(FailureKind::Cancelled, "the command was not started"));
            }
            // These have an answer soon, and what they began is not undone.
            Active::Start(..) | Active::Kill(..) | Active::Digests | Active::Nothing => {}
        }
    }

    fn start(&mut self, context: &Context, request: Request) -> Result<Active, Box<Response>> {
        let shared = &context.shared;
        let failed = |failure| Box::new(Response::Failed(failure));
        let watched = |key: &str| {
            let entry = shared.detached.get(key).map_err(failed)?;
            entry.watch(&context.waker);
            Ok::<_, Box<Response>>(entry)
        };
        let info = |entry: &Entry| Response::Detached(Box::new(entry.info(false)));
        let signal = |id: u64, name: &str, all: bool| {
            let number = signal_number(name)
                .ok_or_else(|| Box::new(failure(FailureKind::Invalid, format!("{name:?} is no name of a signal"))))?;
            let whom = if all { Whom::All } else { Whom::Group };
            Ok::<_, Box<Response>>(shared.spawner.signal(id, number, whom))
        };
        let response = match request {
            Request::Hello => Response::Hello(Box::new(hello(context))),
            Request::Run(run) => match Command::start(context, &run) {
                Ok(command) => return Ok(Active::Run(Box::new(command))),
                Err(response) => return Err(response),
            },
            Request::Renew(renew) => self::renew(shared, renew.lifetime_ms, renew.shorten),
            Request::Claim(claim) => self::claim(shared, &claim),
            Request::Expiry => Response::Expiry(shared.expiry.remaining()),
            Request::List => Response::Commands { commands: shared.owners.list(&shared.spawner) },
            Request::Signal(to) => {
                if signal(to.id, &to.signal, to.all)? {
                    Response::Done
                } else {
                    failure(FailureKind::NotFound, format!("no command {} runs", to.id))
                }
            }
            Request::DetachedStart(start) => {
                let upload = Upload::new(context, start)?;
                return if upload.has_input() { Ok(Active::Upload(Box::new(upload))) } else { upload.start(context) };
            }
            Request::DetachedStatus(of) => info(&*shared.detached.get(&of.key).map_err(failed)?),
            Request::DetachedWait(wait) => {
                let until =
                    wait.timeout_ms.and_then(|timeout| Instant::now().checked_add(Duration::from_millis(timeout)));
                return Ok(Active::Wait(watched(&wait.key)?, until));
            }
            Request::DetachedRead(read) => {
                return Ok(Active::Follow(Box::new(Follow::read(watched(&read.key)?, &read))));
            }
            Request::DetachedFollow(follow) => {
                return Ok(Active::Follow(Box::new(Follow::new(watched(&follow.key)?, &follow))));
            }
            Request::DetachedSignal(to) => {
                let entry = shared.detached.get(&to.key).map_err(failed)?;
                // One that has ended a moment ago needs none.
                signal(entry.info(false).id, &to.signal, to.all)?;
                Response::Done
            }
            Request::DetachedKill(of) => {
                let entry = watched(&of.key)?;
                let number = shared.detached.kill(&entry);
                return Ok(Active::Kill(entry, number));
            }
            Request::DetachedRemove(of) => {
                shared.detached.remove(&of.key).map_err(failed)?;
                Response::Done
            }
            Request::DetachedList => {
                let entries = shared.detached.list();
                Response::DetachedList { commands: entries.iter().map(|entry| entry.info(false)).collect() }
            }
            Request::Digests => return Ok(Active::Digests),
            Request::AuthorizeKey(_) | Request::RevokeKey(_) if !shared.keys.is_own(&context.client) => refused(),
            Request::AuthorizeKey(wanted) => authorize_key(context, &wanted),
            Request::AuthorizedKeys => Response::Keys { keys: shared.keys.granted() },
            Request::RevokeKey(of) => revoke_key(context, &of.key),
            Request::Usage => Response::Usage(usage::usage(shared)),
            Request::WaitForPort(wait) => return Ok(Active::Port(PortWait::new(wait))),
            Request::Unknown => failure(
                FailureKind::Unsupported,
                format!(
                    "this guest, version {} with protocol {PROTOCOL}, does not know the request",
                    env!("CARGO_PKG_VERSION")
                ),
            ),
        };
        Err(Box::new(response))
    }
}

fn renew(shared: &Shared, lifetime_ms: Option<u64>, shorten: bool) -> Response {
    match shared.expiry.renew(lifetime_ms.map(Duration::from_millis), shorten) {
        Ok(expiry) => Response::Expiry(expiry),
        Err(e) => failure(FailureKind::Other, format!("the timer: {e}")),
    }
}

/// Whoever was granted access grants it to nobody else.
fn refused() -> Response {
    let message = "only a client with a key of its own may authorize keys or revoke them".to_owned();
    let errno = Some(rustix::io::Errno::PERM.raw_os_error());
    Response::Failed(Failure { kind: FailureKind::Other, message, errno })
}

fn authorize_key(context: &Context, wanted: &AuthorizeKey) -> Response {
    let lifetime = wanted.lifetime_ms.map(Duration::from_millis);
    match context.shared.keys.grant(&wanted.key, lifetime) {
        Ok(()) => {
            log!("{} lets {} log in", context.client, wanted.key.escape_debug());
            Response::Done
        }
        Err(Refusal::Malformed(reason)) => failure(FailureKind::Invalid, format!("the public key: {reason}")),
        Err(Refusal::Own) => failure(FailureKind::Conflict, "this is the key of a client itself"),
        Err(Refusal::TooMany) => failure(FailureKind::Limit, "there are too many keys"),
    }
}

fn revoke_key(context: &Context, line: &str) -> Response {
    let key = match PublicKey::from_line(line) {
        Ok(key) => key,
        Err(e) => return failure(FailureKind::Invalid, format!("the public key: {e}")),
    };
    if !context.shared.keys.revoke_grant(key.as_ref()) {
        return failure(FailureKind::NotFound, "no such key may log in");
    }
    let fingerprint = key.as_ref().fingerprint();
    log!("{} lets {fingerprint} log in no longer", context.client);
    context.shared.connected.disconnect(Some(&fingerprint));
    Response::Done
}

fn claim(shared: &Shared, claim: &Claim) -> Response {
    if let Some((name, _)) = claim.env.iter().find(|(name, value)| !is_variable(&name.0, &value.0)) {
        return failure(FailureKind::Invalid, format!("the variable {name:?} can't be set"));
    }
    shared.environment.give(claim.env.iter().map(|(name, value)| (name.as_ref(), value.as_ref())));
    if let Some(limit) = claim.hard_limit_ms {
        shared.expiry.limit(Duration::from_millis(limit));
    }
    if let Some(timeout) = claim.idle_timeout_ms {
        shared.idle.set_timeout(Duration::from_millis(timeout));
    }
    renew(shared, claim.lifetime_ms, true)
}

fn hello(context: &Context) -> Hello {
    use std::os::unix::ffi::OsStrExt;
    let shared = &context.shared;
    let environment = &shared.environment;
    let path = |path: &std::path::Path| path.as_os_str().as_bytes().into();
    Hello {
        protocol: PROTOCOL,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        instance: shared.instance.clone(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        user: environment.account().map(|account| account.name.clone().into()),
        home: path(environment.home()),
        cwd: path(environment.directory()),
        shell: environment.shell().map(path),
        tmp: environment.temporary().map(path),
        promises: shared.promises(),
        uptime_ms: milliseconds(now().saturating_sub(shared.began)),
        max_request: MAX_CONTROL_PAYLOAD as u64,
    }
}

impl Channel for CommandChannel {
    fn data(&mut self, context: &Context, bytes: &[u8]) -> usize {
        let mut input = bytes;
        let mut decoder = std::mem::take(&mut self.decoder);
        while !self.broken {
            match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Piece::Frame(kind, payload))) => self.frame(context, kind, payload),
                Ok(Some(Piece::Bytes(FrameKind::Stdin, bytes))) => {
                    let is_allowed = match &mut self.active {
                        Active::Run(command) => command.input(bytes),
                        Active::Upload(upload) => {
                            upload.input(bytes);
                            true
                        }
                        // Of a request that has its result already.
                        _ => true,
                    };
                    self.broken |= !is_allowed;
                }
                Ok(Some(Piece::Bytes(..))) => self.broken = true,
                Err(e) => {
                    log!("command channel: {e}");
                    self.broken = true;
                }
            }
        }
        self.decoder = decoder;
        // All of it: what a command has not taken is bounded by its credit, and what is more must get through, such as
        // a signal.
        bytes.len()
    }

    fn eof(&mut self) {
        // Half a request does not run, and half an input is no input.
        self.ended = true;
        self.cancel();
    }

    fn register<'a>(&'a self, room: usize, slots: &mut Slots<'_, 'a>) {
        if self.is_closed {
            return;
        }
        if !self.outbox.is_empty() {
            if room > 0 {
                slots.at_once();
            }
            return;
        }
        match &self.active {
            Active::Run(command) => command.register(room, slots),
            Active::Wait(_, until) => slots.until(*until),
            Active::Port(wait) => slots.until(Some(wait.next())),
            Active::Follow(follow) if room > sandbox_protocol::HEADER_LENGTH && follow.has_more() => slots.at_once(),
            _ => {}
        }
    }

    fn ready(&mut self, slot: u8, _events: PollFlags) {
        if let Active::Run(command) = &mut self.active {
            command.ready(slot);
        }
    }

    fn progress(&mut self, link: &mut Link<'_>) {
        if self.is_closed {
            return;
        }
        self.outbox.flush(link);
        let response = match &mut self.active {
            Active::Run(command) => command.progress(link, &mut self.outbox),
            Active::Upload(upload) => {
                upload.credit(&mut self.outbox);
                None
            }
            Active::Start(entry, started) => detached::start_response(entry, *started),
            Active::Wait(entry, until) => {
                let is_over = entry.has_ended() || until.is_some_and(|until| until <= Instant::now());
                is_over.then(|| Response::Detached(Box::new(entry.info(false))))
            }
            Active::Port(wait) => wait.progress(),
            Active::Follow(follow) if self.outbox.is_empty() => follow.progress(link),
            Active::Kill(entry, number) => {
                entry.is_killed(*number).then(|| Response::Detached(Box::new(entry.info(false))))
            }
            Active::Follow(_) | Active::Digests | Active::Nothing => None,
        };
        if let Some(response) = response {
            self.finish(&response);
        }
        self.outbox.flush(link);
        let is_over = self.ended && matches!(self.active, Active::Nothing) && self.outbox.is_empty();
        if self.broken || is_over {
            self.is_closed = true;
            // Ends what runs.
            self.active = Active::Nothing;
            link.connection.exit_status(link.id, u32::from(self.broken));
            link.connection.eof(link.id);
            link.connection.close(link.id);
        }
    }

    fn wants_digests(&self) -> bool {
        matches!(self.active, Active::Digests)
    }

    fn digests(&mut self, digests: Vec<Digest>) {
        let digests = digests.into_iter().map(|digest| sandbox_protocol::Digest {
            path: digest.path.into(),
            offset: digest.offset,
            length: digest.length,
            sha256: digest.sha256.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        });
        self.finish(&Response::Digests { digests: digests.collect() });
    }
}

#[cfg(test)]
mod tests {
    use sandbox_protocol::{Run, header};

    use super::*;
    use crate::mutation::Mutator;

    #[test]
    fn changed_frames_break_nothing() {
        let run = Run { argv: vec![b"cat".as_slice().into()], ..Run::default() };
        let requests = [Request::Hello, Request::Run(run), Request::Claim(Claim::default()), Request::Usage];
        let mut seeds = Vec::new();
        for request in &requests {
            let payload = serde_json::to_vec(request).unwrap();
            let length = u32::try_from(payload.len()).unwrap();
            seeds.push([&header(FrameKind::Request, length)[..], &payload, &header(FrameKind::StdinEof, 0)].concat());
        }
        seeds.push([&header(FrameKind::Stdin, 4)[..], b"data", &header(FrameKind::Signal, 3), b"INT"].concat());
        let (mut mutator, mut understood) = (Mutator::new(0x2545_f491_4f6c_dd1d), 0);
        for _ in 0..20_000 {
            let changed = mutator.change(&seeds);
            let cut = mutator.below(changed.len());
            let mut decoder = Decoder::default();
            'pieces: for mut input in [&changed[..cut], &changed[cut..]] {
                loop {
                    match decoder.next(&mut input) {
                        Ok(Some(Piece::Frame(FrameKind::Request, payload))) => {
                            understood += usize::from(serde_json::from_slice::<Request>(payload).is_ok());
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => break 'pieces,
                    }
                }
            }
        }
        assert!(understood > 1_000, "{understood}");
    }
}
