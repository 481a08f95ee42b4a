//! A client of the command channel, over libssh2.

use std::io::{Read, Write};
use std::net::TcpStream;

use sandbox_protocol::{
    Bytes, COMMAND_SUBSYSTEM, Decoder, DetachedInfo, Ended, FailureKind, FrameKind, Input, NeverRan, Piece, Request,
    Response, Run, Started, Status, header,
};

use crate::guest::{Guest, TEST_TIMEOUT};

pub(crate) struct Client {
    pub(crate) session: ssh2::Session,
    channel: ssh2::Channel,
    decoder: Decoder,
}

/// What came for a request.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) started: Option<Started>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) credit: u32,
    pub(crate) response: Option<Response>,
}

/// Connects and logs in.
pub(crate) fn connect(guest: &Guest) -> ssh2::Session {
    let mut session = ssh2::Session::new().unwrap();
    let socket = TcpStream::connect(("127.0.0.1", guest.port)).unwrap();
    socket.set_nodelay(true).unwrap();
    session.set_tcp_stream(socket);
    session.set_timeout(u32::try_from(TEST_TIMEOUT.as_millis()).unwrap());
    session.set_banner("SSH-2.0-sandbox_test").unwrap();
    session.handshake().unwrap();
    session.userauth_pubkey_file("sandbox", None, &guest.key(), None).unwrap();
    session
}

pub(crate) fn run(argv: &[&str]) -> Run {
    Run { argv: argv.iter().map(|argument| Bytes::from(*argument)).collect(), ..Run::default() }
}

pub(crate) fn shell(line: &str) -> Run {
    run(&["/bin/sh", "-c", line])
}

impl Client {
    pub(crate) fn new(guest: &Guest) -> Self {
        Self::on(connect(guest))
    }

    pub(crate) fn on(session: ssh2::Session) -> Self {
        let mut channel = session.channel_session().unwrap();
        channel.subsystem(COMMAND_SUBSYSTEM).unwrap();
        Self { session, channel, decoder: Decoder::default() }
    }

    pub(crate) fn send(&mut self, kind: FrameKind, payload: &[u8]) {
        let mut frame = header(kind, u32::try_from(payload.len()).unwrap()).to_vec();
        frame.extend_from_slice(payload);
        self.write(&frame);
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.channel.write_all(bytes).unwrap();
    }

    pub(crate) fn request(&mut self, request: &Request) {
        let text = serde_json::to_vec(request).unwrap();
        self.send(FrameKind::Request, &text);
    }

    /// Takes frames until one of them makes `is_enough` true.
    pub(crate) fn receive_until(&mut self, answer: &mut Answer, mut is_enough: impl FnMut(&Answer) -> bool) {
        let mut buffer = [0; 64 << 10];
        while !is_enough(answer) {
            let length = self.channel.read(&mut buffer).unwrap_or_else(|e| panic!("{e}: {answer:?}"));
            assert!(length > 0, "the channel has ended");
            let mut input = &buffer[..length];
            while let Some(piece) = self.decoder.next(&mut input).unwrap() {
                match piece {
                    Piece::Bytes(FrameKind::Stdout, bytes) => answer.stdout.extend_from_slice(bytes),
                    Piece::Bytes(FrameKind::Stderr, bytes) => answer.stderr.extend_from_slice(bytes),
                    Piece::Frame(FrameKind::Started, payload) => {
                        answer.started = Some(serde_json::from_slice(payload).unwrap());
                    }
                    Piece::Frame(FrameKind::Result, payload) => {
                        answer.response = Some(serde_json::from_slice(payload).unwrap());
                    }
                    Piece::Frame(FrameKind::StdinCredit, payload) => {
                        answer.credit += u32::from_be_bytes(payload.try_into().unwrap());
                    }
                    piece => panic!("{piece:?}"),
                }
            }
        }
    }

    pub(crate) fn receive(&mut self, mut answer: Answer) -> Answer {
        self.receive_until(&mut answer, |answer| answer.response.is_some());
        answer
    }

    /// Waits until the program runs.
    pub(crate) fn receive_start(&mut self) -> Answer {
        let mut answer = Answer::default();
        self.receive_until(&mut answer, |answer| answer.started.is_some() || answer.response.is_some());
        answer
    }

    pub(crate) fn ask(&mut self, request: &Request) -> Answer {
        self.request(request);
        self.receive(Answer::default())
    }

    pub(crate) fn run(&mut self, run: Run) -> Answer {
        self.ask(&Request::Run(run))
    }

    pub(crate) fn run_with(&mut self, run: Run, input: &[u8]) -> Answer {
        self.request(&Request::Run(Run { stdin: Input::Frames, ..run }));
        for part in input.chunks(100_000) {
            self.send(FrameKind::Stdin, part);
        }
        self.send(FrameKind::StdinEof, b"");
        self.receive(Answer::default())
    }

    pub(crate) fn shell(&mut self, line: &str) -> Answer {
        self.run(shell(line))
    }

    /// Whether a frame could be sent.
    pub(crate) fn try_send(&mut self, kind: FrameKind, payload: &[u8]) -> bool {
        let head = header(kind, u32::try_from(payload.len()).unwrap());
        self.channel.write_all(&head).and_then(|()| self.channel.write_all(payload)).is_ok()
    }

    /// Whether the guest has closed the channel.
    pub(crate) fn is_closed_by_guest(&mut self) -> bool {
        self.channel.read(&mut [0]).unwrap() == 0
    }
}

impl Answer {
    pub(crate) fn ended(&self) -> &Ended {
        match &self.response {
            Some(Response::Ended(ended)) => {
                assert_eq!(self.stdout.len() as u64, ended.stdout);
                assert_eq!(self.stderr.len() as u64, ended.stderr);
                ended
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn code(&self) -> i32 {
        match self.ended().status {
            Status::Code(code) => code,
            ref other => panic!("{other:?}; {}", String::from_utf8_lossy(&self.stderr)),
        }
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.stdout).unwrap()
    }

    pub(crate) fn never_ran(&self) -> &NeverRan {
        match &self.response {
            Some(Response::NeverRan(reason)) => {
                assert_eq!(self.started, None);
                reason
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn failure(&self) -> FailureKind {
        match &self.response {
            Some(Response::Failed(failure)) => failure.kind,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn detached(&self) -> &DetachedInfo {
        match &self.response {
            Some(Response::Detached(info)) => info,
            other => panic!("{other:?}"),
        }
    }
}
