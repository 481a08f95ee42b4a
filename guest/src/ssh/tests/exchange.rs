//! The key exchange.

use super::super::kex::{Agreement, Method};
use super::super::packet::CipherName;
use super::super::wire::{Reader, Write, message};
use super::client::{Offer, Pair, STRICT, Share, global_message};

const METHODS: [&str; 3] = [
    "mlkem768x25519-sha256,kex-strict-c-v00@openssh.com",
    "curve25519-sha256,kex-strict-c-v00@openssh.com",
    "curve25519-sha256@libssh.org",
];

fn keepalive() -> Vec<u8> {
    global_message(b"keepalive@openssh.com", true, |_| {})
}

#[test]
fn every_method_and_cipher() {
    for methods in METHODS {
        for cipher in CipherName::ALL {
            let offer = Offer { methods, cipher, ..Offer::default() };
            let mut pair = Pair::with_keys(offer, |_| {});
            assert_eq!(pair.server.client_version(), super::client::VERSION);
            pair.log_in();
            // And again, by the client, with everything else.
            for again in METHODS {
                for cipher in CipherName::ALL {
                    // Whether it is strict is settled by the first exchange.
                    let strict = methods.contains(STRICT);
                    let again = if strict { again } else { "curve25519-sha256@libssh.org" };
                    if strict && !again.contains(STRICT) {
                        continue;
                    }
                    pair.exchange_keys(Offer { methods: again, cipher, ..Offer::default() });
                    pair.send(&keepalive());
                    assert!(pair.event().starts_with("Global"));
                    pair.server.reply_global(false, b"");
                    assert_eq!(pair.receive(), [[message::REQUEST_FAILURE]]);
                }
            }
        }
    }
}

/// A connection's thread has a small stack, and ML-KEM takes much of one without optimisation.
#[test]
fn an_exchange_takes_little_stack() {
    let thread = std::thread::Builder::new().stack_size(128 << 10).spawn(|| {
        let offer = Offer { methods: METHODS[0], ..Offer::default() };
        let mut pair = Pair::new(|_| {});
        pair.offer_keys(offer);
        let share = std::thread::spawn(|| Share::new(true).message()).join().expect("a share");
        pair.send(&share);
        assert_eq!(pair.no_event().len(), 2);
    });
    thread.expect("a thread").join().expect("the stack is large enough");
}

#[test]
fn the_client_is_told_of_extensions_if_it_wants() {
    let mut pair = Pair::with_keys(Offer::default(), |_| {});
    let received = pair.no_event();
    assert_eq!(received.len(), 1);
    let mut reader = Reader::new(&received[0]);
    assert_eq!((reader.byte(), reader.u32()), (Ok(message::EXT_INFO), Ok(2)));
    assert_eq!(reader.string(), Ok(&b"server-sig-algs"[..]));
    assert!(reader.string().expect("names").starts_with(b"ssh-ed25519,"));
    // Only once.
    pair.log_in();
    pair.exchange_keys(Offer::default());
    assert!(pair.no_event().is_empty());
    let mut without = Pair::with_keys(Offer { methods: METHODS[1], ..Offer::default() }, |_| {});
    assert!(without.no_event().is_empty());
}

#[test]
fn the_clients_first_choice_counts() {
    let offer = Offer { methods: "other,curve25519-sha256,mlkem768x25519-sha256,ext-info-c", ..Offer::default() };
    let agreement = Agreement::new(&offer.message()).expect("an agreement");
    assert_eq!(agreement.method, Method::Curve25519);
    assert!(agreement.ext_info && !agreement.strict && !agreement.skip_guess);
    let guess = |methods, host_keys| {
        let offer = Offer { methods, host_keys, guess: true, ..Offer::default() };
        Agreement::new(&offer.message()).expect("an agreement").skip_guess
    };
    assert!(guess("curve25519-sha256", "ssh-ed25519"));
    assert!(guess("mlkem768x25519-sha256", "ssh-rsa,ssh-ed25519"));
    assert!(!guess("mlkem768x25519-sha256", "ssh-ed25519"));
}

#[test]
fn a_wrong_guess_is_skipped() {
    let offer = Offer { guess: true, ..Offer::default() };
    let mut pair = Pair::new(|_| {});
    assert!(pair.offer_keys(offer).is_empty());
    pair.send(&[message::KEX_EXCHANGE_INIT, 1, 2, 3]);
    pair.finish_exchange(offer, Share::new(false));
    pair.log_in();
}

#[test]
fn nothing_in_common() {
    for (methods, host_keys, text) in [
        ("diffie-hellman-group14-sha256", "ssh-ed25519", "key exchange method"),
        ("", "ssh-ed25519", "key exchange method"),
        ("curve25519-sha256", "ssh-rsa", "host key"),
    ] {
        let mut pair = Pair::new(|_| {});
        pair.send(&Offer { methods, host_keys, ..Offer::default() }.message());
        let error = pair.error();
        assert!(error.contains("in common") && error.contains(text), "{error}");
    }
    for (index, text) in [(0, "cipher"), (1, "cipher"), (4, "compression"), (5, "compression")] {
        let mut payload = vec![message::KEXINIT];
        payload.bytes(&[0; 16]);
        payload.string(b"curve25519-sha256");
        payload.string(b"ssh-ed25519");
        let cipher = "aes128-gcm@openssh.com";
        for (at, list) in [cipher, cipher, "", "", "none", "none", "", ""].into_iter().enumerate() {
            payload.string(if at == index { b"zlib" } else { list.as_bytes() });
        }
        payload.bytes(&[0; 5]);
        let mut pair = Pair::new(|_| {});
        pair.send(&payload);
        let error = pair.error();
        assert!(error.contains("in common") && error.contains(text), "{error}");
    }
}

#[test]
fn public_keys_that_are_not_allowed() {
    let zeros = [0; 32];
    let mut beyond_modulus = Share::new(true).public;
    beyond_modulus[..1152].fill(0xff);
    let no_curve = [&Share::new(true).public[..1184], &zeros].concat();
    for (methods, share) in [
        (METHODS[1], &zeros[..]),
        (METHODS[1], &zeros[..31]),
        (METHODS[1], b""),
        (METHODS[0], &no_curve),
        (METHODS[0], &beyond_modulus),
        (METHODS[0], &no_curve[..1184]),
        (METHODS[0], &no_curve[..100]),
    ] {
        let mut pair = Pair::new(|_| {});
        assert!(pair.offer_keys(Offer { methods, ..Offer::default() }).is_empty());
        let mut payload = vec![message::KEX_EXCHANGE_INIT];
        payload.string(share);
        pair.send(&payload);
        let error = pair.error();
        assert!(error.contains("public key"), "{error}");
    }
}

/// What would let somebody between the two shift the sequence numbers (CVE-2023-48795).
#[test]
fn the_strict_exchange_allows_nothing_else() {
    let ignore = [message::IGNORE, 0, 0, 0, 0];
    let mut before = Pair::new(|_| {});
    before.send(&ignore);
    before.send(&Offer::default().message());
    assert_eq!(before.error(), "KEXINIT was not the first message");
    for between in [&ignore[..], &[message::DEBUG], &[message::UNIMPLEMENTED], &[message::SERVICE_REQUEST]] {
        let mut pair = Pair::new(|_| {});
        pair.offer_keys(Offer::default());
        pair.send(between);
        assert!(pair.error().starts_with("only messages of the key exchange"));
    }
    // Others may.
    let mut pair = Pair::new(|_| {});
    let offer = Offer { methods: METHODS[2], ..Offer::default() };
    pair.send(&ignore);
    pair.offer_keys(offer);
    pair.send(&ignore);
    pair.finish_exchange(offer, Share::new(false));
    pair.send(&ignore);
    pair.log_in();
}

#[test]
fn messages_out_of_order() {
    let offer = Offer::default();
    for early in [vec![message::NEWKEYS], Share::new(false).message(), vec![35]] {
        let mut pair = Pair::new(|_| {});
        pair.send(&early);
        assert!(pair.error().contains("not allowed now"));
    }
    let mut twice = Pair::new(|_| {});
    twice.offer_keys(offer);
    twice.send(&offer.message());
    assert_eq!(twice.error(), "KEXINIT is not allowed now");
    let mut early = Pair::new(|_| {});
    early.offer_keys(offer);
    early.send(&[message::NEWKEYS]);
    assert_eq!(early.error(), "NEWKEYS is not allowed now");
    let mut before_login = Pair::with_keys(offer, |_| {});
    before_login.send(&offer.message());
    assert_eq!(before_login.error(), "new keys are exchanged only after the log-in");
}

/// The server begins when it has sent enough; what is to be sent meanwhile follows, in order.
#[test]
fn the_server_exchanges_keys_again() {
    let offer = Offer::default();
    for cipher in CipherName::ALL {
        let offer = Offer { cipher, ..offer };
        let mut pair = Pair::with_keys(offer, |config| config.rekey_bytes = 100_000);
        pair.log_in();
        let id = pair.open_session();
        for round in 0..5u8 {
            let mut sent = 0;
            while pair.server.room(id) > 0 {
                sent += pair.server.send(id, super::super::DataStream::Data, &[round; 10_000]);
            }
            assert!((80_000..120_000).contains(&sent), "{sent}");
            // The client sends on before it sees the offer.
            pair.send(&super::client::data_message(id, &[round; 1000]));
            pair.send(&keepalive());
            assert!(pair.event().starts_with("Data"));
            assert!(pair.event().starts_with("Global"));
            pair.server.reply_global(false, b"");
            pair.server.consumed(id, 1000);
            let mut received: usize = 0;
            for payload in pair.offer_keys(offer) {
                assert_eq!((payload[0], payload[9]), (message::CHANNEL_DATA, round));
                received += payload.len() - 9;
            }
            assert_eq!(received, sent);
            assert_eq!(pair.server.room(id), 0);
            pair.finish_exchange(offer, Share::new(false));
            assert_eq!(pair.no_event(), [[message::REQUEST_FAILURE]]);
            pair.send(&super::client::channel_message(message::CHANNEL_WINDOW_ADJUST, id, |payload| {
                payload.u32(sent as u32);
            }));
            assert!(pair.no_event().is_empty());
            assert!(pair.server.room(id) > 0);
        }
    }
}

#[test]
fn the_client_may_begin_after_every_message() {
    let mut pair = Pair::logged_in(|_| {});
    let id = pair.open_session();
    for round in 0..20u8 {
        pair.exchange_keys(Offer::default());
        pair.send(&super::client::data_message(id, &[round]));
        assert_eq!(pair.event(), format!("Data {{ id: {id}, bytes: [{round}] }}"));
        pair.server.send(id, super::super::DataStream::Data, &[round]);
        assert_eq!(pair.receive()[0].last(), Some(&round));
    }
}

/// A client that never answers the server's offer can't make the server keep its answers for ever.
#[test]
fn answers_that_wait_for_keys_are_bounded() {
    let mut pair = Pair::logged_in(|config| config.rekey_bytes = 5000);
    let message = global_message(b"keepalive@openssh.com", true, |_| {});
    for count in 0..1_000_000 {
        pair.send(&message);
        match pair.try_event() {
            Ok(Some(_)) => pair.server.reply_global(true, &[0; 100]),
            Ok(None) => panic!("no event"),
            Err(error) => {
                assert_eq!(error.text(), "too many requests while keys were exchanged");
                assert!(count > 5000);
                return;
            }
        }
    }
    panic!("no error");
}
