//! One client for both servers: libssh2.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use sandbox_protocol::{COMMAND_SUBSYSTEM, Decoder, Ended, FrameKind, Piece, Request, Response, Run, Status, header};
use ssh2::{Channel, MethodType, Session, Sftp};

use crate::Result;
use crate::server::{Place, Server};

/// libssh2 has as many requests on their way as fit into one call's buffer.
const WRITE_BUFFER: usize = 4 << 20;
const READ_BUFFER: usize = 1 << 20;
const OUTPUT_BUFFER: usize = 64 << 10;
/// What the guest may send ahead, as the library has it.
const WINDOW: u32 = 2 << 20;
/// Both servers have it, and it is the fastest.
const CIPHER: &str = "aes128-gcm@openssh.com";

/// A session that is logged in.
pub(crate) struct Client {
    session: Session,
}

impl Client {
    pub(crate) fn connect(place: &Place, server: &Server) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", server.port))?;
        stream.set_nodelay(true)?;
        let mut session = Session::new()?;
        // What hangs fails.
        session.set_timeout(60_000);
        for method in [MethodType::CryptCs, MethodType::CryptSc] {
            session.method_pref(method, CIPHER)?;
        }
        session.set_tcp_stream(stream);
        session.handshake()?;
        session.userauth_pubkey_file(&place.user, None, &place.key(), None)?;
        Ok(Self { session })
    }

    /// Runs a line, whose output is thrown away.
    pub(crate) fn exec(&self, line: &str) -> Result<()> {
        let mut channel = self.session.channel_session()?;
        channel.exec(line)?;
        channel.read_to_end(&mut Vec::new())?;
        end(channel)
    }

    pub(crate) fn output(&self, bytes: usize) -> Result<()> {
        let mut channel = self.session.channel_session()?;
        channel.exec(&format!("exec head -c {bytes} /dev/zero"))?;
        let (mut buffer, mut seen) = (vec![0; OUTPUT_BUFFER], 0);
        loop {
            match channel.read(&mut buffer)? {
                0 if seen == bytes => return end(channel),
                0 => return Err(format!("{seen} bytes of {bytes} came").into()),
                length => seen += length,
            }
        }
    }

    pub(crate) fn sftp(&self) -> Result<Sftp> {
        Ok(self.session.sftp()?)
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

pub(crate) fn download(sftp: &Sftp, file: &Path, bytes: usize) -> Result<()> {
    let (mut source, mut buffer, mut seen) = (sftp.open(file)?, vec![0; READ_BUFFER], 0);
    loop {
        match source.read(&mut buffer)? {
            0 if seen == bytes => return Ok(source.close()?),
            0 => return Err(format!("{seen} bytes of {bytes} came").into()),
            length => seen += length,
        }
    }
}

pub(crate) fn upload(sftp: &Sftp, file: &Path, bytes: usize) -> Result<()> {
    let (mut target, buffer) = (sftp.create(file)?, vec![7; WRITE_BUFFER]);
    for _ in 0..bytes / WRITE_BUFFER {
        target.write_all(&buffer)?;
    }
    target.close()?;
    let length = std::fs::metadata(file)?.len();
    if length == bytes as u64 { Ok(()) } else { Err(format!("{length} bytes of {bytes} arrived").into()) }
}

/// The guest's command channel, as the library uses it.
pub(crate) struct Commands {
    channel: Channel,
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Commands {
    pub(crate) fn open(client: &Client) -> Result<Self> {
        let mut channel = client.session.channel_open("session", WINDOW, 32_768, None)?;
        channel.subsystem(COMMAND_SUBSYSTEM)?;
        Ok(Self { channel, decoder: Decoder::default(), buffer: vec![0; OUTPUT_BUFFER] })
    }

    pub(crate) fn run(&mut self, argv: &[&str]) -> Result<()> {
        self.output(argv, 0)
    }

    /// Runs a program that writes so many bytes.
    pub(crate) fn output(&mut self, argv: &[&str], bytes: usize) -> Result<()> {
        let request = Request::Run(Run {
            argv: argv.iter().map(|word| (*word).into()).collect(),
            announce_late: true,
            ..Run::default()
        });
        let text = serde_json::to_vec(&request)?;
        let mut frame = header(FrameKind::Request, u32::try_from(text.len())?).to_vec();
        frame.extend(text);
        self.channel.write_all(&frame)?;
        let mut seen = 0;
        loop {
            let length = self.channel.read(&mut self.buffer)?;
            if length == 0 {
                return Err("the command channel was closed".into());
            }
            let mut input = &self.buffer[..length];
            while let Some(piece) = self.decoder.next(&mut input)? {
                match piece {
                    Piece::Bytes(_, bytes) => seen += bytes.len(),
                    Piece::Frame(FrameKind::Result, text) => match serde_json::from_slice(text)? {
                        Response::Ended(Ended { status: Status::Code(0), .. }) if seen == bytes => {
                            return Ok(());
                        }
                        other => return Err(format!("{seen} bytes of {bytes} came, {other:?}").into()),
                    },
                    Piece::Frame(..) => {}
                }
            }
        }
    }
}
