//! The encryption of one direction: nothing at first, then `chacha20-poly1305@openssh.com`.

use std::io;

use openssl::hash::{MessageDigest, hash};
use openssl::memcmp;
use openssl::pkey::{Id, PKey};
use openssl::sign::Signer;
use openssl::symm::{Cipher, encrypt};

pub const CHACHA20: &str = "chacha20-poly1305@openssh.com";
/// Bytes behind each packet.
pub const TAG: usize = 16;

/// The keys of one direction.
#[derive(Clone, Debug)]
pub struct Keys {
    body: Vec<u8>,
    length: Vec<u8>,
}

impl Keys {
    /// From the secret of a key exchange, its hash, and that of the connection's first one (RFC 4253, 7.2).
    pub fn derive(letter: u8, secret: &[u8], exchange: &[u8], session: &[u8]) -> io::Result<Self> {
        let sha256 = |parts: &[&[u8]]| hash(MessageDigest::sha256(), &parts.concat());
        let body = sha256(&[secret, exchange, &[letter], session])?.to_vec();
        let length = sha256(&[secret, exchange, &body])?.to_vec();
        Ok(Self { body, length })
    }

    /// The length of a packet, from its first 4 bytes or to them.
    pub fn crypt_length(&self, sequence: u32, bytes: &[u8]) -> io::Result<Vec<u8>> {
        chacha20(&self.length, sequence, 0, bytes)
    }

    /// A packet, which is its length and a body that may have another, as it goes over the wire.
    pub fn seal(&self, sequence: u32, packet: &[u8]) -> io::Result<Vec<u8>> {
        let (length, body) = packet.split_at(4);
        let mut sealed = self.crypt_length(sequence, length)?;
        sealed.extend(chacha20(&self.body, sequence, 1, body)?);
        sealed.extend(self.tag(sequence, &sealed)?);
        Ok(sealed)
    }

    /// The body of a packet.
    pub fn open(&self, sequence: u32, sealed: &[u8], tag: &[u8]) -> io::Result<Vec<u8>> {
        if !memcmp::eq(tag, &self.tag(sequence, sealed)?) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        chacha20(&self.body, sequence, 1, &sealed[4..])
    }

    fn tag(&self, sequence: u32, sealed: &[u8]) -> io::Result<Vec<u8>> {
        let key = PKey::private_key_from_raw_bytes(&chacha20(&self.body, sequence, 0, &[0; 32])?, Id::POLY1305)?;
        Ok(Signer::new_without_digest(&key)?.sign_oneshot_to_vec(sealed)?)
    }
}

/// Encrypts and decrypts, with the key stream from this block of 64 bytes on.
fn chacha20(key: &[u8], sequence: u32, block: u64, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let nonce = [block.to_le_bytes(), u64::from(sequence).to_be_bytes()].concat();
    Ok(encrypt(Cipher::chacha20(), key, Some(&nonce), bytes)?)
}
