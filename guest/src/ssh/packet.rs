//! Packets (RFC 4253, section 6) and the buffers that they are opened and sealed in.

use std::ops::Range;

use ring::aead::chacha20_poly1305_openssh as chacha20;
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::event::{Error, disconnect_reason};
use super::wire::Write;

/// The length of every tag.
const TAG: usize = 16;
/// The field of a packet's length.
const LENGTH: usize = 4;
/// What is before a packet's payload: the lengths of the packet and of its padding.
const HEADER: usize = LENGTH + 1;
/// What a packet has at most beside its payload.
const OVERHEAD: usize = HEADER + 3 + 16 + TAG;

/// The limit of a packet's length field before a user is logged in: what RFC 4253, section 6.1, demands.
pub(super) const SMALL_PACKET: usize = 35_000;
/// A read buffer's first size.
const FIRST_READ: usize = 4 << 10;
/// A read buffer's largest size before a user is logged in; above [`SMALL_PACKET`].
const SMALL_READ: usize = 36 << 10;
/// A read buffer's largest size, unless a packet needs more.
const LARGE_READ: usize = 128 << 10;
/// How much output may wait, beyond which no data is added.
pub(super) const OUTPUT_LIMIT: usize = 256 << 10;
/// The longest header of data, with its length.
const DATA_HEADER: usize = 13;
/// Data is only put into this part of an output buffer.
const DATA_LIMIT: usize = OUTPUT_LIMIT + OVERHEAD + DATA_HEADER;
/// When less than this is left, no data is added.
const SMALLEST_ROOM: usize = 4 << 10;
/// When so much output waits, nothing is read, so that nothing has to be answered.
const ANSWER_LIMIT: usize = 2 * OUTPUT_LIMIT;

/// The ciphers, all of them with a tag of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CipherName {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl CipherName {
    /// In the order of preference, as far as the server has a say.
    pub(super) const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
        }
    }

    pub(super) fn key_length(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
            Self::ChaCha20Poly1305 => 64,
        }
    }
}

/// AES-GCM with its nonce, of which the last eight bytes count the packets (RFC 5647, section 7.1).
struct Gcm {
    key: LessSafeKey,
    fixed: [u8; 4],
    counter: u64,
}

impl Gcm {
    fn new(cipher: CipherName, key: &[u8], iv: &[u8; 12]) -> Option<Self> {
        let algorithm = if cipher == CipherName::Aes128Gcm { &AES_128_GCM } else { &AES_256_GCM };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        let (fixed, counter) = iv.split_first_chunk()?;
        Some(Self { key, fixed: *fixed, counter: u64::from_be_bytes(counter.try_into().ok()?) })
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.fixed);
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter = self.counter.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// What packets are sealed with.
pub(super) struct Sealing(SealingKind);

enum SealingKind {
    Plain,
    Gcm(Box<Gcm>),
    ChaCha20(chacha20::SealingKey),
}

impl Sealing {
    /// None, if the key does not have the cipher's length.
    pub(super) fn new(cipher: CipherName, key: &[u8], iv: &[u8; 12]) -> Option<Self> {
        Some(Self(match cipher {
            CipherName::ChaCha20Poly1305 => SealingKind::ChaCha20(chacha20::SealingKey::new(key.try_into().ok()?)),
            gcm => SealingKind::Gcm(Box::new(Gcm::new(gcm, key, iv)?)),
        }))
    }

    /// What is before the first keys.
    pub(super) fn plain() -> Self {
        Self(SealingKind::Plain)
    }
}

/// What packets are opened with.
pub(super) struct Opening(OpeningKind);

enum OpeningKind {
    Plain,
    Gcm(Box<Gcm>),
    ChaCha20(chacha20::OpeningKey),
}

impl Opening {
    /// None, if the key does not have the cipher's length.
    pub(super) fn new(cipher: CipherName, key: &[u8], iv: &[u8; 12]) -> Option<Self> {
        Some(Self(match cipher {
            CipherName::ChaCha20Poly1305 => OpeningKind::ChaCha20(chacha20::OpeningKey::new(key.try_into().ok()?)),
            gcm => OpeningKind::Gcm(Box::new(Gcm::new(gcm, key, iv)?)),
        }))
    }

    /// What is before the first keys.
    pub(super) fn plain() -> Self {
        Self(OpeningKind::Plain)
    }
}

/// The bytes from the socket. Packets are opened where they are.
pub(super) struct Input {
    /// All of it is initialised; `start..end` is what has been read and not yet used.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How long the packet at `start` is, as far as that is known.
    needed: usize,
    /// The last read filled the buffer: a larger one saves system calls.
    was_filled: bool,
    /// The largest length field of a packet.
    limit: usize,
    cipher: Opening,
    sequence: u32,
    /// Since the last keys.
    pub(super) bytes: u64,
    pub(super) packets: u64,
}

/// A packet that has been opened.
pub(super) struct Opened {
    /// Where its payload is in the buffer; at least one byte.
    pub(super) payload: Range<usize>,
    pub(super) sequence: u32,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            needed: 0,
            was_filled: false,
            limit: SMALL_PACKET,
            cipher: Opening::plain(),
            sequence: 0,
            bytes: 0,
            packets: 0,
        }
    }

    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Packets that come from now on are opened with this.
    pub(super) fn set_cipher(&mut self, cipher: Opening, strict: bool) {
        self.cipher = cipher;
        self.bytes = 0;
        self.packets = 0;
        if strict {
            self.sequence = 0;
        }
    }

    pub(super) fn spare(&mut self) -> &mut [u8] {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
        let largest = if self.limit == SMALL_PACKET { SMALL_READ } else { LARGE_READ };
        let wanted = if self.was_filled { (2 * self.buffer.len()).min(largest) } else { FIRST_READ };
        let wanted = wanted.max(self.needed);
        self.was_filled = false;
        if wanted > self.buffer.len() {
            let mut larger = vec![0; wanted];
            larger[..self.end - self.start].copy_from_slice(&self.buffer[self.start..self.end]);
            self.buffer = larger;
            self.end -= self.start;
            self.start = 0;
        } else if self.start > 0 && self.end > self.buffer.len() / 2 {
            // What is left is most often the beginning of one packet.
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    pub(super) fn received(&mut self, length: usize) {
        self.end = self.end.saturating_add(length).min(self.buffer.len());
        self.was_filled = self.end == self.buffer.len();
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// What has been read and not yet used.
    pub(super) fn unused(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn skip(&mut self, length: usize) {
        self.start = self.start.saturating_add(length).min(self.end);
    }

    pub(super) fn holds_memory(&self) -> bool {
        self.start == self.end && self.buffer.capacity() > 0
    }

    pub(super) fn release_memory(&mut self) {
        if self.start == self.end {
            self.buffer = Vec::new();
            self.start = 0;
            self.end = 0;
            self.was_filled = false;
        }
    }

    /// Opens the next packet, if all of it has come.
    pub(super) fn next_packet(&mut self) -> Result<Option<Opened>, Error> {
        self.needed = 0;
        let available = &mut self.buffer[self.start..self.end];
        let Some(first) = available.first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let (field, block, tag) = match &self.cipher.0 {
            OpeningKind::Plain => (*first, 8, 0),
            OpeningKind::Gcm(_) => (*first, 16, TAG),
            OpeningKind::ChaCha20(key) => (key.decrypt_packet_length(self.sequence, *first), 8, TAG),
        };
        let length = u32::from_be_bytes(field) as usize;
        // Without a cipher the length field counts for the alignment, with one it does not.
        let aligned = if tag == 0 { LENGTH + length } else { length };
        if length > self.limit || length < 8 || aligned % block != 0 {
            return Err(Error::new(disconnect_reason::PROTOCOL_ERROR, "a packet has a length that is not allowed"));
        }
        let total = LENGTH + length + tag;
        if available.len() < total {
            self.needed = total;
            return Ok(None);
        }
        let (packet, tag) = available[..total].split_at_mut(LENGTH + length);
        let opened = match &mut self.cipher.0 {
            OpeningKind::Plain => true,
            OpeningKind::Gcm(gcm) => {
                let nonce = gcm.nonce();
                let (aad, sealed) = packet.split_at_mut(LENGTH);
                let tag = (&*tag).try_into();
                tag.is_ok_and(|tag| {
                    gcm.key.open_in_place_separate_tag(nonce, Aad::from(&*aad), tag, sealed, 0..).is_ok()
                })
            }
            OpeningKind::ChaCha20(key) => {
                let tag = (&*tag).try_into();
                tag.is_ok_and(|tag| key.open_in_place(self.sequence, packet, tag).is_ok())
            }
        };
        if !opened {
            return Err(Error::new(disconnect_reason::MAC_ERROR, "a packet is not authentic"));
        }
        let padding = usize::from(packet[LENGTH]);
        let Some(payload_length) = (length - 1).checked_sub(padding).filter(|payload| padding >= 4 && *payload > 0)
        else {
            return Err(Error::new(disconnect_reason::PROTOCOL_ERROR, "a packet has a padding that is not allowed"));
        };
        let payload = self.start + HEADER..self.start + HEADER + payload_length;
        let sequence = self.sequence;
        self.start += total;
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes += total as u64;
        self.packets += 1;
        Ok(Some(Opened { payload, sequence }))
    }
}

/// The bytes for the socket. Packets are sealed where they are written.
pub(super) struct Output {
    /// All of it is initialised; `head..tail` is what waits to be written to the socket.
    buffer: Vec<u8>,
    head: usize,
    tail: usize,
    cipher: Sealing,
    sequence: u32,
    /// Since the last keys.
    pub(super) bytes: u64,
    pub(super) packets: u64,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), head: 0, tail: 0, cipher: Sealing::plain(), sequence: 0, bytes: 0, packets: 0 }
    }

    /// Packets that are added from now on are sealed with this.
    pub(super) fn set_cipher(&mut self, cipher: Sealing, strict: bool) {
        self.cipher = cipher;
        self.bytes = 0;
        self.packets = 0;
        if strict {
            self.sequence = 0;
        }
    }

    pub(super) fn pending(&self) -> &[u8] {
        &self.buffer[self.head..self.tail]
    }

    pub(super) fn written(&mut self, length: usize) {
        self.head = self.head.saturating_add(length).min(self.tail);
        if self.head == self.tail {
            self.head = 0;
            self.tail = 0;
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.data_room(SMALLEST_ROOM) == 0
    }

    /// So much waits that the peer must read before it gets more answers.
    pub(super) fn blocks_answers(&self) -> bool {
        self.tail - self.head >= ANSWER_LIMIT
    }

    pub(super) fn holds_memory(&self) -> bool {
        self.tail == 0 && self.buffer.capacity() > 0
    }

    pub(super) fn release_memory(&mut self) {
        if self.tail == 0 {
            self.buffer = Vec::new();
        }
    }

    /// Makes room for so many bytes behind `tail`.
    fn reserve(&mut self, extra: usize) {
        if self.buffer.len() - self.tail >= extra {
            return;
        }
        let pending = self.tail - self.head;
        let length = self.buffer.len();
        if length >= pending + extra && (pending <= length / 4 || length >= DATA_LIMIT) {
            self.buffer.copy_within(self.head..self.tail, 0);
        } else {
            let needed = pending + extra;
            let doubled = if needed <= DATA_LIMIT { (2 * length).min(DATA_LIMIT) } else { 2 * length };
            let mut larger = vec![0; doubled.max(needed.next_multiple_of(4 << 10))];
            larger[..pending].copy_from_slice(&self.buffer[self.head..self.tail]);
            self.buffer = larger;
        }
        self.head = 0;
        self.tail = pending;
    }

    /// Bytes that are no packet: the version string.
    pub(super) fn plain(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.buffer[self.tail..self.tail + bytes.len()].copy_from_slice(bytes);
        self.tail += bytes.len();
    }

    /// A packet whose payload is written by `build`.
    pub(super) fn packet(&mut self, build: impl FnOnce(&mut dyn Write)) {
        let mut payload = Payload { output: self, length: 0 };
        build(&mut payload);
        let length = payload.length;
        self.seal(length);
    }

    /// How much of `limit` bytes of data a packet takes now.
    pub(super) fn data_room(&self, limit: usize) -> usize {
        let pending = self.tail - self.head;
        // Moving what waits to the front is worth it only if it is little. Otherwise room comes when more has been
        // written.
        let used = if pending <= DATA_LIMIT / 4 { pending } else { self.tail };
        let available = DATA_LIMIT.saturating_sub(used + OVERHEAD + DATA_HEADER);
        // No small packets just because the buffer is nearly full.
        if available < SMALLEST_ROOM { 0 } else { limit.min(available) }
    }

    /// A packet of `header`, the length of the data and the data, which `fill` writes: up to `room` bytes. None if it
    /// is nothing.
    pub(super) fn data<E>(
        &mut self,
        header: &[u8],
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.reserve(room + OVERHEAD + header.len() + LENGTH);
        let start = self.tail + HEADER;
        let data = start + header.len() + LENGTH;
        let length = fill(&mut self.buffer[data..data + room])?.min(room);
        if length > 0 {
            self.buffer[start..start + header.len()].copy_from_slice(header);
            self.buffer[data - LENGTH..data].copy_from_slice(&(length as u32).to_be_bytes());
            self.seal(header.len() + LENGTH + length);
        }
        Ok(length)
    }

    /// Seals the packet whose payload is behind `tail`, with room for the header before it.
    fn seal(&mut self, payload: usize) {
        let (block, tag_length) = match self.cipher.0 {
            SealingKind::Plain => (8, 0),
            SealingKind::Gcm(_) => (16, TAG),
            SealingKind::ChaCha20(_) => (8, TAG),
        };
        let aligned = if tag_length == 0 { HEADER + payload } else { 1 + payload };
        let padding = 4 + (block - (aligned + 4) % block) % block;
        let length = 1 + payload + padding;
        let total = LENGTH + length + tag_length;
        debug_assert!(self.tail + total <= self.buffer.len());
        let (packet, tag) = self.buffer[self.tail..self.tail + total].split_at_mut(LENGTH + length);
        packet[..LENGTH].copy_from_slice(&(length as u32).to_be_bytes());
        packet[LENGTH] = padding as u8;
        // The ciphers hide what the padding is. Zeros, so that nothing old of the buffer goes out.
        packet[HEADER + payload..].fill(0);
        match &mut self.cipher.0 {
            SealingKind::Plain => {}
            SealingKind::Gcm(gcm) => {
                let nonce = gcm.nonce();
                let (aad, plain) = packet.split_at_mut(LENGTH);
                match gcm.key.seal_in_place_separate_tag(nonce, Aad::from(&*aad), plain) {
                    Ok(sealed) => tag.copy_from_slice(sealed.as_ref()),
                    // Only if a packet were longer than 64 GiB. Nothing must go out in plain text then.
                    Err(_) => packet.fill(0),
                }
            }
            SealingKind::ChaCha20(key) => {
                let mut sealed = [0; TAG];
                key.seal_in_place(self.sequence, packet, &mut sealed);
                tag.copy_from_slice(&sealed);
            }
        }
        self.tail += total;
        self.sequence = self.sequence.wrapping_add(1);
        self.bytes += total as u64;
        self.packets += 1;
    }
}

/// The payload of a packet that is being written behind `tail`.
struct Payload<'a> {
    output: &'a mut Output,
    length: usize,
}

impl Write for Payload<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        // `reserve` keeps only what is before `tail`.
        let start = self.output.tail + HEADER + self.length;
        if start + bytes.len() + OVERHEAD > self.output.buffer.len() {
            let payload = self.output.buffer.get(self.output.tail + HEADER..start).unwrap_or_default().to_vec();
            self.output.reserve(payload.len() + bytes.len() + OVERHEAD);
            let front = self.output.tail + HEADER;
            self.output.buffer[front..front + payload.len()].copy_from_slice(&payload);
        }
        let start = self.output.tail + HEADER + self.length;
        self.output.buffer[start..start + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}
