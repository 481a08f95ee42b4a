//! The encryption of one direction: nothing at first, then one of the three ciphers that clients offer.

use std::io;

use openssl::hash::{MessageDigest, hash};
use openssl::memcmp;
use openssl::pkey::{Id, PKey};
use openssl::sign::Signer;
use openssl::symm::{Cipher, decrypt_aead, encrypt, encrypt_aead};

pub const CHACHA20: &str = "chacha20-poly1305@openssh.com";
pub const AES_128: &str = "aes128-gcm@openssh.com";
pub const AES_256: &str = "aes256-gcm@openssh.com";
/// Bytes behind each packet.
pub const TAG: usize = 16;

/// The keys of one direction.
#[derive(Clone, Debug)]
pub enum Keys {
    ChaCha20 { body: Vec<u8>, length: Vec<u8> },
    Aes { key: Vec<u8>, fixed: [u8; 4], packets: u64 },
}

impl Keys {
    /// From the secret of a key exchange, its hash, and that of the connection's first one (RFC 4253, 7.2).
    pub fn derive(
        cipher: &str,
        [start, key]: [u8; 2],
        secret: &[u8],
        exchange: &[u8],
        session: &[u8],
    ) -> io::Result<Self> {
        let sha256 = |parts: &[&[u8]]| hash(MessageDigest::sha256(), &parts.concat());
        let first = |letter| sha256(&[secret, exchange, &[letter], session]);
        let (body, start) = (first(key)?.to_vec(), first(start)?);
        let (fixed, packets) = (start[..4].try_into().unwrap(), u64::from_be_bytes(start[4..12].try_into().unwrap()));
        Ok(match cipher {
            AES_128 => Self::Aes { key: body[..16].to_vec(), fixed, packets },
            AES_256 => Self::Aes { key: body, fixed, packets },
            _ => Self::ChaCha20 { length: sha256(&[secret, exchange, &body])?.to_vec(), body },
        })
    }

    /// The length of a packet, from its first 4 bytes or to them.
    pub fn crypt_length(&self, sequence: u32, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::ChaCha20 { length, .. } => chacha20(length, sequence, 0, bytes),
            Self::Aes { .. } => Ok(bytes.to_vec()),
        }
    }

    /// A packet, which is its length and a body that may have another, as it goes over the wire.
    pub fn seal(&mut self, sequence: u32, packet: &[u8]) -> io::Result<Vec<u8>> {
        let (length, plain) = packet.split_at(4);
        let mut sealed = self.crypt_length(sequence, length)?;
        match self {
            Self::ChaCha20 { body, .. } => {
                sealed.extend(chacha20(body, sequence, 1, plain)?);
                sealed.extend(poly1305(body, sequence, &sealed)?);
            }
            Self::Aes { key, fixed, packets } => {
                let mut tag = [0; TAG];
                let nonce = next_nonce(*fixed, packets);
                sealed.extend(encrypt_aead(aes(key), key, Some(&nonce), length, plain, &mut tag)?);
                sealed.extend(tag);
            }
        }
        Ok(sealed)
    }

    /// The body of a packet.
    pub fn open(&mut self, sequence: u32, sealed: &[u8], tag: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::ChaCha20 { body, .. } if memcmp::eq(tag, &poly1305(body, sequence, sealed)?) => {
                chacha20(body, sequence, 1, &sealed[4..])
            }
            Self::ChaCha20 { .. } => Err(io::ErrorKind::InvalidData.into()),
            Self::Aes { key, fixed, packets } => {
                let nonce = next_nonce(*fixed, packets);
                Ok(decrypt_aead(aes(key), key, Some(&nonce), &sealed[..4], &sealed[4..], tag)?)
            }
        }
    }
}

fn aes(key: &[u8]) -> Cipher {
    if key.len() == 16 { Cipher::aes_128_gcm() } else { Cipher::aes_256_gcm() }
}

/// RFC 5647, 7.1
fn next_nonce(fixed: [u8; 4], packets: &mut u64) -> Vec<u8> {
    let nonce = [&fixed[..], &packets.to_be_bytes()].concat();
    *packets = packets.wrapping_add(1);
    nonce
}

fn poly1305(body: &[u8], sequence: u32, sealed: &[u8]) -> io::Result<Vec<u8>> {
    let key = PKey::private_key_from_raw_bytes(&chacha20(body, sequence, 0, &[0; 32])?, Id::POLY1305)?;
    Ok(Signer::new_without_digest(&key)?.sign_oneshot_to_vec(sealed)?)
}

/// Encrypts and decrypts, with the key stream from this block of 64 bytes on.
fn chacha20(key: &[u8], sequence: u32, block: u64, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let nonce = [block.to_le_bytes(), u64::from(sequence).to_be_bytes()].concat();
    Ok(encrypt(Cipher::chacha20(), key, Some(&nonce), bytes)?)
}
