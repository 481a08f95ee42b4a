//! The log-in.

use ring::signature::{Ed25519KeyPair, KeyPair};

use super::super::kex::ExchangeHash;
use super::super::wire::{Reader, Write, message};
use super::client::{Offer, Pair, open_message};

pub(super) fn user_key() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[2; 32]).expect("a key")
}

fn blob(pair: &Ed25519KeyPair) -> Vec<u8> {
    let mut blob = Vec::new();
    blob.string(b"ssh-ed25519");
    blob.string(pair.public_key().as_ref());
    blob
}

fn request(user: &[u8], method: &[u8], fields: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut payload = vec![message::USERAUTH_REQUEST];
    payload.string(user);
    payload.string(b"ssh-connection");
    payload.string(method);
    fields(&mut payload);
    payload
}

fn unsigned_request(blob: &[u8], algorithm: &[u8]) -> Vec<u8> {
    request(b"user", b"publickey", |payload| {
        payload.boolean(false);
        payload.string(algorithm);
        payload.string(blob);
    })
}

pub(super) fn signed_request(pair: &Ed25519KeyPair, session_id: &ExchangeHash, user: &[u8]) -> Vec<u8> {
    let mut payload = request(user, b"publickey", |payload| {
        payload.boolean(true);
        payload.string(b"ssh-ed25519");
        payload.string(&blob(pair));
    });
    let mut signed = Vec::new();
    signed.string(session_id);
    signed.bytes(&payload);
    let mut signature = Vec::new();
    signature.string(b"ssh-ed25519");
    signature.string(pair.sign(&signed).as_ref());
    payload.string(&signature);
    payload
}

fn pair() -> Pair {
    let mut pair = Pair::with_keys(Offer::default(), |_| {});
    pair.no_event();
    pair.request_auth_service();
    pair
}

fn failure() -> Vec<u8> {
    let mut payload = vec![message::USERAUTH_FAILURE];
    payload.string(b"publickey");
    payload.boolean(false);
    payload
}

#[test]
fn a_key_is_offered_and_then_proved() {
    let mut pair = pair();
    pair.send(&request(b"user", b"none", |_| {}));
    assert_eq!(pair.no_event(), [failure()]);
    pair.send(&request(b"user", b"password", |payload| payload.bytes(b"\0\0\0\0\x06secret")));
    assert_eq!(pair.no_event(), [failure()]);
    let key = user_key();
    pair.send(&unsigned_request(&blob(&key), b"ssh-ed25519"));
    let event = pair.event();
    assert!(event.contains("proved: false") && event.contains("algorithm: Ed25519"), "{event}");
    // Nothing goes on until the application has answered.
    pair.send(&signed_request(&key, &pair.session_id.expect("keys"), b"user"));
    assert!(!pair.server.wants_input());
    assert!(pair.no_event().is_empty());
    pair.server.accept_auth();
    let answer = pair.receive().remove(0);
    let mut reader = Reader::new(&answer);
    assert_eq!(reader.byte(), Ok(message::USERAUTH_PK_OK));
    assert_eq!((reader.string(), reader.string()), (Ok(&b"ssh-ed25519"[..]), Ok(&*blob(&key))));
    assert!(pair.event().contains("proved: true"));
    assert!(!pair.server.is_authenticated());
    pair.server.accept_auth();
    assert_eq!(pair.receive(), [[message::USERAUTH_SUCCESS]]);
    assert!(pair.server.is_authenticated());
    // What crossed with the success is ignored, and there is nothing more to accept.
    pair.send(&request(b"user", b"none", |_| {}));
    assert!(pair.no_event().is_empty());
    pair.server.accept_auth();
    pair.server.reject_auth();
    assert!(pair.receive().is_empty() && pair.server.is_authenticated());
}

#[test]
fn a_signature_is_for_this_request_only() {
    let key = user_key();
    let mut pair = pair();
    let session_id = pair.session_id.expect("keys");
    let mut another_session = session_id;
    another_session[0] ^= 1;
    let right = signed_request(&key, &session_id, b"user");
    let position = right.windows(4).position(|window| window == b"user").expect("the name");
    let mut another_user = right.clone();
    another_user[position..position + 4].copy_from_slice(b"root");
    let mut another_signature = right.clone();
    *another_signature.last_mut().expect("a byte") ^= 1;
    for wrong in [signed_request(&key, &another_session, b"user"), another_user, another_signature] {
        pair.send(&wrong);
        assert_eq!(pair.no_event(), [failure()]);
    }
    pair.send(&right);
    assert!(pair.event().contains("proved: true"));
    pair.server.reject_auth();
    assert_eq!(pair.receive(), [failure()]);
    assert!(!pair.server.is_authenticated());
}

#[test]
fn keys_that_can_not_be_used() {
    let mut pair = pair();
    let key = blob(&user_key());
    for (blob, algorithm) in [
        (&key[..], &b"ssh-rsa"[..]),
        (&key, b"ssh-ed25519-cert-v01@openssh.com"),
        (b"", b"ssh-ed25519"),
        (&key[..40], b"ssh-ed25519"),
    ] {
        pair.send(&unsigned_request(blob, algorithm));
        assert_eq!(pair.no_event(), [failure()]);
    }
}

#[test]
fn ten_keys_may_be_tried() {
    let mut offers = pair();
    for _ in 0..10 {
        offers.send(&unsigned_request(&blob(&user_key()), b"ssh-ed25519"));
        assert!(offers.event().starts_with("Auth"));
        offers.server.reject_auth();
        assert_eq!(offers.receive(), [failure()]);
    }
    offers.send(&unsigned_request(&blob(&user_key()), b"ssh-ed25519"));
    assert_eq!(offers.error(), "too many attempts to log in");
    let mut proofs = pair();
    let request_with_proof = signed_request(&user_key(), &[0; 32], b"user");
    for _ in 0..10 {
        proofs.send(&request_with_proof);
        assert_eq!(proofs.no_event(), [failure()]);
    }
    proofs.send(&request_with_proof);
    assert_eq!(proofs.error(), "too many attempts to log in");
    let mut others = pair();
    for _ in 0..10 {
        others.send(&request(b"user", b"keyboard-interactive", |_| {}));
        assert_eq!(others.no_event(), [failure()]);
    }
    others.send(&request(b"user", b"none", |_| {}));
    assert_eq!(others.error(), "too many attempts to log in");
}

#[test]
fn nothing_else_before_the_log_in() {
    let mut without_service = Pair::with_keys(Offer::default(), |_| {});
    without_service.send(&request(b"user", b"none", |_| {}));
    assert_eq!(without_service.error(), "the service ssh-userauth was not requested");
    let mut another_service = Pair::with_keys(Offer::default(), |_| {});
    another_service.send(b"\x05\0\0\0\x0essh-connection");
    assert_eq!(another_service.error(), "the service comes after ssh-userauth");
    let mut another_target = pair();
    let mut payload = vec![message::USERAUTH_REQUEST];
    [&b"user"[..], b"ssh-userauth", b"none"].iter().for_each(|text| payload.string(text));
    another_target.send(&payload);
    assert_eq!(another_target.error(), "there is only the service ssh-connection");
    for early in [
        open_message(b"session", 0, 100, 100),
        super::client::global_message(b"tcpip-forward", true, |_| {}),
        super::client::data_message(0, b"data"),
        vec![message::PING, 0, 0, 0, 0],
        vec![200],
        vec![message::USERAUTH_SUCCESS],
    ] {
        let mut pair = pair();
        pair.send(&early);
        assert_eq!(pair.error(), "only messages of the log-in are allowed now");
    }
    let mut chatter = pair();
    for _ in 0..200 {
        chatter.send(&[message::IGNORE, 0, 0, 0, 0]);
    }
    assert_eq!(chatter.error(), "too many packets before the log-in");
}
