//! Keys: the server's own, and those of users.

use std::fmt;

use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{self, Ed25519KeyPair, KeyPair, RsaPublicKeyComponents, UnparsedPublicKey};

use super::wire::{Malformed, Reader, Write};

/// The server's key: Ed25519.
pub struct HostKey {
    pair: Ed25519KeyPair,
}

impl HostKey {
    /// A new key from the kernel's random numbers.
    ///
    /// # Errors
    ///
    /// The kernel gives no random numbers.
    pub fn generate() -> Result<Self, InvalidKey> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| InvalidKey("the kernel gives no random numbers"))?;
        Self::from_seed(&seed)
    }

    /// The key that belongs to this seed (the private key of RFC 8032).
    ///
    /// # Errors
    ///
    /// None is known; the cryptographic library reserves the right.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, InvalidKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| InvalidKey("the seed is not accepted"))?;
        Ok(Self { pair })
    }

    /// The public half as SSH sends it.
    pub fn public_blob(&self) -> Vec<u8> {
        let mut blob = Vec::with_capacity(51);
        blob.string(KeyAlgorithm::Ed25519.name().as_bytes());
        blob.string(self.pair.public_key().as_ref());
        blob
    }

    /// The public half as OpenSSH writes it into a file: `ssh-ed25519 AAAA…`, without comment and end of line.
    pub fn public_line(&self) -> String {
        format!("{} {}", KeyAlgorithm::Ed25519.name(), base64_encode(&self.public_blob()))
    }

    /// The signature of a message as SSH sends it.
    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut blob = Vec::with_capacity(83);
        blob.string(KeyAlgorithm::Ed25519.name().as_bytes());
        blob.string(self.pair.sign(message).as_ref());
        blob
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("HostKey").field(&self.public_line()).finish()
    }
}

/// A key could not be read or made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidKey(&'static str);

impl fmt::Display for InvalidKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

impl std::error::Error for InvalidKey {}

/// The kinds of keys that users can log in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyAlgorithm {
    /// `ssh-ed25519`.
    Ed25519,
    /// `ecdsa-sha2-nistp256`.
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`.
    EcdsaP384,
    /// `ssh-rsa`, from 2048 to 8192 bits; signatures with SHA-2 only.
    Rsa,
    /// `sk-ssh-ed25519@openssh.com`: Ed25519 in a hardware token.
    SkEd25519,
}

impl KeyAlgorithm {
    /// The name in the key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::Rsa => "ssh-rsa",
            Self::SkEd25519 => "sk-ssh-ed25519@openssh.com",
        }
    }

    fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Ed25519, Self::EcdsaP256, Self::EcdsaP384, Self::Rsa, Self::SkEd25519]
            .into_iter()
            .find(|algorithm| algorithm.name().as_bytes() == name)
    }
}

/// A user's public key in a message: a kind that is supported, well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKeyRef<'a> {
    algorithm: KeyAlgorithm,
    blob: &'a [u8],
}

impl<'a> PublicKeyRef<'a> {
    /// Its kind.
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    /// The key as SSH sends it. Two keys are equal if these bytes are.
    pub fn blob(&self) -> &'a [u8] {
        self.blob
    }

    /// The same, owned.
    pub fn to_owned(&self) -> PublicKey {
        PublicKey { algorithm: self.algorithm, blob: self.blob.to_vec() }
    }

    /// `SHA256:…`, as OpenSSH shows it.
    pub fn fingerprint(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.blob);
        format!("SHA256:{}", base64_encode(digest.as_ref()).trim_end_matches('='))
    }

    /// Reads a key as SSH sends it.
    ///
    /// # Errors
    ///
    /// It is malformed, too short, or of a kind that is not supported.
    pub fn from_blob(blob: &'a [u8]) -> Result<Self, InvalidKey> {
        let algorithm = algorithm_of(blob)?;
        let key = Self { algorithm, blob };
        key.parts().map_err(|Malformed| InvalidKey("the key is malformed or too short"))?;
        Ok(key)
    }

    fn parts(&self) -> Result<Parts<'a>, Malformed> {
        let mut reader = Reader::new(self.blob);
        reader.string()?;
        let parts = match self.algorithm {
            KeyAlgorithm::Ed25519 => Parts::Ed25519 { key: exactly(reader.string()?, 32)? },
            KeyAlgorithm::EcdsaP256 => curve(&mut reader, b"nistp256", 65)?,
            KeyAlgorithm::EcdsaP384 => curve(&mut reader, b"nistp384", 97)?,
            KeyAlgorithm::Rsa => {
                let exponent = reader.positive_mpint()?;
                let modulus = reader.positive_mpint()?;
                if !(256..=1024).contains(&modulus.len()) || exponent.is_empty() || exponent.len() > 5 {
                    return Err(Malformed);
                }
                Parts::Rsa { exponent, modulus }
            }
            KeyAlgorithm::SkEd25519 => {
                Parts::SkEd25519 { key: exactly(reader.string()?, 32)?, application: reader.string()? }
            }
        };
        reader.end()?;
        Ok(parts)
    }

    /// Whether `signature`, as SSH sends it, is one of `message` with this key and the named signature algorithm.
    pub(super) fn verifies(&self, signature_algorithm: &[u8], message: &[u8], signature: &[u8]) -> bool {
        self.verify(signature_algorithm, message, signature) == Ok(true)
    }

    fn verify(&self, signature_algorithm: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, Malformed> {
        let mut reader = Reader::new(signature);
        if reader.string()? != signature_algorithm {
            return Ok(false);
        }
        let bytes = reader.string()?;
        let rest = reader.rest();
        if !rest.is_empty() && self.algorithm != KeyAlgorithm::SkEd25519 {
            return Err(Malformed);
        }
        let verified = match self.parts()? {
            Parts::Ed25519 { key } => UnparsedPublicKey::new(&signature::ED25519, key).verify(message, bytes).is_ok(),
            Parts::Ecdsa { point } => {
                let (algorithm, size) = match self.algorithm {
                    KeyAlgorithm::EcdsaP256 => (&signature::ECDSA_P256_SHA256_FIXED, 32),
                    _ => (&signature::ECDSA_P384_SHA384_FIXED, 48),
                };
                let mut fixed = [0; 96];
                let fixed = &mut fixed[..2 * size];
                let mut numbers = Reader::new(bytes);
                for half in fixed.chunks_exact_mut(size) {
                    let number = numbers.positive_mpint()?;
                    let start = size.checked_sub(number.len()).ok_or(Malformed)?;
                    half[start..].copy_from_slice(number);
                }
                numbers.end()?;
                UnparsedPublicKey::new(algorithm, point).verify(message, fixed).is_ok()
            }
            Parts::Rsa { exponent, modulus } => {
                let parameters = match signature_algorithm {
                    b"rsa-sha2-256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                    b"rsa-sha2-512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                    _ => return Ok(false),
                };
                // Some signers leave out the leading zeros of a signature, which must be as long as the modulus.
                let mut padded = [0; 1024];
                let padded = &mut padded[..modulus.len()];
                let start = padded.len().checked_sub(bytes.len()).ok_or(Malformed)?;
                padded[start..].copy_from_slice(bytes);
                RsaPublicKeyComponents { n: modulus, e: exponent }.verify(parameters, message, padded).is_ok()
            }
            Parts::SkEd25519 { key, application } => {
                let mut reader = Reader::new(rest);
                let flags = reader.byte()?;
                let counter = reader.u32()?;
                reader.end()?;
                // Without a person's touch the token's signature proves too little.
                const USER_PRESENT: u8 = 1;
                if flags & USER_PRESENT == 0 {
                    return Ok(false);
                }
                let mut signed = Vec::with_capacity(69);
                signed.bytes(digest::digest(&digest::SHA256, application).as_ref());
                signed.byte(flags);
                signed.u32(counter);
                signed.bytes(digest::digest(&digest::SHA256, message).as_ref());
                UnparsedPublicKey::new(&signature::ED25519, key).verify(&signed, bytes).is_ok()
            }
        };
        Ok(verified)
    }

    /// Whether signatures of this algorithm can be made with a key of this kind.
    pub(super) fn signs_with(&self, signature_algorithm: &[u8]) -> bool {
        match self.algorithm {
            KeyAlgorithm::Rsa => matches!(signature_algorithm, b"rsa-sha2-256" | b"rsa-sha2-512"),
            other => other.name().as_bytes() == signature_algorithm,
        }
    }
}

/// The signature algorithms that users' keys may use, for `server-sig-algs`.
pub(super) const SIGNATURE_ALGORITHMS: &str =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,rsa-sha2-512,rsa-sha2-256,sk-ssh-ed25519@openssh.com";

enum Parts<'a> {
    Ed25519 { key: &'a [u8] },
    Ecdsa { point: &'a [u8] },
    Rsa { exponent: &'a [u8], modulus: &'a [u8] },
    SkEd25519 { key: &'a [u8], application: &'a [u8] },
}

fn algorithm_of(blob: &[u8]) -> Result<KeyAlgorithm, InvalidKey> {
    let name = Reader::new(blob).string().map_err(|Malformed| InvalidKey("the key is malformed or too short"))?;
    KeyAlgorithm::from_name(name).ok_or(InvalidKey("keys of this kind are not supported"))
}

fn exactly(bytes: &[u8], length: usize) -> Result<&[u8], Malformed> {
    if bytes.len() == length { Ok(bytes) } else { Err(Malformed) }
}

fn curve<'a>(reader: &mut Reader<'a>, name: &[u8], length: usize) -> Result<Parts<'a>, Malformed> {
    if reader.string()? != name {
        return Err(Malformed);
    }
    Ok(Parts::Ecdsa { point: exactly(reader.string()?, length)? })
}

/// A user's public key that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicKey {
    algorithm: KeyAlgorithm,
    blob: Vec<u8>,
}

impl PublicKey {
    /// Reads a line as in OpenSSH's `id_ed25519.pub`: kind, key, and a comment that is ignored. Options before it are
    /// not allowed.
    ///
    /// # Errors
    ///
    /// The line is malformed or its kind of key is not supported.
    pub fn from_line(line: &str) -> Result<Self, InvalidKey> {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(text)) = (words.next(), words.next()) else {
            return Err(InvalidKey("the line has no kind of key and key"));
        };
        let blob = base64_decode(text).ok_or(InvalidKey("the key is not base64"))?;
        let key = PublicKeyRef::from_blob(&blob)?;
        if key.algorithm.name() != name {
            return Err(InvalidKey("the line names another kind of key than the key itself"));
        }
        Ok(Self { algorithm: key.algorithm, blob })
    }

    /// The key as an event has it.
    pub fn as_ref(&self) -> PublicKeyRef<'_> {
        PublicKeyRef { algorithm: self.algorithm, blob: &self.blob }
    }
}

impl PartialEq<PublicKeyRef<'_>> for PublicKey {
    fn eq(&self, other: &PublicKeyRef<'_>) -> bool {
        self.blob == other.blob
    }
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(group);
        for index in 0..4 {
            let digit = if index <= chunk.len() { BASE64[(bits >> (18 - 6 * index)) as usize & 63] } else { b'=' };
            text.push(char::from(digit));
        }
    }
    text
}

fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    if padding > 2 || !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in digits.as_bytes().chunks(4) {
        let mut bits = 0;
        for index in 0..4 {
            let value = match chunk.get(index) {
                Some(digit) => BASE64.iter().position(|candidate| candidate == digit)?,
                None => 0,
            };
            bits = bits << 6 | value as u32;
        }
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    Some(bytes)
}
