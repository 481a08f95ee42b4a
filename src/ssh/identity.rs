//! A client's own key, and the pinned keys of sandboxes.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use openssl::pkey::{Id, PKey, Private};
use secrecy::zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

const ED25519: &str = "ssh-ed25519";
/// What OpenSSH allows nobody but the owner of a key.
const RIGHTS_OF_OTHERS: u32 = 0o077;

/// The ed25519 key pair with which a client logs in.
pub(crate) struct Identity {
    /// The private key in PEM (PKCS#8), as libssh2 takes it. Memory that is given back has nothing of it.
    private_pem: Zeroizing<String>,
    public: PublicKey,
}

impl Identity {
    /// A new key that never leaves the memory of this process.
    pub(crate) fn generate() -> Result<Self> {
        let forbidden = "a key can't be made, which this machine's settings of OpenSSL (openssl.cnf) may forbid";
        let key = PKey::generate_ed25519().map_err(|e| unusable(forbidden, &e))?;
        Self::from_key(&key)
    }

    /// The user's own key, from an unencrypted file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let place = format!("ssh_key {}", path.display());
        let unreadable =
            |e: std::io::Error| Error::new(ErrorKind::Config, format!("{place} can't be read: {e}")).with_source(e);
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        // As OpenSSH: somebody else's file is that one's affair.
        if metadata.uid() == rustix::process::getuid().as_raw() && metadata.mode() & RIGHTS_OF_OTHERS != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(Error::new(
                ErrorKind::Config,
                format!("{place} has mode {mode:04o}, so other users have access to it; it must be 0600 or less"),
            ));
        }
        let mut pem = Zeroizing::new(Vec::new());
        file.read_to_end(&mut pem).map_err(unreadable)?;
        // An empty passphrase keeps OpenSSL from asking for one at the terminal.
        let key = match from_openssh(&pem) {
            Some(key) => Ok(key),
            None => PKey::private_key_from_pem_passphrase(&pem, b""),
        };
        let key = key.map_err(|_| {
            let allowed = "an unencrypted ed25519 key in OpenSSH's or PEM (PKCS#8) form; \
                           `ssh-keygen -t ed25519 -N '' -f FILE` or `openssl genpkey -algorithm ed25519 -out FILE` makes one";
            Error::new(ErrorKind::Config, format!("{place} can't be used: it must be {allowed}"))
        })?;
        if key.id() != Id::ED25519 {
            return Err(Error::new(
                ErrorKind::Config,
                format!("{place} is not an ed25519 key, the only kind that is supported"),
            ));
        }
        Self::from_key(&key)
    }

    fn from_key(key: &PKey<Private>) -> Result<Self> {
        let pem = key.private_key_to_pem_pkcs8().map_err(|e| unusable("the key can't be encoded", &e))?;
        let raw = key.raw_public_key().map_err(|e| unusable("the public key can't be read", &e))?;
        let mut blob = Vec::with_capacity(51);
        for field in [ED25519.as_bytes(), &raw] {
            blob.extend(u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes());
            blob.extend(field);
        }
        let private_pem = String::from_utf8(pem).map_err(|e| unusable("the key can't be encoded", &e))?;
        let private_pem = Zeroizing::new(private_pem);
        Ok(Self { private_pem, public: PublicKey::from_blob(&blob) })
    }

    pub(super) fn private_pem(&self) -> &str {
        &self.private_pem
    }

    /// The line for `authorized_keys`.
    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.public).finish()
    }
}

/// An unencrypted ed25519 key as `ssh-keygen` writes it (OpenSSH's PROTOCOL.key); `None` for anything else.
fn from_openssh(file: &[u8]) -> Option<PKey<Private>> {
    let text = std::str::from_utf8(file).ok()?.trim().strip_prefix("-----BEGIN OPENSSH PRIVATE KEY-----")?;
    let encoded: String = text.strip_suffix("-----END OPENSSH PRIVATE KEY-----")?.split_whitespace().collect();
    let blob = openssl::base64::decode_block(&encoded).ok()?;
    let mut rest = blob.strip_prefix(b"openssh-key-v1\0")?;
    let [cipher, derivation, _options] = [field(&mut rest)?, field(&mut rest)?, field(&mut rest)?];
    let (count, mut rest) = rest.split_at_checked(4)?;
    if (cipher, derivation, count) != (b"none", b"none", &[0, 0, 0, 1]) {
        return None;
    }
    let _public = field(&mut rest)?;
    // Two numbers that are the same, which shows that a passphrase is the right one.
    let mut private = field(&mut rest)?.get(8..)?;
    let [algorithm, _public, pair] = [field(&mut private)?, field(&mut private)?, field(&mut private)?];
    let seed = pair.get(..32).filter(|_| algorithm == ED25519.as_bytes())?;
    PKey::private_key_from_raw_bytes(seed, Id::ED25519).ok()
}

/// The next string of SSH's encoding.
fn field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_at_checked(4)?;
    let (field, after) = after.split_at_checked(u32::from_be_bytes(length.try_into().ok()?) as usize)?;
    *rest = after;
    Some(field)
}

fn unusable(what: &str, cause: &dyn fmt::Display) -> Error {
    Error::new(ErrorKind::Config, format!("{what}: {cause}"))
}

/// An ed25519 public key as OpenSSH writes it: `ssh-ed25519 AAAA…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PublicKey(String);

impl PublicKey {
    /// From the key as it stands in SSH's messages.
    pub(super) fn from_blob(blob: &[u8]) -> Self {
        Self(format!("{ED25519} {}", openssl::base64::encode_block(blob)))
    }

    /// From the text that [`PublicKey::as_str`] gives.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let encoded = text.trim().strip_prefix(ED25519)?.trim();
        let blob = openssl::base64::decode_block(encoded).ok()?;
        (blob.len() == 51).then(|| Self::from_blob(&blob))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_for_its_owner_alone() {
        let file = std::env::temp_dir().join(format!("sandbox-mode-{}", std::process::id()));
        std::fs::write(&file, Identity::generate().unwrap().private_pem()).unwrap();
        for mode in [0o600, 0o400, 0o640, 0o604, 0o602, 0o611, 0o644] {
            std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
            match Identity::read(&file) {
                Ok(_) => assert_eq!(mode & 0o077, 0, "{mode:o}"),
                Err(e) => assert!(mode & 0o077 != 0 && e.to_string().contains(&format!("{mode:04o}")), "{mode:o}: {e}"),
            }
        }
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn writes_keys_as_openssh_does() {
        let identity = Identity::generate().unwrap();
        let text = identity.public().to_string();
        // The length of the algorithm's name and the name itself always encode to this.
        assert!(text.starts_with("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"), "{text}");
        assert_eq!(PublicKey::parse(&text).as_ref(), Some(identity.public()));
        assert_eq!(PublicKey::parse("ssh-rsa AAAA"), None);
    }

    #[test]
    fn reads_keys_as_openssh_writes_them() {
        let file = std::env::temp_dir().join(format!("sandbox-openssh-{}", std::process::id()));
        let make = |kind: &str, passphrase: &str| {
            let _ = std::fs::remove_file(&file);
            let mut keygen = std::process::Command::new("ssh-keygen");
            keygen.args(["-q", "-t", kind, "-C", "a comment", "-N", passphrase, "-f"]).arg(&file);
            assert!(keygen.status().unwrap().success());
            (Identity::read(&file), std::fs::read_to_string(file.with_extension("pub")).unwrap())
        };
        let (identity, line) = make("ed25519", "");
        assert_eq!(line.trim_end(), format!("{} a comment", identity.unwrap().public()));
        for (kind, passphrase) in [("ed25519", "a secret"), ("ecdsa", "")] {
            assert_eq!(make(kind, passphrase).0.unwrap_err().kind(), ErrorKind::Config, "{kind}");
        }
        // One that is cut anywhere is none.
        make("ed25519", "").0.unwrap();
        let whole = std::fs::read(&file).unwrap();
        for length in 0..whole.len() - 40 {
            assert!(
                from_openssh(&[&whole[..length], b"\n-----END OPENSSH PRIVATE KEY-----"].concat()).is_none(),
                "{length}"
            );
        }
        for ending in ["", "pub"] {
            std::fs::remove_file(file.with_extension(ending)).unwrap();
        }
    }

    #[test]
    fn shows_no_private_key() {
        let identity = Identity::generate().unwrap();
        assert!(!format!("{identity:?}").contains("PRIVATE"));
    }

    #[test]
    fn refuses_other_files() {
        let file = std::env::temp_dir().join(format!("sandbox-identity-{}", std::process::id()));
        std::fs::write(&file, "not a key").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        let error = Identity::read(&file).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("genpkey"), "{error}");
        assert!(Identity::read(&file).unwrap_err().to_string().contains("can't be read"));
    }
}
