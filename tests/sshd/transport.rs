//! Versions, packets and the key exchange (RFC 4253): curve25519-sha256 with an ed25519 host key.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use openssl::derive::Deriver;
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::{Id, PKey, Private};
use openssl::sign::Signer;
use socket2::SockRef;

use super::cipher::{AES_128, Keys, TAG};
use super::wire::{Fields, KEX_ECDH_INIT, KEX_ECDH_REPLY, KEXINIT, Message, NEWKEYS};

/// No connection lives longer without being renewed, whatever the client does or leaves undone.
const LIFE: Duration = Duration::from_secs(60);

const LONGEST_PACKET: u32 = 1 << 20;
/// The largest of any cipher.
pub const BLOCK: usize = 16;

const VERSION: &str = "SSH-2.0-test";

/// The server's end of a connection.
#[derive(Debug)]
pub struct Transport {
    socket: TcpStream,
    /// The cipher that is offered at the next key exchange.
    pub cipher: &'static str,
    reader: BufReader<TcpStream>,
    pub host_key: PKey<Private>,
    client_version: Vec<u8>,
    session: Option<Vec<u8>>,
    sending: Direction,
    receiving: Direction,
    /// What came while a key exchange was going on.
    waiting: VecDeque<Vec<u8>>,
    ends_at: Instant,
}

#[derive(Debug)]
struct Direction {
    sequence: u32,
    /// None before the first key exchange.
    keys: Option<Keys>,
}

impl Direction {
    fn next_sequence(&mut self) -> u32 {
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        sequence
    }
}

/// A packet before it is sealed. What it says of itself need not be true.
#[derive(Clone, Debug)]
pub struct Packet {
    pub length: u32,
    pub padding: u8,
    /// Payload and padding.
    pub body: Vec<u8>,
}

impl Transport {
    pub fn new(socket: TcpStream, host_key: PKey<Private>) -> io::Result<Self> {
        socket.set_read_timeout(Some(LIFE))?;
        socket.set_write_timeout(Some(LIFE))?;
        socket.set_nodelay(true)?;
        let fresh = || Direction { sequence: 0, keys: None };
        Ok(Self {
            reader: BufReader::new(socket.try_clone()?),
            socket,
            cipher: AES_128,
            host_key,
            client_version: Vec::new(),
            session: None,
            sending: fresh(),
            receiving: fresh(),
            waiting: VecDeque::new(),
            ends_at: Instant::now() + LIFE,
        })
    }

    /// Lets the connection live as long again.
    pub fn renew(&mut self) {
        self.ends_at = Instant::now() + LIFE;
    }

    /// An error once the connection has lived long enough. All endless loops ask.
    pub fn check_age(&self) -> io::Result<()> {
        if Instant::now() < self.ends_at { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }

    pub fn exchange_versions(&mut self) -> io::Result<()> {
        self.socket.write_all(format!("{VERSION}\r\n").as_bytes())?;
        let mut line = Vec::new();
        (&mut self.reader).take(256).read_until(b'\n', &mut line)?;
        self.client_version = line.trim_ascii_end().to_vec();
        Ok(())
    }

    /// A key exchange, the first one or a later one, which this side begins.
    pub fn exchange_keys(&mut self) -> io::Result<()> {
        let ours = self.begin_key_exchange()?;
        self.continue_key_exchange(&ours)
    }

    /// The rest of a key exchange that this side has begun with `ours`.
    pub fn continue_key_exchange(&mut self, ours: &[u8]) -> io::Result<()> {
        let theirs = self.receive_for_exchange(KEXINIT)?;
        self.finish_key_exchange(ours, &theirs)
    }

    /// Waits until the client has sent as much as it can while nobody reads, or has nothing more to send.
    #[expect(unsafe_code, reason = "ioctl")]
    pub fn await_congestion(&self) -> io::Result<()> {
        let mut before = -1;
        loop {
            let mut waiting: libc::c_int = 0;
            // SAFETY: the descriptor is open, and the request writes one int.
            let code = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::FIONREAD, &raw mut waiting) };
            if code < 0 {
                return Err(io::Error::last_os_error());
            }
            if waiting == before {
                return Ok(());
            }
            before = waiting;
            self.check_age()?;
            // It shows only in that nothing comes for a while.
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Sends what this side can do, and returns it.
    pub fn begin_key_exchange(&mut self) -> io::Result<Vec<u8>> {
        let offer = self.offer();
        self.send(&offer)?;
        Ok(offer)
    }

    pub fn offer(&self) -> Vec<u8> {
        let offer = Message::new(KEXINIT).raw(&[7; 16]).string("curve25519-sha256").string("ssh-ed25519");
        let offer = offer.string(self.cipher).string(self.cipher).string("hmac-sha2-256").string("hmac-sha2-256");
        offer.string("none").string("none").string("").string("").byte(0).u32(0).0
    }

    pub fn finish_key_exchange(&mut self, ours: &[u8], theirs: &[u8]) -> io::Result<()> {
        let request = self.receive_for_exchange(KEX_ECDH_INIT)?;
        let client_public = Fields(&request[1..]).string()?;
        let ephemeral = PKey::generate_x25519()?;
        let peer = PKey::public_key_from_raw_bytes(client_public, Id::X25519)?;
        let mut deriver = Deriver::new(&ephemeral)?;
        deriver.set_peer(&peer)?;
        let secret = Message(Vec::new()).number(&deriver.derive_to_vec()?).0;

        let (host_key, public) = (host_key_blob(&self.host_key)?, ephemeral.raw_public_key()?);
        let hashed = Message(Vec::new()).string(&self.client_version).string(VERSION).string(theirs).string(ours);
        let hashed = hashed.string(&host_key).string(client_public).string(&public).raw(&secret).0;
        let digest = hash(MessageDigest::sha256(), &hashed)?.to_vec();
        let signature = Signer::new_without_digest(&self.host_key)?.sign_oneshot_to_vec(&digest)?;
        let signature = Message(Vec::new()).string("ssh-ed25519").string(signature).0;
        self.send(&Message::new(KEX_ECDH_REPLY).string(host_key).string(public).string(signature).0)?;
        self.send(&[NEWKEYS])?;

        let session = self.session.get_or_insert_with(|| digest.clone()).clone();
        let keys = |letters| Keys::derive(self.cipher, letters, &secret, &digest, &session);
        let (sending, receiving) = (keys(*b"BD")?, keys(*b"AC")?);
        self.sending.keys = Some(sending);
        self.receive_for_exchange(NEWKEYS)?;
        self.receiving.keys = Some(receiving);
        Ok(())
    }

    /// The next message of this kind; others are kept for later.
    fn receive_for_exchange(&mut self, kind: u8) -> io::Result<Vec<u8>> {
        loop {
            let payload = self.receive_packet()?;
            if payload[0] == kind {
                return Ok(payload);
            }
            self.waiting.push_back(payload);
        }
    }

    /// The payload of the next packet.
    pub fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self.waiting.pop_front() {
            Some(payload) => Ok(payload),
            None => self.receive_packet(),
        }
    }

    fn receive_packet(&mut self) -> io::Result<Vec<u8>> {
        self.check_age()?;
        let sequence = self.receiving.next_sequence();
        let mut length = vec![0; 4];
        self.reader.read_exact(&mut length)?;
        let plain = match &self.receiving.keys {
            Some(keys) => keys.crypt_length(sequence, &length)?,
            None => length.clone(),
        };
        let body_length = match u32::from_be_bytes(plain.try_into().unwrap()) {
            length @ 1..LONGEST_PACKET => length as usize,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        let mut body = vec![0; body_length];
        self.reader.read_exact(&mut body)?;
        if let Some(keys) = &mut self.receiving.keys {
            let mut tag = [0; TAG];
            self.reader.read_exact(&mut tag)?;
            body = keys.open(sequence, &[length, body].concat(), &tag)?;
        }
        let end = body.len().checked_sub(usize::from(body[0])).filter(|end| *end > 1);
        Ok(body[1..end.ok_or(io::ErrorKind::InvalidData)?].to_vec())
    }

    pub fn send(&mut self, payload: &[u8]) -> io::Result<()> {
        self.send_changed(payload, |_| {})
    }

    /// An honest packet.
    pub fn packet(&self, payload: &[u8]) -> Packet {
        // The cipher treats the length apart, so it is not counted then.
        let ahead = if self.sending.keys.is_some() { 1 } else { 5 };
        let mut padding = BLOCK - (ahead + payload.len()) % BLOCK;
        if padding < 4 {
            padding += BLOCK;
        }
        let body = [payload, &vec![0; padding]].concat();
        Packet { length: u32::try_from(body.len() + 1).unwrap(), padding: u8::try_from(padding).unwrap(), body }
    }

    /// The bytes of a packet as they go over the wire.
    pub fn seal(&mut self, packet: &Packet) -> io::Result<Vec<u8>> {
        let bytes = [&packet.length.to_be_bytes()[..], &[packet.padding], &packet.body].concat();
        let sequence = self.sending.next_sequence();
        match &mut self.sending.keys {
            Some(keys) => keys.seal(sequence, &bytes),
            None => Ok(bytes),
        }
    }

    /// Bytes that are no packet, or not all of one.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Sends a packet after `change` has been done to it.
    pub fn send_changed(&mut self, payload: &[u8], change: impl FnOnce(&mut Packet)) -> io::Result<()> {
        let mut packet = self.packet(payload);
        change(&mut packet);
        let sealed = self.seal(&packet)?;
        self.write(&sealed)
    }

    /// Sends this many bytes of a packet.
    pub fn send_part(&mut self, payload: &[u8], length: usize) -> io::Result<()> {
        let sealed = self.seal(&self.packet(payload))?;
        self.write(&sealed[..length])
    }

    /// Writes the same bytes again and again until nobody takes them.
    pub fn repeat(&mut self, bytes: &[u8]) -> io::Result<()> {
        loop {
            self.check_age()?;
            self.socket.write_all(bytes)?;
        }
    }

    /// Reads so many bytes, whatever they are.
    pub fn read_bytes(&mut self, count: usize) -> io::Result<()> {
        self.reader.read_exact(&mut vec![0; count])
    }

    /// Does nothing more until the client closes the connection.
    pub fn hold(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        while self.reader.read(&mut buffer)? > 0 {
            self.check_age()?;
        }
        Ok(())
    }

    /// The same without reading, so that the client soon can't write.
    #[expect(unsafe_code, reason = "poll")]
    pub fn stop_reading(&mut self) -> io::Result<()> {
        let mut entry = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: the one entry is ours, and its descriptor open.
        unsafe { libc::poll(&raw mut entry, 1, LIFE.as_millis().try_into().unwrap()) };
        Ok(())
    }

    /// Waits until everything that was sent, the end too, has arrived at the client's machine.
    #[expect(unsafe_code, reason = "ioctl")]
    pub fn await_delivery(&self) -> io::Result<()> {
        loop {
            let mut unacknowledged: libc::c_int = 0;
            // SAFETY: the descriptor is open, and the request writes one int.
            let code = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unacknowledged) };
            if code < 0 {
                return Err(io::Error::last_os_error());
            }
            if unacknowledged == 0 {
                return Ok(());
            }
            self.check_age()?;
            std::thread::yield_now();
        }
    }

    /// Ends the connection at once: what is on its way is lost.
    pub fn reset(&mut self) -> io::Result<()> {
        SockRef::from(&self.socket).set_linger(Some(Duration::ZERO))?;
        Err(io::ErrorKind::ConnectionReset.into())
    }

    /// Sends nothing more. What was sent arrives, which is not certain if the connection is closed while there is
    /// something to read.
    pub fn end(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

/// The public half of a host key as SSH writes it.
pub fn host_key_blob(key: &PKey<Private>) -> io::Result<Vec<u8>> {
    Ok(Message(Vec::new()).string("ssh-ed25519").string(key.raw_public_key()?).0)
}
