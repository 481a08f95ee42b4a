//! Key exchange (RFC 4253, sections 7 and 8; RFC 8731; draft-ietf-sshm-mlkem-hybrid-kex; OpenSSH's strict key
//! exchange).

use ml_kem::MlKem768;
use ml_kem::kem::Key;
use ml_kem::ml_kem_768::EncapsulationKey;
use ring::agreement::{self, EphemeralPrivateKey, UnparsedPublicKey, X25519};
use ring::digest::{Context, SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};

use super::event::{Error, disconnect_reason};
use super::key::{HostKey, KeyAlgorithm};
use super::packet::{CipherName, Opening, Sealing};
use super::wire::{Malformed, Reader, Write, message, names};

const STRICT_CLIENT: &[u8] = b"kex-strict-c-v00@openssh.com";
const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";
const EXT_INFO_CLIENT: &[u8] = b"ext-info-c";
/// Never used, as all ciphers have tags of their own. But some clients look for a name in common first.
const MACS: &str = "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512";
const NO_COMPRESSION: &str = "none";

/// ML-KEM-768 (FIPS 203).
const KEM_KEY: usize = 1184;
const KEM_CIPHERTEXT: usize = 1088;
const X25519_KEY: usize = 32;

/// The ways to agree on a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    MlKem768X25519,
    Curve25519,
}

/// The names of the methods, in the order of preference.
const METHODS: [(&str, Method); 3] = [
    ("mlkem768x25519-sha256", Method::MlKem768X25519),
    ("curve25519-sha256", Method::Curve25519),
    ("curve25519-sha256@libssh.org", Method::Curve25519),
];

/// A hash that identifies an exchange, and, that of the first one, the connection.
pub(super) type ExchangeHash = [u8; 32];

fn failed(text: &'static str) -> Error {
    Error::new(disconnect_reason::KEY_EXCHANGE_FAILED, text)
}

fn random<const LENGTH: usize>() -> Result<[u8; LENGTH], Error> {
    let mut bytes = [0; LENGTH];
    SystemRandom::new().fill(&mut bytes).map_err(|_| failed("there are no random numbers"))?;
    Ok(bytes)
}

/// The server's KEXINIT.
pub(super) fn init_message() -> Result<Vec<u8>, Error> {
    let methods = METHODS.map(|(name, _)| name).join(",");
    let ciphers = CipherName::ALL.map(CipherName::name).join(",");
    let mut payload = Vec::with_capacity(768);
    payload.byte(message::KEXINIT);
    payload.bytes(&random::<16>()?);
    payload.string(format!("{methods},{STRICT_SERVER}").as_bytes());
    payload.string(KeyAlgorithm::Ed25519.name().as_bytes());
    for list in [&*ciphers, &*ciphers, MACS, MACS, NO_COMPRESSION, NO_COMPRESSION, "", ""] {
        payload.string(list.as_bytes());
    }
    payload.boolean(false);
    payload.u32(0);
    Ok(payload)
}

/// What follows from both sides' KEXINIT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreement {
    pub(super) method: Method,
    pub(super) from_client: CipherName,
    pub(super) to_client: CipherName,
    /// The client can do the strict key exchange.
    pub(super) strict: bool,
    /// The client wants EXT_INFO.
    pub(super) ext_info: bool,
    /// The client has sent the next packet on a guess that was wrong.
    pub(super) skip_guess: bool,
}

impl Agreement {
    /// Reads the client's KEXINIT.
    pub(super) fn new(client_init: &[u8]) -> Result<Self, Error> {
        let lists = Lists::read(client_init)
            .map_err(|Malformed| Error::new(disconnect_reason::PROTOCOL_ERROR, "KEXINIT is malformed"))?;
        let (guess, method) = names(lists.methods)
            .find_map(|name| METHODS.iter().find(|(ours, _)| ours.as_bytes() == name))
            .ok_or(failed("no key exchange method in common: mlkem768x25519-sha256, curve25519-sha256"))?;
        let host_key = KeyAlgorithm::Ed25519.name().as_bytes();
        if !names(lists.host_keys).any(|name| name == host_key) {
            return Err(failed("no host key algorithm in common: ssh-ed25519"));
        }
        let none = NO_COMPRESSION.as_bytes();
        if ![lists.compression_from_client, lists.compression_to_client]
            .iter()
            .all(|list| names(list).any(|name| name == none))
        {
            return Err(failed("no compression method in common: none"));
        }
        let right_guess = guess == &METHODS[0].0
            && names(lists.methods).next() == Some(METHODS[0].0.as_bytes())
            && names(lists.host_keys).next() == Some(host_key);
        Ok(Self {
            method: *method,
            from_client: cipher(lists.ciphers_from_client)?,
            to_client: cipher(lists.ciphers_to_client)?,
            strict: names(lists.methods).any(|name| name == STRICT_CLIENT),
            ext_info: names(lists.methods).any(|name| name == EXT_INFO_CLIENT),
            skip_guess: lists.guess_follows && !right_guess,
        })
    }
}

fn cipher(list: &[u8]) -> Result<CipherName, Error> {
    names(list).find_map(|name| CipherName::ALL.into_iter().find(|cipher| cipher.name().as_bytes() == name)).ok_or(
        failed("no cipher in common: aes128-gcm@openssh.com, aes256-gcm@openssh.com, chacha20-poly1305@openssh.com"),
    )
}

struct Lists<'a> {
    methods: &'a [u8],
    host_keys: &'a [u8],
    ciphers_from_client: &'a [u8],
    ciphers_to_client: &'a [u8],
    compression_from_client: &'a [u8],
    compression_to_client: &'a [u8],
    guess_follows: bool,
}

impl<'a> Lists<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        reader.take(1 + 16)?;
        let methods = reader.string()?;
        let host_keys = reader.string()?;
        let ciphers_from_client = reader.string()?;
        let ciphers_to_client = reader.string()?;
        let _macs = (reader.string()?, reader.string()?);
        let compression_from_client = reader.string()?;
        let compression_to_client = reader.string()?;
        let _languages = (reader.string()?, reader.string()?);
        let guess_follows = reader.boolean()?;
        reader.u32()?;
        Ok(Self {
            methods,
            host_keys,
            ciphers_from_client,
            ciphers_to_client,
            compression_from_client,
            compression_to_client,
            guess_follows,
        })
    }
}

/// What both sides have said before the exchange itself, which goes into its hash.
pub(super) struct Transcript<'a> {
    pub(super) client_version: &'a [u8],
    pub(super) server_version: &'a [u8],
    pub(super) client_init: &'a [u8],
    pub(super) server_init: &'a [u8],
}

/// The result of an exchange.
pub(super) struct Exchange {
    pub(super) hash: ExchangeHash,
    /// The answer: KEX_ECDH_REPLY or KEX_HYBRID_REPLY.
    pub(super) reply: Vec<u8>,
    /// The secret as it goes into hashes.
    secret: Vec<u8>,
}

impl Exchange {
    /// Answers the client's KEX_ECDH_INIT or KEX_HYBRID_INIT.
    pub(super) fn new(
        method: Method,
        transcript: &Transcript<'_>,
        host_key: &HostKey,
        payload: &[u8],
    ) -> Result<Self, Error> {
        let client_share = read_share(payload)
            .map_err(|Malformed| Error::new(disconnect_reason::PROTOCOL_ERROR, "the key exchange is malformed"))?;
        let mut secret = Vec::with_capacity(X25519_KEY + 5);
        let server_share = match method {
            Method::Curve25519 => {
                let (share, agreed) = curve25519(client_share)?;
                secret.positive_mpint(&agreed);
                share.to_vec()
            }
            Method::MlKem768X25519 => {
                let (kem_key, curve_share) =
                    client_share.split_at_checked(KEM_KEY).ok_or(failed("the client's public key is too short"))?;
                let (mut share, mut agreed) = ml_kem(kem_key)?;
                let (curve_share, curve_agreed) = curve25519(curve_share)?;
                share.extend_from_slice(&curve_share);
                agreed.extend_from_slice(&curve_agreed);
                // Unlike the other method's secret, a string, not a number.
                secret.string(digest(&SHA256, &agreed).as_ref());
                share
            }
        };
        let host_key_blob = host_key.public_blob();
        let mut context = Context::new(&SHA256);
        for part in [
            transcript.client_version,
            transcript.server_version,
            transcript.client_init,
            transcript.server_init,
            &host_key_blob,
            client_share,
            &server_share,
        ] {
            context.update(&(part.len() as u32).to_be_bytes());
            context.update(part);
        }
        context.update(&secret);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        let mut reply = Vec::with_capacity(160 + server_share.len());
        reply.byte(message::KEX_EXCHANGE_REPLY);
        reply.string(&host_key_blob);
        reply.string(&server_share);
        reply.string(&host_key.sign(&hash));
        Ok(Self { hash, reply, secret })
    }

    /// The keys for both directions.
    pub(super) fn keys(&self, agreement: &Agreement, session_id: &ExchangeHash) -> Result<(Opening, Sealing), Error> {
        let derive = |letter, bytes: &mut [u8]| derive(&self.secret, &self.hash, letter, session_id, bytes);
        let (mut iv, mut key) = ([0; 12], [0; 64]);
        derive(b'A', &mut iv);
        let length = agreement.from_client.key_length();
        derive(b'C', &mut key[..length]);
        let opening = Opening::new(agreement.from_client, &key[..length], &iv);
        derive(b'B', &mut iv);
        let length = agreement.to_client.key_length();
        derive(b'D', &mut key[..length]);
        let sealing = Sealing::new(agreement.to_client, &key[..length], &iv);
        opening.zip(sealing).ok_or(failed("the cipher does not accept its key"))
    }
}

fn read_share(payload: &[u8]) -> Result<&[u8], Malformed> {
    let mut reader = Reader::new(payload);
    reader.byte()?;
    let share = reader.string()?;
    reader.end()?;
    Ok(share)
}

/// Our share and the secret.
fn curve25519(client_share: &[u8]) -> Result<([u8; X25519_KEY], [u8; X25519_KEY]), Error> {
    const FAILED: &str = "the client's public key for curve25519 is not allowed";
    if client_share.len() != X25519_KEY {
        return Err(failed(FAILED));
    }
    let private = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())
        .map_err(|_| failed("there are no random numbers"))?;
    let public = private.compute_public_key().map_err(|_| failed("no public key could be made"))?;
    let share = public.as_ref().try_into().map_err(|_| failed("no public key could be made"))?;
    let mut agreed = [0; X25519_KEY];
    // A secret of zeros, which a bad share leads to, is refused there.
    agreement::agree_ephemeral(private, &UnparsedPublicKey::new(&X25519, client_share), |secret| {
        agreed.copy_from_slice(secret);
    })
    .map_err(|_| failed(FAILED))?;
    Ok((share, agreed))
}

/// The ciphertext for the client and the secret in it.
fn ml_kem(client_key: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Error> {
    const FAILED: &str = "the client's public key for ML-KEM is not allowed";
    let key: &Key<EncapsulationKey> = client_key.try_into().map_err(|_| failed(FAILED))?;
    // Numbers beyond the modulus are refused there, as FIPS 203, section 7.2, demands.
    let key = EncapsulationKey::new(key).map_err(|_| failed(FAILED))?;
    let (ciphertext, agreed): (ml_kem::Ciphertext<MlKem768>, _) =
        key.encapsulate_deterministic(&random::<32>()?.into());
    debug_assert_eq!(ciphertext.len(), KEM_CIPHERTEXT);
    Ok((ciphertext.to_vec(), agreed.to_vec()))
}

/// RFC 4253, section 7.2.
pub(super) fn derive(secret: &[u8], hash: &ExchangeHash, letter: u8, session_id: &ExchangeHash, key: &mut [u8]) {
    let mut start = Context::new(&SHA256);
    start.update(secret);
    start.update(hash);
    let mut context = start.clone();
    context.update(&[letter]);
    context.update(session_id);
    for chunk in key.chunks_mut(32) {
        let block = context.finish();
        chunk.copy_from_slice(&block.as_ref()[..chunk.len()]);
        // The next block hashes all blocks before it.
        start.update(block.as_ref());
        context = start.clone();
    }
}
