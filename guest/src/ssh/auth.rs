//! User authentication (RFC 4252; RFC 8332): public keys only.

use super::key::PublicKeyRef;
use super::wire::{Malformed, Reader, Write};

/// The only service: channels.
pub(super) const CONNECTION_SERVICE: &[u8] = b"ssh-connection";
/// The service before it.
pub(super) const AUTH_SERVICE: &[u8] = b"ssh-userauth";
/// How many keys a client may offer, and for how many it may try a proof.
pub(super) const MAX_KEYS: u32 = 10;
/// How often a client may try other methods; `none` asks for the list of methods.
pub(super) const MAX_OTHER_METHODS: u32 = 10;

/// The client's USERAUTH_REQUEST.
#[derive(Debug, Clone, Copy)]
pub(super) struct AuthRequest<'a> {
    pub(super) user: &'a [u8],
    pub(super) service: &'a [u8],
    pub(super) method: AuthMethod<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum AuthMethod<'a> {
    PublicKey { algorithm: &'a [u8], blob: &'a [u8], signature: Option<Signature<'a>> },
    Other,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Signature<'a> {
    bytes: &'a [u8],
    /// What is signed, after the session's identifier.
    signed: &'a [u8],
}

impl<'a> AuthRequest<'a> {
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        reader.byte()?;
        let user = reader.string()?;
        let service = reader.string()?;
        let method = if reader.string()? == b"publickey" {
            let is_signed = reader.boolean()?;
            let algorithm = reader.string()?;
            let blob = reader.string()?;
            let signature = if is_signed {
                let signed = &payload[..payload.len() - reader.rest().len()];
                Some(Signature { bytes: reader.string()?, signed })
            } else {
                None
            };
            reader.end()?;
            AuthMethod::PublicKey { algorithm, blob, signature }
        } else {
            AuthMethod::Other
        };
        Ok(Self { user, service, method })
    }
}

impl<'a> AuthMethod<'a> {
    /// The key, if it is of a kind that is supported and goes with the signature algorithm.
    pub(super) fn key(&self) -> Option<PublicKeyRef<'a>> {
        match self {
            Self::PublicKey { algorithm, blob, .. } => {
                PublicKeyRef::from_blob(blob).ok().filter(|key| key.signs_with(algorithm))
            }
            Self::Other => None,
        }
    }
}

impl Signature<'_> {
    /// Whether the key's owner has signed this request for this session.
    pub(super) fn proves(&self, key: &PublicKeyRef<'_>, algorithm: &[u8], session_id: &[u8]) -> bool {
        let mut message = Vec::with_capacity(4 + session_id.len() + self.signed.len());
        message.string(session_id);
        message.bytes(self.signed);
        key.verifies(algorithm, &message, self.bytes)
    }
}
