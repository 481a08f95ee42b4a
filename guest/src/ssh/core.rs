//! What messages do to a connection: everything but its input, which a message borrows while it is handled.

use std::sync::Arc;

use super::auth::{AUTH_SERVICE, AuthMethod, AuthRequest, CONNECTION_SERVICE, MAX_KEYS, MAX_OTHER_METHODS};
use super::channel::{BeyondWindow, Channel, Channels, State};
use super::connection::ServerConfig;
use super::event::{ChannelId, Error, OpenFailure, disconnect_reason};
use super::kex::{self, Agreement, Exchange, ExchangeHash, Transcript};
use super::key::SIGNATURE_ALGORITHMS;
use super::packet::{Opening, Output};
use super::parse::{self, Token};
use super::wire::{Malformed, Reader, Write, message};

/// How many packets a peer may send before a user is logged in. Enough for every offer of a key, with something
/// between.
const MAX_PACKETS_BEFORE_LOGIN: u64 = 100;

/// Everything but the input.
pub(super) struct Core {
    pub(super) config: Arc<ServerConfig>,
    pub(super) output: Output,
    pub(super) client_version: Vec<u8>,
    pub(super) kex: Kex,
    /// Both sides take part in the strict key exchange.
    pub(super) strict: bool,
    /// The hash of the first exchange.
    pub(super) session_id: Option<ExchangeHash>,
    /// The peer's first NEWKEYS has come.
    pub(super) is_encrypted: bool,
    /// Messages that wait for the end of a key exchange, each after its length.
    pub(super) deferred: Vec<u8>,
    pub(super) auth: Auth,
    pub(super) key_offers: u32,
    pub(super) key_proofs: u32,
    pub(super) other_methods: u32,
    pub(super) channels: Channels,
    /// Requests outside channels that the peer waits for an answer to.
    pub(super) global_replies: u32,
    pub(super) keepalives: u32,
    /// Nothing more is read, and nothing more goes out but what waits.
    pub(super) ended: bool,
    pub(super) error: Option<Error>,
}

/// Where a key exchange is.
pub(super) enum Kex {
    Idle,
    /// Our KEXINIT is sent: from here to our NEWKEYS, only messages of the key exchange go out.
    Offered {
        server_init: Vec<u8>,
    },
    /// The client's has come too.
    Agreed {
        server_init: Vec<u8>,
        client_init: Vec<u8>,
        agreement: Agreement,
    },
    /// Our NEWKEYS is sent, and these are for what comes after the client's.
    AwaitingNewKeys {
        opening: Box<Opening>,
    },
}

/// Where the log-in is.
pub(super) enum Auth {
    /// The service has not been requested.
    Before,
    /// The service is there, and no request is open.
    Ready,
    /// The application has to say whether the key will do.
    Asked {
        algorithm: Vec<u8>,
        blob: Vec<u8>,
    },
    /// The application has to say whether the user is logged in.
    Proved,
    Done,
}

/// What a message leads to.
pub(super) enum Step {
    Continue,
    Event(Token),
    NewKeys(Box<Opening>),
}

pub(super) fn protocol_error(text: &'static str) -> Error {
    Error::new(disconnect_reason::PROTOCOL_ERROR, text)
}

impl From<Malformed> for Error {
    fn from(Malformed: Malformed) -> Self {
        protocol_error("a message is malformed")
    }
}

impl From<BeyondWindow> for Error {
    fn from(BeyondWindow: BeyondWindow) -> Self {
        protocol_error("data was sent beyond the channel's window")
    }
}

impl Kex {
    pub(super) fn holds_output(&self) -> bool {
        matches!(self, Self::Offered { .. } | Self::Agreed { .. })
    }
}

impl Auth {
    /// The application owes an answer.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Asked { .. } | Self::Proved)
    }
}

impl Core {
    pub(super) fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            config,
            output: Output::new(),
            client_version: Vec::new(),
            kex: Kex::Idle,
            strict: false,
            session_id: None,
            is_encrypted: false,
            deferred: Vec::new(),
            auth: Auth::Before,
            key_offers: 0,
            key_proofs: 0,
            other_methods: 0,
            channels: Channels::default(),
            global_replies: 0,
            keepalives: 0,
            ended: false,
            error: None,
        }
    }

    pub(super) fn is_authenticated(&self) -> bool {
        matches!(self.auth, Auth::Done)
    }

    pub(super) fn takes_messages(&self) -> bool {
        // In a key exchange the output can't grow, and nothing goes on without the peer's messages.
        let waits = !matches!(self.kex, Kex::Idle) || !self.output.blocks_answers();
        !self.ended && !self.auth.is_open() && waits
    }

    /// Sends a message, after the key exchange if there is one.
    pub(super) fn send(&mut self, build: impl FnOnce(&mut dyn Write)) {
        if self.ended {
            return;
        }
        if self.kex.holds_output() {
            let start = self.deferred.len();
            self.deferred.u32(0);
            build(&mut self.deferred);
            let length = (self.deferred.len() - start - 4) as u32;
            self.deferred[start..start + 4].copy_from_slice(&length.to_be_bytes());
        } else {
            self.output.packet(build);
        }
    }

    pub(super) fn send_close(&mut self, peer: u32) {
        self.send(|packet| {
            packet.byte(message::CHANNEL_CLOSE);
            packet.u32(peer);
        });
    }

    pub(super) fn refuse_open(&mut self, peer: u32, reason: OpenFailure, text: &str) {
        self.send(|packet| {
            packet.byte(message::CHANNEL_OPEN_FAILURE);
            packet.u32(peer);
            packet.u32(reason.code());
            packet.string(text.as_bytes());
            packet.string(b"");
        });
    }

    pub(super) fn refuse_auth(&mut self) {
        self.send(|packet| {
            packet.byte(message::USERAUTH_FAILURE);
            packet.string(b"publickey");
            packet.boolean(false);
        });
    }

    /// A request of ours in a channel, without reply.
    pub(super) fn request(&mut self, id: ChannelId, name: &[u8], build: impl FnOnce(&mut dyn Write)) {
        let Some(channel) = self.channels.get(id) else {
            return;
        };
        if channel.state == State::Open && !channel.close_sent {
            let peer = channel.peer;
            self.send(|packet| {
                packet.byte(message::CHANNEL_REQUEST);
                packet.u32(peer);
                packet.string(name);
                packet.boolean(false);
                build(packet);
            });
        }
    }

    pub(super) fn disconnect(&mut self, reason: u32, text: &str) {
        if !self.ended {
            self.ended = true;
            self.output.packet(|packet| {
                packet.byte(message::DISCONNECT);
                packet.u32(reason);
                packet.string(text.as_bytes());
                packet.string(b"");
            });
        }
    }

    pub(super) fn fail(&mut self, error: Error) -> Error {
        self.disconnect(error.reason(), error.text());
        self.error.get_or_insert(error).clone()
    }

    pub(super) fn offer_keys(&mut self) -> Result<(), Error> {
        let server_init = kex::init_message()?;
        self.output.packet(|packet| packet.bytes(&server_init));
        self.kex = Kex::Offered { server_init };
        Ok(())
    }

    pub(super) fn handle(&mut self, payload: &[u8], sequence: u32) -> Result<Step, Error> {
        let number = payload[0];
        if !self.is_authenticated() && u64::from(sequence) >= MAX_PACKETS_BEFORE_LOGIN {
            return Err(protocol_error("too many packets before the log-in"));
        }
        match number {
            message::DISCONNECT => {
                let token = Token::Disconnected;
                token.event(payload)?;
                self.ended = true;
                Ok(Step::Event(token))
            }
            message::KEXINIT => self.handle_init(payload, sequence),
            message::KEX_EXCHANGE_INIT..=49 => self.handle_exchange(payload),
            message::NEWKEYS => self.handle_new_keys(payload),
            // Whoever could slip one of these into the first exchange could shift the sequence numbers.
            _ if !self.is_encrypted && self.strict => {
                Err(protocol_error("only messages of the key exchange are allowed now"))
            }
            message::IGNORE | message::DEBUG | message::UNIMPLEMENTED => Ok(Step::Continue),
            _ if !self.is_encrypted => Err(protocol_error("only messages of the key exchange are allowed now")),
            message::EXT_INFO => Ok(Step::Continue),
            message::SERVICE_REQUEST if !self.is_authenticated() => self.handle_service(payload),
            message::USERAUTH_REQUEST => self.handle_auth(payload),
            _ if !self.is_authenticated() => Err(protocol_error("only messages of the log-in are allowed now")),
            message::PING => {
                let data = parse::ping(payload)?;
                self.send(|packet| {
                    packet.byte(message::PONG);
                    packet.string(data);
                });
                Ok(Step::Continue)
            }
            message::GLOBAL_REQUEST => {
                let wants_reply = parse::global_wants_reply(payload)?;
                let token = Token::Global { wants_reply };
                token.event(payload)?;
                self.global_replies = self.global_replies.saturating_add(u32::from(wants_reply));
                Ok(Step::Event(token))
            }
            message::REQUEST_SUCCESS | message::REQUEST_FAILURE => {
                self.keepalives = 0;
                Ok(Step::Continue)
            }
            message::CHANNEL_OPEN => self.handle_open(payload),
            message::CHANNEL_OPEN_CONFIRMATION..=message::CHANNEL_FAILURE => self.handle_channel(payload),
            _ => {
                self.send(|packet| {
                    packet.byte(message::UNIMPLEMENTED);
                    packet.u32(sequence);
                });
                Ok(Step::Continue)
            }
        }
    }

    fn handle_init(&mut self, payload: &[u8], sequence: u32) -> Result<Step, Error> {
        if matches!(self.kex, Kex::Idle) {
            if !self.is_authenticated() {
                return Err(protocol_error("new keys are exchanged only after the log-in"));
            }
            self.offer_keys()?;
        }
        let Kex::Offered { server_init } = std::mem::replace(&mut self.kex, Kex::Idle) else {
            return Err(protocol_error("KEXINIT is not allowed now"));
        };
        let agreement = Agreement::new(payload)?;
        if !self.is_encrypted {
            self.strict = agreement.strict;
            if self.strict && sequence != 0 {
                return Err(protocol_error("KEXINIT was not the first message"));
            }
        }
        self.kex = Kex::Agreed { server_init, client_init: payload.to_vec(), agreement };
        Ok(Step::Continue)
    }

    fn handle_exchange(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let Kex::Agreed { server_init, client_init, agreement } = &mut self.kex else {
            return Err(protocol_error("a message of the key exchange is not allowed now"));
        };
        if std::mem::take(&mut agreement.skip_guess) {
            return Ok(Step::Continue);
        }
        if payload[0] != message::KEX_EXCHANGE_INIT {
            return Err(protocol_error("a message of the key exchange is not allowed now"));
        }
        let server_version = self.config.version();
        let transcript = Transcript {
            client_version: &self.client_version,
            server_version: server_version.as_bytes(),
            client_init,
            server_init,
        };
        let exchange = Exchange::new(agreement.method, &transcript, &self.config.host_key, payload)?;
        let session_id = *self.session_id.get_or_insert(exchange.hash);
        let (opening, sealing) = exchange.keys(agreement, &session_id)?;
        let sends_ext_info = agreement.ext_info && !self.is_encrypted;
        self.output.packet(|packet| packet.bytes(&exchange.reply));
        self.output.packet(|packet| packet.byte(message::NEWKEYS));
        self.output.set_cipher(sealing, self.strict);
        self.kex = Kex::AwaitingNewKeys { opening: Box::new(opening) };
        if sends_ext_info {
            self.send(|packet| {
                packet.byte(message::EXT_INFO);
                packet.u32(2);
                packet.string(b"server-sig-algs");
                packet.string(SIGNATURE_ALGORITHMS.as_bytes());
                packet.string(b"ping@openssh.com");
                packet.string(b"0");
            });
        }
        let deferred = std::mem::take(&mut self.deferred);
        let mut reader = Reader::new(&deferred);
        while let Ok(payload) = reader.string() {
            self.output.packet(|packet| packet.bytes(payload));
        }
        Ok(Step::Continue)
    }

    fn handle_new_keys(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let Kex::AwaitingNewKeys { opening } = std::mem::replace(&mut self.kex, Kex::Idle) else {
            return Err(protocol_error("NEWKEYS is not allowed now"));
        };
        if payload.len() != 1 {
            return Err(Malformed.into());
        }
        self.is_encrypted = true;
        Ok(Step::NewKeys(opening))
    }

    fn handle_service(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let mut reader = Reader::new(payload);
        reader.byte()?;
        let name = reader.string()?;
        if name != AUTH_SERVICE {
            return Err(Error::new(disconnect_reason::SERVICE_NOT_AVAILABLE, "the service comes after ssh-userauth"));
        }
        if matches!(self.auth, Auth::Before) {
            self.auth = Auth::Ready;
        }
        self.send(|packet| {
            packet.byte(message::SERVICE_ACCEPT);
            packet.string(name);
        });
        Ok(Step::Continue)
    }

    fn handle_auth(&mut self, payload: &[u8]) -> Result<Step, Error> {
        match self.auth {
            Auth::Ready => {}
            // RFC 4252, section 5.3: requests that crossed with the success are ignored.
            Auth::Done => return Ok(Step::Continue),
            _ => return Err(protocol_error("the service ssh-userauth was not requested")),
        }
        let request = AuthRequest::read(payload)?;
        if request.service != CONNECTION_SERVICE {
            return Err(Error::new(
                disconnect_reason::SERVICE_NOT_AVAILABLE,
                "there is only the service ssh-connection",
            ));
        }
        let too_many = Error::new(disconnect_reason::NO_MORE_AUTH_METHODS_AVAILABLE, "too many attempts to log in");
        let AuthMethod::PublicKey { algorithm, blob, signature } = request.method else {
            self.other_methods += 1;
            if self.other_methods > MAX_OTHER_METHODS {
                return Err(too_many);
            }
            self.refuse_auth();
            return Ok(Step::Continue);
        };
        let attempts = if signature.is_some() { &mut self.key_proofs } else { &mut self.key_offers };
        *attempts += 1;
        if *attempts > MAX_KEYS {
            return Err(too_many);
        }
        let session_id = self.session_id.unwrap_or_default();
        let proves = |key| signature.is_none_or(|signature| signature.proves(&key, algorithm, &session_id));
        if !request.method.key().is_some_and(proves) {
            self.refuse_auth();
            return Ok(Step::Continue);
        }
        self.auth = match signature {
            Some(_) => Auth::Proved,
            None => Auth::Asked { algorithm: algorithm.to_vec(), blob: blob.to_vec() },
        };
        Ok(Step::Event(Token::Auth))
    }

    fn handle_open(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let open = parse::open(payload)?;
        if open.kind.is_none() {
            self.refuse_open(open.peer, OpenFailure::UnknownChannelType, "there are no channels of this type");
            return Ok(Step::Continue);
        }
        let channel = Channel::new(State::Requested, open.peer, open.window, open.max_packet, self.config.window);
        match self.channels.add(channel, self.config.max_channels) {
            Some(id) => Ok(Step::Event(Token::Open { id })),
            None => {
                self.refuse_open(open.peer, OpenFailure::ResourceShortage, "there are too many channels");
                Ok(Step::Continue)
            }
        }
    }

    fn handle_channel(&mut self, payload: &[u8]) -> Result<Step, Error> {
        let mut reader = Reader::new(payload);
        let number = reader.byte()?;
        let id = reader.u32()?;
        let answers_offer = matches!(number, message::CHANNEL_OPEN_CONFIRMATION | message::CHANNEL_OPEN_FAILURE);
        let expected = if answers_offer { State::Offered } else { State::Open };
        // Clients with several threads, such as paramiko, may enlarge a window that they have just closed.
        if self.channels.was_closed(id) {
            return Ok(Step::Continue);
        }
        let Some(channel) = self.channels.get_mut(id).filter(|channel| channel.state == expected) else {
            return Err(protocol_error("a message is for a channel that is not open"));
        };
        let token = match number {
            message::CHANNEL_OPEN_CONFIRMATION => {
                channel.peer = reader.u32()?;
                channel.peer_window = reader.u32()?;
                channel.peer_packet = reader.u32()?;
                channel.state = State::Open;
                Token::OpenConfirmed { id }
            }
            message::CHANNEL_OPEN_FAILURE => {
                let token = Token::OpenFailed { id };
                token.event(payload)?;
                self.channels.remove(id);
                return Ok(Step::Event(token));
            }
            message::CHANNEL_WINDOW_ADJUST => {
                channel.peer_window = channel.peer_window.saturating_add(reader.u32()?);
                return Ok(Step::Continue);
            }
            message::CHANNEL_DATA | message::CHANNEL_EXTENDED_DATA => {
                let token = if number == message::CHANNEL_DATA {
                    Token::Data { id }
                } else {
                    reader.u32()?;
                    Token::ExtendedData { id }
                };
                let bytes = reader.string()?;
                if bytes.len() > self.config.packet_limit() {
                    return Err(protocol_error("a packet has more data than is allowed"));
                }
                if channel.eof_received {
                    return Err(protocol_error("data was sent after its end"));
                }
                channel.debit(bytes.len())?;
                if bytes.is_empty() {
                    return Ok(Step::Continue);
                }
                token
            }
            message::CHANNEL_EOF if channel.eof_received => return Ok(Step::Continue),
            message::CHANNEL_EOF => {
                channel.eof_received = true;
                Token::Eof { id }
            }
            message::CHANNEL_CLOSE => {
                let (peer, answers) = (channel.peer, !channel.close_sent);
                self.channels.remove(id);
                if answers {
                    self.send_close(peer);
                }
                return Ok(Step::Event(Token::Closed { id }));
            }
            message::CHANNEL_REQUEST => {
                let wants_reply = parse::request_wants_reply(payload)?;
                let token = Token::Request { id, wants_reply };
                token.event(payload)?;
                channel.replies = channel.replies.saturating_add(u32::from(wants_reply));
                token
            }
            // Nothing of ours in a channel asks for an answer.
            _ => return Ok(Step::Continue),
        };
        // The application has done with a channel that it has closed.
        Ok(if channel.close_sent { Step::Continue } else { Step::Event(token) })
    }
}
