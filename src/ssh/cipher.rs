//! `chacha20-poly1305@openssh.com` for libssh2, by OpenSSL's ChaCha20 and a Poly1305 with vector instructions. libssh2's own, in
//! portable C, takes most of the time of a large transfer.
//!
//! Three functions replace those of libssh2's `cipher-chachapoly.c`: from an archive, a linker takes only what nobody has defined
//! before, and [`link`] sees to it that these come first. Beside `libssh2.rs` this is the one file outside `ffi` with unsafe code.

#![expect(unsafe_code, reason = "functions that C calls, under names that C knows")]

use std::cell::RefCell;
use std::ffi::c_int;

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;

const TAG: usize = 16;
const FAILED: c_int = libssh2_sys::LIBSSH2_ERROR_DECRYPT;

thread_local! {
    static CHACHA20: RefCell<Option<CipherCtx>> = RefCell::new(chacha20().ok());
}

fn chacha20() -> Result<CipherCtx, ErrorStack> {
    let mut context = CipherCtx::new()?;
    context.encrypt_init(Some(Cipher::chacha20()), None, None)?;
    Ok(context)
}

/// Whoever calls this is linked with these functions and not with libssh2's. False if OpenSSL may not do ChaCha20, as in FIPS mode.
pub(super) fn link() -> bool {
    std::hint::black_box(&LINKED);
    CHACHA20.with_borrow(Option::is_some)
}

/// libssh2's `struct chachapoly_ctx`, of whose 128 bytes this needs half: the key of the payload, and that of the packet lengths.
#[repr(C, align(4))]
struct Keys {
    payload: [u8; 32],
    length: [u8; 32],
    _unused: [u8; 64],
}

type Init = unsafe extern "C" fn(*mut Keys, *const u8, usize) -> c_int;
type Crypt = unsafe extern "C" fn(*const Keys, u64, *mut u8, *const u8, usize, usize, c_int) -> c_int;
type GetLength = unsafe extern "C" fn(*const Keys, *mut u32, u64, *const u8, usize) -> c_int;

static LINKED: (Init, Crypt, GetLength) = (chachapoly_init, chachapoly_crypt, chachapoly_get_length);

// For the linker of this library only: nothing that a program gets to see.
std::arch::global_asm!(".hidden chachapoly_init", ".hidden chachapoly_crypt", ".hidden chachapoly_get_length");

/// En- or decrypts with the key stream from this block on; false if OpenSSL refuses.
fn apply_key_stream(key: &[u8; 32], sequence: u64, block: u64, bytes: &mut [u8]) -> bool {
    let mut position = [0; 16];
    position[..8].copy_from_slice(&block.to_le_bytes());
    position[8..].copy_from_slice(&sequence.to_be_bytes());
    let apply = |context: &mut CipherCtx| {
        context.encrypt_init(None, Some(key), Some(&position))?;
        context.cipher_update_inplace(bytes, bytes.len())
    };
    // The thread may be ending.
    let done = CHACHA20.try_with(|context| context.borrow_mut().as_mut().map(apply));
    matches!(done, Ok(Some(Ok(length))) if length == bytes.len())
}

impl Keys {
    /// The length of a packet has a key of its own.
    fn crypt_length(&self, sequence: u64, bytes: &mut [u8]) -> bool {
        apply_key_stream(&self.length, sequence, 0, bytes)
    }

    fn crypt(&self, sequence: u64, packet: &mut [u8], length: usize) -> bool {
        let (length, payload) = packet.split_at_mut(length);
        self.crypt_length(sequence, length) && apply_key_stream(&self.payload, sequence, 1, payload)
    }

    /// The tag of an encrypted packet. The authenticator's key is the block before the payload's.
    fn tag(&self, sequence: u64, packet: &[u8]) -> Option<[u8; TAG]> {
        let mut key = [0; 32];
        let is_done = apply_key_stream(&self.payload, sequence, 0, &mut key);
        is_done.then(|| Poly1305::new((&key).into()).compute_unpadded(packet).into())
    }

    fn encrypt(&self, sequence: u64, packet: &mut [u8], length: usize) -> Option<[u8; TAG]> {
        if self.crypt(sequence, packet, length) { self.tag(sequence, packet) } else { None }
    }

    /// False, and nothing decrypted, if the packet is not what its sender sent.
    fn decrypt(&self, sequence: u64, packet: &mut [u8], length: usize, tag: &[u8; TAG]) -> bool {
        let expected = self.tag(sequence, packet);
        expected.is_some_and(|expected| openssl::memcmp::eq(&expected, tag)) && self.crypt(sequence, packet, length)
    }
}

/// Takes the 64 bytes of two keys.
///
/// # Safety
/// As libssh2 calls it: `keys` has the size of its own structure, `key` has `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn chachapoly_init(keys: *mut Keys, key: *const u8, length: usize) -> c_int {
    if length != 64 {
        return libssh2_sys::LIBSSH2_ERROR_INVAL;
    }
    // SAFETY: see above; a key is no more than bytes.
    unsafe { std::ptr::copy_nonoverlapping(key, keys.cast::<u8>(), length) };
    0
}

/// Encrypts, or checks and decrypts, a packet: `extra` bytes of its length, `length` bytes, and a tag behind them.
///
/// # Safety
/// As libssh2 calls it: `keys` were set by `chachapoly_init`; `source` and `target` have `extra + length + 16` bytes (to encrypt,
/// `source` needs no tag), and are the same or do not overlap.
#[unsafe(no_mangle)]
unsafe extern "C" fn chachapoly_crypt(
    keys: *const Keys,
    sequence: u64,
    target: *mut u8,
    source: *const u8,
    length: usize,
    extra: usize,
    encrypt: c_int,
) -> c_int {
    let size = extra + length;
    // SAFETY: see above. The tag is copied before anything is written; `packet` is the only reference to its bytes.
    unsafe {
        let keys = &*keys;
        let tag = if encrypt == 0 { source.add(size).cast::<[u8; TAG]>().read() } else { [0; TAG] };
        std::ptr::copy(source, target, size);
        let packet = std::slice::from_raw_parts_mut(target, size);
        if encrypt == 0 {
            return if keys.decrypt(sequence, packet, extra, &tag) { 0 } else { FAILED };
        }
        match keys.encrypt(sequence, packet, extra) {
            Some(tag) => target.add(size).cast::<[u8; TAG]>().write(tag),
            None => return FAILED,
        }
    }
    0
}

/// Decrypts the length of a packet, which comes before its tag.
///
/// # Safety
/// As libssh2 calls it: `keys` were set by `chachapoly_init`; `bytes` has `length` bytes; `packet_length` can be written.
#[unsafe(no_mangle)]
unsafe extern "C" fn chachapoly_get_length(
    keys: *const Keys,
    packet_length: *mut u32,
    sequence: u64,
    bytes: *const u8,
    length: usize,
) -> c_int {
    if length < 4 {
        return -1;
    }
    // SAFETY: see above.
    unsafe {
        let mut first = bytes.cast::<[u8; 4]>().read();
        if !(*keys).crypt_length(sequence, &mut first) {
            return -1;
        }
        packet_length.write(u32::from_be_bytes(first));
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys { payload: [7; 32], length: [9; 32], _unused: [0; 64] }
    }

    #[test]
    fn makes_the_key_stream_of_the_standard() {
        // RFC 8439, A.1, test vectors 1 and 2: blocks 0 and 1 of the key 0.
        let mut text = [0; 8];
        assert!(apply_key_stream(&[0; 32], 0, 0, &mut text));
        assert_eq!(text, [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
        let mut text = [0; 8];
        assert!(apply_key_stream(&[0; 32], 0, 1, &mut text));
        assert_eq!(text, [0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a]);
    }

    #[test]
    fn what_was_encrypted_is_decrypted() {
        for size in [4, 5, 36, 68, 1000, 32_768] {
            let plain: Vec<u8> = (0..size).map(|n| n as u8).collect();
            let mut packet = plain.clone();
            let tag = keys().encrypt(3, &mut packet, 4).unwrap();
            assert_ne!(packet, plain);
            let mut first: [u8; 4] = packet[..4].try_into().unwrap();
            assert!(keys().crypt_length(3, &mut first));
            assert_eq!(first, plain[..4]);
            assert!(keys().decrypt(3, &mut packet, 4, &tag));
            assert_eq!(packet, plain);
        }
    }

    #[test]
    fn a_packet_that_was_touched_is_refused_and_stays() {
        let mut packet = vec![1; 100];
        let tag = keys().encrypt(0, &mut packet, 4).unwrap();
        for at in 0..packet.len() {
            let mut touched = packet.clone();
            touched[at] ^= 1;
            let before = touched.clone();
            assert!(!keys().decrypt(0, &mut touched, 4, &tag));
            assert_eq!(touched, before);
        }
        assert!(!keys().decrypt(1, &mut packet.clone(), 4, &tag), "another number in the sequence");
    }
}
