//! libssh2 with nothing around it: blocking calls in a straight line, no deadlines, no checks of what was lost, no
//! pool. What this takes is what libssh2, the server and the machine take. It speaks to the guest and to sshd alike.
//! Its cipher is that of `ssh/cipher.rs`, as in every program that this library is in.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};
use ssh2::{Channel, MethodType, Session, Sftp};

use crate::{Peer, Result, number, paths, sample, text, together};

/// libssh2 has as many requests on their way as fit into one call's buffer. These were the best of those tried.
const WRITE_BUFFER: usize = 4 << 20;
const READ_BUFFER: usize = 1 << 20;
/// For a command's output; larger ones were not faster.
const OUTPUT_BUFFER: usize = 64 << 10;

pub(crate) struct Plain {
    opened: Option<Opened>,
}

/// A login, and what is open for the works.
struct Opened {
    login: Login,
    session: Session,
    /// One session for each thread.
    crew: Vec<Session>,
    idle: Vec<(Session, Option<Sftp>)>,
}

struct Login {
    port: u16,
    user: String,
    key: String,
    address: String,
}

impl Plain {
    pub(crate) fn new() -> Self {
        Self { opened: None }
    }

    fn open(&mut self, request: &Value) -> Result<Value> {
        let login = Login {
            address: text(request, "address")?.to_owned(),
            port: number(request, "port")?.try_into()?,
            user: text(request, "user")?.to_owned(),
            key: std::fs::read_to_string(text(request, "key")?)?,
        };
        let session = login.connect()?;
        command(&session)?;
        self.opened = Some(Opened { login, session, crew: Vec::new(), idle: Vec::new() });
        Ok(Value::Null)
    }
}

impl Peer for Plain {
    fn answer(&mut self, request: &Value) -> Result<Value> {
        let work = text(request, "work")?;
        if work == "open" {
            return self.open(request);
        }
        let opened = self.opened.as_mut().ok_or("nothing is open")?;
        let Opened { login, session, crew, .. } = opened;
        match work {
            "warm" => sample(request, || command(session)),
            "connect" => sample(request, || login.connect()),
            "first" => sample(request, || login.connect().and_then(|session| command(&session))),
            "gather" => {
                let addresses = request["addresses"].as_array().ok_or("the request has no addresses")?;
                for address in addresses.iter().cycle().take(number(request, "threads")?) {
                    let address = address.as_str().ok_or("an address is no text")?;
                    crew.push(login.connect_to(address)?);
                }
                together(crew.len(), 1, |thread| command(&crew[thread]))
            }
            "parallel" => together(crew.len(), number(request, "count")?, |thread| command(&crew[thread])),
            "output" => sample(request, || output(session, number(request, "bytes")?)),
            "cipher" => Ok(json!(session.methods(MethodType::CryptCs))),
            "hold" => opened.hold(request),
            "upload" => {
                let (local, remote) = paths(request)?;
                sample(request, || upload(session, local, remote))
            }
            "download" => {
                let (local, remote) = paths(request)?;
                sample(request, || download(session, remote, local))
            }
            "write" => {
                let (sftp, contents) = (session.sftp()?, vec![b'x'; number(request, "bytes")?]);
                let remote = Path::new(text(request, "remote")?);
                sample(request, || {
                    let mut target = sftp.create(remote)?;
                    target.write_all(&contents)?;
                    Ok(target.close()?)
                })
            }
            "read" => {
                let (sftp, bytes) = (session.sftp()?, number(request, "bytes")?);
                let remote = Path::new(text(request, "remote")?);
                sample(request, || {
                    let mut source = sftp.open(remote)?;
                    source.read_exact(&mut vec![0; bytes])?;
                    Ok(source.close()?)
                })
            }
            "upload_together" => {
                let (local, remote) = paths(request)?;
                together(crew.len(), 1, |thread| upload(&crew[thread], local, &format!("{remote}-{thread}")))
            }
            "download_together" => {
                let (local, remote) = paths(request)?;
                together(crew.len(), 1, |thread| {
                    download(&crew[thread], &format!("{remote}-{thread}"), &format!("{local}-{thread}"))
                })
            }
            other => Err(format!("there is no work {other}").into()),
        }
    }
}

impl Opened {
    fn hold(&mut self, request: &Value) -> Result<Value> {
        while self.idle.len() < number(request, "count")? {
            let session = self.login.connect()?;
            command(&session)?;
            self.idle.push((session, None));
        }
        if request["sftp"] == json!(true) {
            for (session, sftp) in &mut self.idle {
                let opened = session.sftp()?;
                opened.stat(Path::new("/"))?;
                *sftp = Some(opened);
            }
        }
        Ok(Value::Null)
    }
}

impl Login {
    fn connect(&self) -> Result<Session> {
        self.connect_to(&self.address)
    }

    fn connect_to(&self, address: &str) -> Result<Session> {
        let stream = TcpStream::connect((address, self.port))?;
        stream.set_nodelay(true)?;
        let mut session = Session::new()?;
        session.set_tcp_stream(stream);
        session.handshake()?;
        session.userauth_pubkey_memory(&self.user, None, &self.key, None)?;
        Ok(session)
    }
}

fn command(session: &Session) -> Result<()> {
    let mut channel = session.channel_session()?;
    channel.exec("true")?;
    channel.read_to_end(&mut Vec::new())?;
    end(channel)
}

fn output(session: &Session, bytes: usize) -> Result<()> {
    let mut channel = session.channel_session()?;
    channel.exec(&format!("head -c {bytes} /dev/zero"))?;
    let (mut buffer, mut seen) = (vec![0; OUTPUT_BUFFER], 0);
    loop {
        match channel.read(&mut buffer)? {
            0 if seen == bytes => return end(channel),
            0 => return Err(format!("{seen} bytes of {bytes} came").into()),
            length => seen += length,
        }
    }
}

fn end(mut channel: Channel) -> Result<()> {
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
