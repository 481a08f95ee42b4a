//! Packets and buffers.

use super::super::packet::{CipherName, Input, OUTPUT_LIMIT, Opening, Output, SMALL_PACKET, Sealing};

const LARGE: usize = 300_000;

fn both(cipher: Option<CipherName>) -> (Output, Input) {
    let (mut output, mut input) = (Output::new(), Input::new());
    input.set_limit(LARGE);
    if let Some(cipher) = cipher {
        let (key, iv) = (vec![6; cipher.key_length()], [0xff; 12]);
        output.set_cipher(Sealing::new(cipher, &key, &iv).expect("keys"), false);
        input.set_cipher(Opening::new(cipher, &key, &iv).expect("keys"), false);
    }
    (output, input)
}

fn all() -> impl Iterator<Item = Option<CipherName>> {
    CipherName::ALL.into_iter().map(Some).chain([None])
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 + length) as u8).collect()
}

/// Moves up to `step` bytes at a time.
fn transfer(output: &mut Output, input: &mut Input, step: usize) {
    let room = input.spare();
    let length = room.len().min(output.pending().len()).min(step);
    assert!(length > 0);
    room[..length].copy_from_slice(&output.pending()[..length]);
    input.received(length);
    output.written(length);
}

#[test]
fn payloads_of_any_length() {
    for cipher in all() {
        for step in [1, 7, 1000, usize::MAX] {
            let (mut output, mut input) = both(cipher);
            let lengths: Vec<usize> =
                if step == 1 { (1..70).collect() } else { (1..300).chain([34_000, 65_536]).collect() };
            for length in &lengths {
                output.packet(|packet| payload(*length).chunks(100).for_each(|part| packet.bytes(part)));
            }
            for length in &lengths {
                let opened = loop {
                    match input.next_packet().expect("a packet") {
                        Some(opened) => break opened,
                        None => transfer(&mut output, &mut input, step),
                    }
                };
                assert_eq!(input.slice(opened.payload), payload(*length), "{cipher:?}");
            }
            assert!(input.next_packet().expect("no packet").is_none());
            assert!(output.pending().is_empty() && input.unused().is_empty());
            assert_eq!((input.packets, input.bytes), (output.packets, output.bytes));
        }
    }
}

#[test]
fn packets_are_aligned_and_hide_old_bytes() {
    for (cipher, block) in [(None, 8), (Some(CipherName::Aes128Gcm), 16), (Some(CipherName::ChaCha20Poly1305), 8)] {
        for length in 1..100 {
            let (mut output, _) = both(cipher);
            output.plain(&[0xee; 500]);
            output.written(500);
            output.packet(|packet| packet.bytes(&payload(length)));
            let bytes = output.pending();
            let counted = if cipher.is_none() { bytes.len() } else { bytes.len() - 4 - 16 };
            assert_eq!(counted % block, 0);
            if cipher.is_none() {
                let padding = usize::from(bytes[4]);
                assert!((4..4 + block).contains(&padding));
                assert_eq!(&bytes[5 + length..], vec![0; padding]);
            }
        }
    }
}

#[test]
fn a_changed_bit_is_noticed() {
    for cipher in CipherName::ALL {
        let (mut output, _) = both(Some(cipher));
        output.packet(|packet| packet.bytes(b"a message"));
        let sealed = output.pending().to_vec();
        for index in 0..sealed.len() {
            let (_, mut input) = both(Some(cipher));
            let mut changed = sealed.clone();
            changed[index] ^= 1;
            input.spare()[..changed.len()].copy_from_slice(&changed);
            input.received(changed.len());
            match input.next_packet() {
                Err(_) => {}
                // A length that is larger only makes the reader wait for more, which then is not authentic.
                Ok(None) if index < 4 => {}
                Ok(_) => panic!("{cipher:?} {index}"),
            }
        }
    }
}

#[test]
fn packets_can_not_be_repeated_or_swapped() {
    for cipher in CipherName::ALL {
        let (mut output, _) = both(Some(cipher));
        output.packet(|packet| packet.bytes(b"first"));
        let first = output.pending().to_vec();
        output.written(first.len());
        output.packet(|packet| packet.bytes(b"other"));
        let other = output.pending().to_vec();
        for bytes in [[&*first, &*first].concat(), [&*other, &*first].concat()] {
            let (_, mut input) = both(Some(cipher));
            input.spare()[..bytes.len()].copy_from_slice(&bytes);
            input.received(bytes.len());
            let failed = (0..2).any(|_| input.next_packet().is_err());
            assert!(failed, "{cipher:?}");
        }
    }
}

#[test]
fn lengths_that_are_not_allowed() {
    for length in [0u32, 1, 4, 7, 13, SMALL_PACKET as u32 + 5, u32::MAX, u32::MAX - 3] {
        let mut input = Input::new();
        input.spare()[..4].copy_from_slice(&length.to_be_bytes());
        input.received(4);
        assert!(input.next_packet().is_err(), "{length}");
    }
    // A padding that is too short, one that leaves no payload, one beyond the packet.
    for padding in [0, 3, 11, 12, 255] {
        let mut input = Input::new();
        input.spare()[..16].copy_from_slice(&[0, 0, 0, 12, padding, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        input.received(16);
        assert!(input.next_packet().is_err(), "{padding}");
    }
}

#[test]
fn data_is_filled_in_place() {
    for cipher in all() {
        let (mut output, mut input) = both(cipher);
        let filled = output.data(&[94, 1, 2, 3, 4], 1000, |room| {
            assert_eq!(room.len(), 1000);
            room[..5].copy_from_slice(b"bytes");
            Ok::<_, ()>(5)
        });
        assert_eq!(filled, Ok(5));
        let before = output.pending().len();
        assert_eq!(output.data(&[94], 10, |_| Ok::<_, ()>(0)), Ok(0));
        assert_eq!(output.data(&[94], 10, |_| Err("broken")), Err("broken"));
        assert_eq!(output.pending().len(), before);
        transfer(&mut output, &mut input, usize::MAX);
        let opened = input.next_packet().expect("a packet").expect("a packet");
        assert_eq!(input.slice(opened.payload), b"\x5e\x01\x02\x03\x04\0\0\0\x05bytes");
    }
}

/// Whatever the peer reads, output is bounded, data is not sent in crumbs, and what waits is moved little.
#[test]
fn output_is_bounded() {
    let mut output = Output::new();
    let header = [94, 0, 0, 0, 0];
    let (mut packets, mut sent) = (0, 0);
    for round in 0.. {
        while output.data_room(32_768) > 0 {
            let room = output.data_room(32_768);
            assert!(room >= 4096);
            sent += output.data(&header, room, |room| Ok::<_, ()>(room.len())).expect("data");
            packets += 1;
        }
        assert!(output.is_full());
        assert!(output.pending().len() <= OUTPUT_LIMIT + 100);
        // Now little, now much of it is read.
        output.written(if round % 3 == 0 { 100_000 } else { 4_000 });
        if sent > 20_000_000 {
            break;
        }
    }
    assert!(sent / packets > 16_000, "{sent} {packets}");
    assert!(output.holds_memory() || !output.pending().is_empty());
    output.written(usize::MAX);
    assert!(output.pending().is_empty() && output.holds_memory());
    output.release_memory();
    assert!(!output.holds_memory());
}

#[test]
fn a_read_buffer_grows_when_it_is_filled() {
    let mut input = Input::new();
    assert!(!input.holds_memory());
    assert_eq!(input.spare().len(), 4096);
    input.received(100);
    input.skip(100);
    assert_eq!(input.spare().len(), 4096);
    // Before the log-in, not beyond what one packet needs.
    for _ in 0..10 {
        let length = input.spare().len();
        input.received(length);
        input.skip(length);
    }
    assert_eq!(input.spare().len(), 36 << 10);
    input.set_limit(LARGE);
    for _ in 0..10 {
        let length = input.spare().len();
        input.received(length);
        input.skip(length);
    }
    assert_eq!(input.spare().len(), 128 << 10);
    input.release_memory();
    assert!(!input.holds_memory());
    // As large as a packet that has begun.
    input.spare()[..4].copy_from_slice(&(LARGE as u32 - 4).to_be_bytes());
    input.received(4);
    assert!(input.next_packet().expect("a beginning").is_none());
    assert_eq!(input.spare().len(), LARGE - 4);
}
