//! A client in memory, which shares the packets with the server but not the key exchange.

use std::sync::Arc;

use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::ml_kem_768::DecapsulationKey;
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, UnparsedPublicKey as UnparsedSigner};

use super::super::kex::{self, ExchangeHash};
use super::super::packet::{CipherName, Input, Opening, Output, Sealing};
use super::super::wire::{Reader, Write, message};
use super::super::{Connection, Error, HostKey, ServerConfig};

pub(super) const VERSION: &[u8] = b"SSH-2.0-test_1";
pub(super) const STRICT: &str = "kex-strict-c-v00@openssh.com";

/// What the client offers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offer {
    pub(super) methods: &'static str,
    pub(super) host_keys: &'static str,
    pub(super) cipher: CipherName,
    pub(super) guess: bool,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            methods: "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com",
            host_keys: "ssh-ed25519",
            cipher: CipherName::Aes128Gcm,
            guess: false,
        }
    }
}

impl Offer {
    pub(super) fn message(&self) -> Vec<u8> {
        let mut payload = vec![message::KEXINIT];
        payload.bytes(&[9; 16]);
        payload.string(self.methods.as_bytes());
        payload.string(self.host_keys.as_bytes());
        for list in [self.cipher.name(), self.cipher.name(), "", "", "none", "none", "", ""] {
            payload.string(list.as_bytes());
        }
        payload.boolean(self.guess);
        payload.u32(0);
        payload
    }

    fn is_strict(&self) -> bool {
        self.methods.contains(STRICT)
    }
}

/// A server and its client.
pub(super) struct Pair {
    pub(super) server: Connection,
    pub(super) to_server: Output,
    from_server: Input,
    pub(super) server_version: Vec<u8>,
    pub(super) session_id: Option<ExchangeHash>,
    server_init: Vec<u8>,
}

/// A client's half of a key exchange.
pub(super) struct Share {
    curve: EphemeralPrivateKey,
    kem: Option<DecapsulationKey>,
    pub(super) public: Vec<u8>,
}

impl Share {
    pub(super) fn new(with_kem: bool) -> Self {
        let curve = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new()).expect("a key");
        let kem = with_kem.then(|| DecapsulationKey::from_seed([5; 64].into()));
        let mut public = kem.as_ref().map(|kem| kem.encapsulation_key().to_bytes().to_vec()).unwrap_or_default();
        public.extend_from_slice(curve.compute_public_key().expect("a key").as_ref());
        Self { curve, kem, public }
    }

    pub(super) fn message(&self) -> Vec<u8> {
        let mut payload = vec![message::KEX_EXCHANGE_INIT];
        payload.string(&self.public);
        payload
    }

    /// The secret as it goes into hashes.
    fn agree(self, server_share: &[u8]) -> Vec<u8> {
        let (ciphertext, curve_share) = server_share.split_at(server_share.len() - 32);
        let curve_secret =
            agree_ephemeral(self.curve, &UnparsedPublicKey::new(&X25519, curve_share), |secret| secret.to_vec())
                .expect("a secret");
        let mut secret = Vec::new();
        match self.kem {
            None => secret.positive_mpint(&curve_secret),
            Some(kem) => {
                let mut both = kem.decapsulate(&ciphertext.try_into().expect("a ciphertext")).to_vec();
                both.extend_from_slice(&curve_secret);
                secret.string(digest(&SHA256, &both).as_ref());
            }
        }
        secret
    }
}

impl Pair {
    /// Nothing but the version strings has been exchanged.
    pub(super) fn new(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = ServerConfig::new(HostKey::from_seed(&[1; 32]).expect("a key"));
        change(&mut config);
        let mut pair = Self {
            server: Connection::new(Arc::new(config)),
            to_server: Output::new(),
            from_server: Input::new(),
            server_version: Vec::new(),
            session_id: None,
            server_init: Vec::new(),
        };
        pair.from_server.set_limit(1 << 21);
        pair.to_server.plain(VERSION);
        pair.to_server.plain(b"\r\n");
        let output = pair.server.output();
        let end = output.iter().position(|byte| *byte == b'\n').expect("a version line");
        pair.server_version = output[..end - 1].to_vec();
        pair.server.written(end + 1);
        pair
    }

    /// The keys are exchanged.
    pub(super) fn with_keys(offer: Offer, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut pair = Self::new(change);
        pair.exchange_keys(offer);
        pair
    }

    /// The user is logged in.
    pub(super) fn logged_in(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut pair = Self::with_keys(Offer::default(), change);
        pair.log_in();
        pair
    }

    pub(super) fn log_in(&mut self) {
        self.request_auth_service();
        let pair = super::login::user_key();
        let request = super::login::signed_request(&pair, &self.session_id.expect("keys"), b"user");
        self.send(&request);
        assert!(self.event().starts_with("Auth"));
        self.server.accept_auth();
        assert_eq!(self.receive(), [[message::USERAUTH_SUCCESS]]);
        assert!(self.server.is_authenticated());
    }

    pub(super) fn request_auth_service(&mut self) {
        let mut payload = vec![message::SERVICE_REQUEST];
        payload.string(b"ssh-userauth");
        self.send(&payload);
        let answer = self.no_event().pop().expect("an answer");
        assert_eq!(answer[0], message::SERVICE_ACCEPT);
    }

    /// A channel of the client's number 42, with a window of 1,000,000 and packets of 32 KiB.
    pub(super) fn open_session(&mut self) -> u32 {
        self.send(&open_message(b"session", 42, 1_000_000, 32_768));
        let event = self.event();
        let id = event.strip_prefix("Open { id: ").and_then(|rest| rest.split(',').next()).expect("an opening");
        let id = id.parse().expect("a number");
        self.server.accept_open(id);
        assert_eq!(self.receive()[0][0], message::CHANNEL_OPEN_CONFIRMATION);
        id
    }

    pub(super) fn send(&mut self, payload: &[u8]) {
        self.to_server.packet(|packet| packet.bytes(payload));
    }

    /// Moves what the client has sent as far as the server reads it, and gives the next event.
    pub(super) fn try_event(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(event) = self.server.next_event()? {
                return Ok(Some(format!("{event:?}")));
            }
            let waiting = self.to_server.pending();
            if waiting.is_empty() || !self.server.wants_input() {
                return Ok(None);
            }
            let room = self.server.read_buffer();
            assert!(!room.is_empty());
            let length = room.len().min(waiting.len());
            room[..length].copy_from_slice(&waiting[..length]);
            self.server.received(length);
            self.to_server.written(length);
        }
    }

    pub(super) fn event(&mut self) -> String {
        self.try_event().expect("no error").expect("an event")
    }

    /// What the server answers, without an event.
    pub(super) fn no_event(&mut self) -> Vec<Vec<u8>> {
        assert_eq!(self.try_event(), Ok(None));
        self.receive()
    }

    /// The text of the error, and that the client was told it.
    pub(super) fn error(&mut self) -> String {
        let error = loop {
            match self.try_event() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no error"),
                Err(error) => break error,
            }
        };
        assert_eq!(self.server.next_event(), Err(error.clone()));
        assert!(self.server.is_ended() && !self.server.wants_input());
        let last = self.receive().pop().expect("a message");
        let mut reader = Reader::new(&last);
        assert_eq!(reader.byte(), Ok(message::DISCONNECT));
        assert_eq!(reader.u32(), Ok(error.reason()));
        assert_eq!(reader.string(), Ok(error.text().as_bytes()));
        error.text().to_owned()
    }

    /// The messages that the server has sent.
    pub(super) fn receive(&mut self) -> Vec<Vec<u8>> {
        let mut payloads = Vec::new();
        loop {
            while let Some(opened) = self.from_server.next_packet().expect("a packet") {
                payloads.push(self.from_server.slice(opened.payload).to_vec());
                // What follows is sealed with other keys.
                if payloads.last().is_some_and(|payload| payload[0] == message::NEWKEYS) {
                    return payloads;
                }
            }
            let output = self.server.output();
            if output.is_empty() {
                return payloads;
            }
            let room = self.from_server.spare();
            let length = room.len().min(output.len());
            room[..length].copy_from_slice(&output[..length]);
            self.from_server.received(length);
            self.server.written(length);
        }
    }

    /// A whole key exchange that the client begins, or, if the server has begun it, answers.
    pub(super) fn exchange_keys(&mut self, offer: Offer) {
        let others = self.offer_keys(offer);
        assert_eq!(others, Vec::<Vec<u8>>::new());
        let share = Share::new(offer.methods.starts_with("mlkem"));
        self.finish_exchange(offer, share);
    }

    /// Sends KEXINIT and awaits the server's; gives what else came.
    pub(super) fn offer_keys(&mut self, offer: Offer) -> Vec<Vec<u8>> {
        self.send(&offer.message());
        assert_eq!(self.try_event(), Ok(None));
        let mut received = self.receive();
        let index = received.iter().position(|payload| payload[0] == message::KEXINIT).expect("KEXINIT");
        self.server_init = received.remove(index);
        received
    }

    pub(super) fn finish_exchange(&mut self, offer: Offer, share: Share) {
        let client_share = share.public.clone();
        self.send(&share.message());
        assert_eq!(self.try_event(), Ok(None));
        let received = self.receive();
        assert_eq!(
            received.iter().map(|payload| payload[0]).collect::<Vec<_>>(),
            [message::KEX_EXCHANGE_REPLY, message::NEWKEYS]
        );
        let mut reader = Reader::new(&received[0][1..]);
        let (host_key, server_share) = (reader.string().expect("a key"), reader.string().expect("a share"));
        let signature = reader.string().expect("a signature");
        let secret = share.agree(server_share);
        let mut hashed = Vec::new();
        for part in
            [VERSION, &self.server_version, &offer.message(), &self.server_init, host_key, &client_share, server_share]
        {
            hashed.string(part);
        }
        hashed.bytes(&secret);
        let hash: ExchangeHash = digest(&SHA256, &hashed).as_ref().try_into().expect("32 bytes");
        UnparsedSigner::new(&ED25519, &host_key[host_key.len() - 32..])
            .verify(&hash, &signature[signature.len() - 64..])
            .expect("the server's signature");
        let session_id = *self.session_id.get_or_insert(hash);
        let derive = |letter, length| {
            let mut bytes = vec![0; length];
            kex::derive(&secret, &hash, letter, &session_id, &mut bytes);
            bytes
        };
        let iv = |letter| <[u8; 12]>::try_from(derive(letter, 12)).expect("12 bytes");
        let length = offer.cipher.key_length();
        let opening = Opening::new(offer.cipher, &derive(b'D', length), &iv(b'B')).expect("keys");
        let sealing = Sealing::new(offer.cipher, &derive(b'C', length), &iv(b'A')).expect("keys");
        self.send(&[message::NEWKEYS]);
        self.to_server.set_cipher(sealing, offer.is_strict());
        self.from_server.set_cipher(opening, offer.is_strict());
    }
}

pub(super) fn open_message(kind: &[u8], peer: u32, window: u32, max_packet: u32) -> Vec<u8> {
    let mut payload = vec![message::CHANNEL_OPEN];
    payload.string(kind);
    payload.u32(peer);
    payload.u32(window);
    payload.u32(max_packet);
    payload
}

/// A message to a channel.
pub(super) fn channel_message(number: u8, id: u32, fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = vec![number];
    payload.u32(id);
    fields(&mut payload);
    payload
}

pub(super) fn data_message(id: u32, bytes: &[u8]) -> Vec<u8> {
    channel_message(message::CHANNEL_DATA, id, |payload| payload.string(bytes))
}

pub(super) fn request_message(id: u32, name: &[u8], wants_reply: bool, fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    channel_message(message::CHANNEL_REQUEST, id, |payload| {
        payload.string(name);
        payload.boolean(wants_reply);
        fields(payload);
    })
}

pub(super) fn global_message(name: &[u8], wants_reply: bool, fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = vec![message::GLOBAL_REQUEST];
    payload.string(name);
    payload.boolean(wants_reply);
    fields(&mut payload);
    payload
}
