//! The public keys that may log in.

use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use sandbox_protocol::AuthorizedKey;

use crate::expiry::now;
use crate::ssh::{PublicKey, PublicKeyRef};

/// Keys at a time. More come from a mistake.
const MOST_KEYS: usize = 256;
/// The longest comment of a key that is kept.
const LONGEST_COMMENT: usize = 256;

/// All of them.
#[derive(Debug)]
pub(crate) struct Keys(RwLock<Vec<Entry>>);

#[derive(Debug)]
struct Entry {
    key: PublicKey,
    /// For a key that a client has granted access, and may revoke; else it is a client's own.
    grant: Option<Grant>,
}

#[derive(Debug)]
struct Grant {
    /// As in `authorized_keys`, with the comment.
    line: String,
    /// When it may log in no longer, by the clock of the expiry.
    until: Option<Duration>,
}

/// Why a key is granted nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed(String),
    /// It is a client's own.
    Own,
    TooMany,
}

impl Entry {
    fn is(&self, key: PublicKeyRef<'_>) -> bool {
        self.key.as_ref().blob() == key.blob()
    }

    fn is_over(&self) -> bool {
        self.grant.as_ref().and_then(|grant| grant.until).is_some_and(|until| until <= now())
    }
}

impl Keys {
    /// The keys of clients that there are from the start.
    pub(crate) fn new(own: Vec<PublicKey>) -> Self {
        Self(RwLock::new(own.into_iter().map(|key| Entry { key, grant: None }).collect()))
    }

    fn changed<T>(&self, change: impl FnOnce(&mut Vec<Entry>) -> T) -> T {
        let mut entries = self.0.write().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|entry| !entry.is_over());
        change(&mut entries)
    }

    /// Whether a key may log in now.
    pub(crate) fn accepts(&self, key: PublicKeyRef<'_>) -> bool {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().any(|entry| entry.is(key) && !entry.is_over())
    }

    /// Whether a key, of which this is the fingerprint, is a client's own.
    pub(crate) fn is_own(&self, fingerprint: &str) -> bool {
        let entries = self.0.read().unwrap_or_else(PoisonError::into_inner);
        entries.iter().any(|entry| entry.grant.is_none() && entry.key.as_ref().fingerprint() == fingerprint)
    }

    /// Lets a client's own key log in.
    pub(crate) fn authorize(&self, key: PublicKey) -> Result<(), &'static str> {
        self.changed(|entries| {
            if let Some(known) = entries.iter_mut().find(|entry| entry.is(key.as_ref())) {
                known.grant = None;
                return Ok(());
            }
            if entries.len() >= MOST_KEYS {
                return Err("there are too many keys");
            }
            entries.push(Entry { key, grant: None });
            Ok(())
        })
    }

    /// Lets a key log in no longer, whoever's it is. False if it could not.
    pub(crate) fn revoke(&self, key: PublicKeyRef<'_>) -> bool {
        self.remove(|entry| entry.is(key))
    }

    /// Lets somebody else's key log in, for so long from now. If it may already, this is what holds now.
    pub(crate) fn grant(&self, line: &str, lifetime: Option<Duration>) -> Result<(), Refusal> {
        let key = PublicKey::from_line(line).map_err(|e| Refusal::Malformed(e.to_string()))?;
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let comment: String = words[2..].join(" ").chars().filter(|char| !char.is_control()).collect();
        if comment.len() > LONGEST_COMMENT {
            return Err(Refusal::Malformed(format!("its comment has more than {LONGEST_COMMENT} bytes")));
        }
        let line = format!("{} {} {comment}", words[0], words[1]).trim_end().to_owned();
        let grant = Some(Grant { line, until: lifetime.and_then(|lifetime| now().checked_add(lifetime)) });
        self.changed(|entries| {
            let known = entries.iter().position(|entry| entry.is(key.as_ref()));
            match known {
                Some(known) if entries[known].grant.is_none() => return Err(Refusal::Own),
                Some(known) => entries[known].grant = grant,
                None if entries.len() >= MOST_KEYS => return Err(Refusal::TooMany),
                None => entries.push(Entry { key, grant }),
            }
            Ok(())
        })
    }

    /// The keys that were granted access.
    pub(crate) fn granted(&self) -> Vec<AuthorizedKey> {
        let now = now();
        let told = |entry: &Entry| {
            let grant = entry.grant.as_ref()?;
            let left = grant.until.map(|until| until.saturating_sub(now));
            let remaining_ms = left.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            Some(AuthorizedKey { key: grant.line.clone(), remaining_ms })
        };
        self.changed(|entries| entries.iter().filter_map(told).collect())
    }

    /// Lets a key that was granted access log in no longer. False if there is none such.
    pub(crate) fn revoke_grant(&self, key: PublicKeyRef<'_>) -> bool {
        self.remove(|entry| entry.grant.is_some() && entry.is(key))
    }

    fn remove(&self, is_it: impl Fn(&Entry) -> bool) -> bool {
        self.changed(|entries| {
            let before = entries.len();
            entries.retain(|entry| !is_it(entry));
            entries.len() < before
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKQOYd5uqRwBb2pS0L0Q0Vq0fLx0pCtVt3mJ1bDkYyXh own";
    const OTHER: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVVV a person";

    fn key(line: &str) -> PublicKey {
        PublicKey::from_line(line).unwrap()
    }

    #[test]
    fn access_is_granted_for_a_time_and_revoked() {
        let keys = Keys::new(vec![key(OWN)]);
        let other = key(OTHER);
        assert!(keys.accepts(key(OWN).as_ref()) && !keys.accepts(other.as_ref()));
        keys.grant(OTHER, Some(Duration::from_secs(100))).unwrap();
        let granted = keys.granted();
        assert_eq!((granted.len(), &*granted[0].key), (1, OTHER));
        assert!((90_000..=100_000).contains(&granted[0].remaining_ms.unwrap()));
        assert!(keys.accepts(other.as_ref()));
        assert!(!keys.is_own(&other.as_ref().fingerprint()) && keys.is_own(&key(OWN).as_ref().fingerprint()));
        keys.grant(OTHER, None).unwrap();
        assert_eq!(keys.granted()[0].remaining_ms, None);
        assert!(keys.revoke_grant(other.as_ref()) && !keys.revoke_grant(other.as_ref()));
        assert!(!keys.accepts(other.as_ref()) && keys.granted().is_empty());
        // Its time is over.
        keys.grant(OTHER, Some(Duration::ZERO)).unwrap();
        assert!(!keys.accepts(other.as_ref()) && keys.granted().is_empty());
    }

    #[test]
    fn a_clients_own_key_stays() {
        let keys = Keys::new(vec![key(OWN)]);
        assert_eq!(keys.grant(OWN, Some(Duration::ZERO)), Err(Refusal::Own));
        assert!(!keys.revoke_grant(key(OWN).as_ref()) && keys.accepts(key(OWN).as_ref()));
        // A key that becomes a client's own is that from then on.
        keys.grant(OTHER, Some(Duration::ZERO)).unwrap();
        keys.authorize(key(OTHER)).unwrap();
        assert!(keys.accepts(key(OTHER).as_ref()) && keys.granted().is_empty());
        assert!(keys.revoke(key(OTHER).as_ref()) && !keys.accepts(key(OTHER).as_ref()));
    }

    #[test]
    fn what_is_no_key_and_what_is_too_much_is_refused() {
        let keys = Keys::new(Vec::new());
        let long = format!("{OTHER}{}", "x".repeat(LONGEST_COMMENT));
        for line in ["", "ssh-ed25519", "no key", "command=\"true\" ssh-ed25519 AAAA", &long] {
            assert!(matches!(keys.grant(line, None), Err(Refusal::Malformed(_))), "{line}");
        }
        let letter = |number: usize| char::from(b'A' + u8::try_from(number).unwrap());
        for number in 0..MOST_KEYS {
            let line = OTHER.replacen("VVVV", &format!("V{}{}V", letter(number / 16), letter(number % 16)), 1);
            keys.grant(&line, None).unwrap();
        }
        assert_eq!(keys.grant(OTHER, None), Err(Refusal::TooMany));
    }
}
