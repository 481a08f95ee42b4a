//! libssh2 with nothing around it: blocking calls in a straight line, no deadlines, no checks of what was lost, no pool. What
//! this takes is what libssh2, sshd and the machine take.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};
use ssh2::Session;

use crate::{Peer, Result, sample, text};

/// libssh2 has as many requests on their way as fit into one call's buffer. These were the best of those tried.
const WRITE_BUFFER: usize = 4 << 20;
const READ_BUFFER: usize = 1 << 20;

pub(crate) struct Plain {
    opened: Option<Opened>,
}

struct Opened {
    address: String,
    user: String,
    key: String,
    session: Session,
}

impl Plain {
    pub(crate) fn new() -> Self {
        Self { opened: None }
    }

    fn open(&mut self, request: &Value) -> Result<Value> {
        let address = format!("{}:{}", text(request, "address")?, request["port"]);
        let (user, key) = (text(request, "user")?.to_owned(), std::fs::read_to_string(text(request, "key")?)?);
        let session = connect(&address, &user, &key)?;
        command(&session)?;
        self.opened = Some(Opened { address, user, key, session });
        Ok(json!({}))
    }
}

impl Peer for Plain {
    fn answer(&mut self, request: &Value) -> Result<Value> {
        let work = text(request, "work")?;
        if work == "open" {
            return self.open(request);
        }
        let Opened { address, user, key, session } = self.opened.as_ref().ok_or("nothing is open")?;
        match work {
            "warm" => sample(request, || command(session)),
            "connect" => sample(request, || connect(address, user, key)),
            "first" => sample(request, || connect(address, user, key).and_then(|session| command(&session))),
            "upload" => sample(request, || upload(session, text(request, "local")?, text(request, "remote")?)),
            "download" => sample(request, || download(session, text(request, "remote")?, text(request, "local")?)),
            other => Err(format!("there is no work {other}").into()),
        }
    }
}

fn connect(address: &str, user: &str, key: &str) -> Result<Session> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut session = Session::new()?;
    session.set_tcp_stream(stream);
    session.handshake()?;
    session.userauth_pubkey_memory(user, None, key, None)?;
    Ok(session)
}

fn command(session: &Session) -> Result<()> {
    let mut channel = session.channel_session()?;
    channel.exec("true")?;
    channel.read_to_end(&mut Vec::new())?;
    channel.close()?;
    channel.wait_close()?;
    match channel.exit_status()? {
        0 => Ok(()),
        other => Err(format!("exit code {other}").into()),
    }
}

fn upload(session: &Session, local: &str, remote: &str) -> Result<()> {
    let (mut source, mut buffer) = (File::open(local)?, vec![0; WRITE_BUFFER]);
    let mut target = session.sftp()?.create(Path::new(remote))?;
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(target.close()?),
            length => target.write_all(&buffer[..length])?,
        }
    }
}

fn download(session: &Session, remote: &str, local: &str) -> Result<()> {
    let (mut target, mut buffer) = (File::create(local)?, vec![0; READ_BUFFER]);
    let mut source = session.sftp()?.open(Path::new(remote))?;
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(source.close()?),
            length => target.write_all(&buffer[..length])?,
        }
    }
}
