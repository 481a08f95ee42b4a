//! The wire's data types and the keys.

use ring::digest::{SHA256, digest};
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::super::wire::{Malformed, Reader, Write, names};
use super::super::{HostKey, KeyAlgorithm, PublicKey, PublicKeyRef};
use crate::mutation::Mutator;

#[test]
fn fields_are_read_as_written() {
    let mut bytes = Vec::new();
    bytes.byte(7);
    bytes.boolean(true);
    bytes.u32(0x0102_0304);
    bytes.string(b"text");
    bytes.positive_mpint(&[0, 0, 0x80, 1]);
    assert_eq!(bytes, b"\x07\x01\x01\x02\x03\x04\0\0\0\x04text\0\0\0\x03\0\x80\x01");
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.byte(), Ok(7));
    assert_eq!(reader.boolean(), Ok(true));
    assert_eq!(reader.u32(), Ok(0x0102_0304));
    assert_eq!(reader.string(), Ok(&b"text"[..]));
    assert_eq!(reader.positive_mpint(), Ok(&[0x80, 1][..]));
    assert_eq!(reader.end(), Ok(()));
    for end in 0..bytes.len() {
        let mut reader = Reader::new(&bytes[..end]);
        let all = reader.take(6).and_then(|_| reader.string()).and_then(|_| reader.positive_mpint());
        assert_eq!(all, Err(Malformed), "{end}");
    }
}

/// The examples of RFC 4251, section 5, that are not negative.
#[test]
fn integers_of_any_size() {
    for (number, encoded) in [
        (&[][..], &[0, 0, 0, 0][..]),
        (&[0x09, 0xa3, 0x78], &[0, 0, 0, 3, 0x09, 0xa3, 0x78]),
        (&[0x80], &[0, 0, 0, 2, 0, 0x80]),
    ] {
        let mut bytes = Vec::new();
        bytes.positive_mpint(number);
        assert_eq!(bytes, encoded);
        assert_eq!(Reader::new(&bytes).positive_mpint(), Ok(number));
    }
    assert_eq!(Reader::new(&[0, 0, 0, 1, 0x80]).positive_mpint(), Err(Malformed));
    assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0]).string(), Err(Malformed));
}

#[test]
fn lists_of_names() {
    assert_eq!(names(b"a,bc,,d").collect::<Vec<_>>(), [&b"a"[..], b"bc", b"d"]);
    assert_eq!(names(b"").count(), 0);
}

/// The key of RFC 8032, section 7.1, test 1.
#[test]
fn a_host_key_from_its_seed() {
    let seed = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
        0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
    ];
    let key = HostKey::from_seed(&seed).expect("a key");
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    assert_eq!(key.public_line(), line);
    let public = PublicKey::from_line(&format!("{line} a comment\n")).expect("a key");
    assert_eq!(public.as_ref().blob(), key.public_blob());
    assert_eq!(public, public.as_ref());
    assert_eq!(public.as_ref().algorithm(), KeyAlgorithm::Ed25519);
    assert_eq!(public.as_ref().to_owned(), public);
    assert!(!format!("{key:?}").contains("9d61"));
    assert_ne!(HostKey::generate().expect("a key").public_line(), HostKey::generate().expect("a key").public_line());
}

/// Made with `ssh-keygen -l`.
#[test]
fn a_fingerprint() {
    let line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea";
    let key = PublicKey::from_line(line).expect("a key");
    assert_eq!(key.as_ref().fingerprint(), "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8");
}

#[test]
fn keys_that_are_refused() {
    for line in [
        "",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1E",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1EaAAAA",
        "ssh-ed25519 *AAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea",
        "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea",
        "command=\"x\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea",
    ] {
        assert!(PublicKey::from_line(line).is_err(), "{line}");
    }
    // RSA of 1024 bits.
    let mut blob = Vec::new();
    blob.string(b"ssh-rsa");
    blob.positive_mpint(&[1, 0, 1]);
    blob.positive_mpint(&[0xff; 128]);
    assert!(PublicKeyRef::from_blob(&blob).is_err());
}

#[test]
fn changed_key_lines_break_nothing() {
    let keys = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea a comment",
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABB",
    ];
    let seeds = keys.map(|line| line.as_bytes().to_vec());
    let (mut mutator, mut taken) = (Mutator::new(0x2545_f491_4f6c_dd1d), 0);
    for _ in 0..20_000 {
        let line = String::from_utf8_lossy(&mutator.change(&seeds)).into_owned();
        if let Ok(key) = PublicKey::from_line(&line) {
            assert!(PublicKeyRef::from_blob(key.as_ref().blob()).is_ok(), "{line:?}");
            taken += 1;
        }
    }
    assert!(taken > 100, "{taken}");
}

#[test]
fn a_hardware_token_must_be_touched() {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).expect("a key");
    let mut blob = Vec::new();
    blob.string(b"sk-ssh-ed25519@openssh.com");
    blob.string(pair.public_key().as_ref());
    blob.string(b"ssh:");
    let key = PublicKeyRef::from_blob(&blob).expect("a key");
    let sign = |flags: u8| {
        let mut signed = digest(&SHA256, b"ssh:").as_ref().to_vec();
        signed.byte(flags);
        signed.u32(77);
        signed.bytes(digest(&SHA256, b"message").as_ref());
        let mut signature = Vec::new();
        signature.string(b"sk-ssh-ed25519@openssh.com");
        signature.string(pair.sign(&signed).as_ref());
        signature.byte(flags);
        signature.u32(77);
        signature
    };
    let name = b"sk-ssh-ed25519@openssh.com";
    assert!(key.signs_with(name));
    assert!(key.verifies(name, b"message", &sign(1)));
    assert!(!key.verifies(name, b"message", &sign(0)));
    assert!(!key.verifies(name, b"another", &sign(1)));
    assert!(!key.verifies(b"ssh-ed25519", b"message", &sign(1)));
    let whole = sign(1);
    for end in 0..whole.len() {
        assert!(!key.verifies(name, b"message", &whole[..end]), "{end}");
    }
}
