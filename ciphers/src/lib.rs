//! The ciphers of libssh2, by OpenSSL and for a whole packet at a time.
//!
//! libssh2's own take most of this side's time in a large transfer: its ChaCha20-Poly1305 is portable C, and its AES
//! gives OpenSSL 16 bytes at a time. Nor does that get over a packet whose length is no multiple of those: an assertion
//! fails, and the process ends.
//!
//! One function, which tells libssh2 what ciphers there are, replaces that of its `crypt.c`. Linkers skip an archive
//! member whose symbols are already defined; [`names`] references our definition, so it is pulled in before libssh2's.
//! All ciphers of libssh2 are here but `rijndael-cbc@lysator.liu.se`, another name of AES-CBC: for programs that use
//! libssh2 themselves, and because a server can have one cipher go on with what another one has set up.
//!
//! It is a crate of its own since it changes a whole program: what it replaces, it replaces for everything that uses
//! libssh2 there, and it needs exactly one version of it. So libsandbox.so and the command have it, and a Rust program
//! that asks for it.

#![expect(unsafe_code, reason = "functions that C calls, under names that C knows")]

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use openssl::cipher::{Cipher, CipherRef};
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use zeroize::Zeroizing;

/// Size of the packet-length field of SSH.
const LENGTH: usize = 4;
const TAG: usize = 16;
/// Of AES.
const BLOCK: usize = 16;

static IS_USED: AtomicBool = AtomicBool::new(false);

/// The ciphers to offer: of those that guard what they encrypt, what this system's OpenSSL may do, the fastest first.
///
/// Where processors have instructions for AES, its Galois mode is the faster one, for servers too: OpenSSH does
/// Poly1305 in portable C. Large downloads had one and a half times the speed with it.
pub fn names() -> &'static str {
    static NAMES: OnceLock<String> = OnceLock::new();
    // Keeps our definition alive, so that the linker sees it before libssh2's.
    std::hint::black_box(ssh2_crypt_methods as *const ());
    NAMES.get_or_init(|| {
        let mut methods = [&AES_128_GCM, &AES_256_GCM, &CHACHA20_POLY1305];
        if !has_aes() {
            methods.rotate_right(1);
        }
        let is_allowed = |method: &&&Method| Keys::new(&method.kind, &[0; 64], &[0; BLOCK], true).is_ok();
        let names: Vec<_> = methods.iter().filter(is_allowed).map(|method| method.name().to_string_lossy()).collect();
        names.join(",")
    })
}

/// Whether libssh2 has asked for these ciphers, which it does when it is told what to offer. One from elsewhere does
/// not.
pub fn is_used() -> bool {
    IS_USED.load(Ordering::Relaxed)
}

fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// One direction of a connection, from one key exchange to the next.
enum Keys {
    /// The length of a packet has a key of its own.
    ChaCha20Poly1305 {
        payload: Zeroizing<[u8; 32]>,
        length: Zeroizing<[u8; 32]>,
        stream: CipherCtx,
    },
    AesGcm {
        context: CipherCtx,
        nonce: [u8; 12],
    },
    /// AES-CTR and AES-CBC; integrity comes from a separate MAC.
    AesBlocks(CipherCtx),
}

#[derive(Clone, Copy)]
enum Kind {
    ChaCha20Poly1305,
    AesGcm(fn() -> &'static CipherRef),
    AesBlocks(fn() -> &'static CipherRef),
}

impl Keys {
    /// `secret` and `start` are as long as the cipher wants them, or longer.
    fn new(kind: &Kind, secret: &[u8], start: &[u8], encrypts: bool) -> Result<Self, ErrorStack> {
        let mut context = CipherCtx::new()?;
        let (cipher, start_length) = match kind {
            Kind::ChaCha20Poly1305 => {
                context.encrypt_init(Some(Cipher::chacha20()), None, None)?;
                let (payload, length) = secret.split_at(32);
                let key = |bytes: &[u8]| Zeroizing::new(std::array::from_fn(|at| bytes[at]));
                return Ok(Self::ChaCha20Poly1305 { payload: key(payload), length: key(length), stream: context });
            }
            Kind::AesGcm(cipher) => (cipher(), 12),
            Kind::AesBlocks(cipher) => (cipher(), BLOCK),
        };
        let (secret, start) = (Some(&secret[..cipher.key_length()]), &start[..start_length]);
        match encrypts {
            true => context.encrypt_init(Some(cipher), secret, Some(start))?,
            false => context.decrypt_init(Some(cipher), secret, Some(start))?,
        }
        context.set_padding(false);
        Ok(match kind {
            Kind::AesBlocks(_) => Self::AesBlocks(context),
            _ => Self::AesGcm { context, nonce: std::array::from_fn(|at| start[at]) },
        })
    }

    /// What the first bytes of a packet say of its length.
    fn length(&mut self, sequence: c_uint, mut first: [u8; LENGTH]) -> Option<u32> {
        if let Self::ChaCha20Poly1305 { length, stream, .. } = self {
            apply_key_stream(stream, length, sequence, 0, &mut first).ok()?;
        }
        Some(u32::from_be_bytes(first))
    }

    /// Encrypts a packet, which begins with its length.
    fn seal(&mut self, sequence: c_uint, packet: &mut [u8]) -> Result<[u8; TAG], ErrorStack> {
        match self {
            Self::ChaCha20Poly1305 { payload, length, stream } => {
                let (first, rest) = packet.split_at_mut(LENGTH);
                apply_key_stream(stream, length, sequence, 0, first)?;
                apply_key_stream(stream, payload, sequence, 1, rest)?;
                poly1305(stream, payload, sequence, packet)
            }
            Self::AesGcm { context, nonce } => {
                let (first, rest) = packet.split_at_mut(LENGTH);
                context.encrypt_init(None, None, Some(&next(nonce)))?;
                context.cipher_update(first, None)?;
                context.cipher_update_inplace(rest, rest.len())?;
                context.cipher_final(&mut [])?;
                let mut tag = [0; TAG];
                context.tag(&mut tag)?;
                Ok(tag)
            }
            Self::AesBlocks(_) => Err(ErrorStack::get()),
        }
    }

    /// Checks and decrypts a packet, which begins with its length. False if it is not what its sender has sent.
    fn open(&mut self, sequence: c_uint, packet: &mut [u8], tag: &[u8; TAG]) -> Result<bool, ErrorStack> {
        match self {
            Self::ChaCha20Poly1305 { payload, stream, .. } => {
                let expected = poly1305(stream, payload, sequence, packet)?;
                let is_right = openssl::memcmp::eq(&expected, tag);
                if is_right {
                    apply_key_stream(stream, payload, sequence, 1, &mut packet[LENGTH..])?;
                }
                Ok(is_right)
            }
            Self::AesGcm { context, nonce } => {
                let (first, rest) = packet.split_at_mut(LENGTH);
                context.decrypt_init(None, None, Some(&next(nonce)))?;
                context.set_tag(tag)?;
                context.cipher_update(first, None)?;
                context.cipher_update_inplace(rest, rest.len())?;
                Ok(context.cipher_final(&mut []).is_ok())
            }
            Self::AesBlocks(_) => Ok(false),
        }
    }

    /// En- or decrypts whole blocks.
    fn crypt_blocks(&mut self, bytes: &mut [u8]) -> Result<(), ErrorStack> {
        let Self::AesBlocks(context) = self else { return Err(ErrorStack::get()) };
        let mut room = [0; 2 * BLOCK];
        for block in bytes.chunks_mut(BLOCK) {
            let length = context.cipher_update(block, Some(&mut room))?.min(block.len());
            block[..length].copy_from_slice(&room[..length]);
        }
        Ok(())
    }
}

/// En- or decrypts with the key stream of a packet from this block on.
fn apply_key_stream(
    stream: &mut CipherCtx,
    key: &[u8; 32],
    sequence: c_uint,
    block: u64,
    bytes: &mut [u8],
) -> Result<(), ErrorStack> {
    let mut position = [0; 16];
    position[..8].copy_from_slice(&block.to_le_bytes());
    position[8..].copy_from_slice(&u64::from(sequence).to_be_bytes());
    stream.encrypt_init(None, Some(key), Some(&position))?;
    stream.cipher_update_inplace(bytes, bytes.len()).map(drop)
}

/// The tag of an encrypted packet. The authenticator's key is the block before the payload's.
fn poly1305(
    stream: &mut CipherCtx,
    payload: &[u8; 32],
    sequence: c_uint,
    packet: &[u8],
) -> Result<[u8; TAG], ErrorStack> {
    let mut key = Zeroizing::new([0; 32]);
    apply_key_stream(stream, payload, sequence, 0, &mut *key)?;
    Ok(Poly1305::new((&*key).into()).compute_unpadded(packet).into())
}

/// The nonce of a packet: RFC 5647 counts packets in its last 8 bytes.
fn next(nonce: &mut [u8; 12]) -> [u8; 12] {
    let this = *nonce;
    let (_, counter) = nonce.split_at_mut(4);
    for byte in counter.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    this
}

/// The beginning of libssh2's `struct crypt_method`, and what is ours.
#[repr(C)]
struct Method {
    name: *const c_char,
    pem_annotation: *const c_char,
    block: c_int,
    start: c_int,
    secret: c_int,
    tag: c_int,
    flags: c_long,
    init: Init,
    get_length: Option<GetLength>,
    crypt: Crypt,
    free: Free,
    algorithm: *const c_void,
    kind: Kind,
}

/// A panic would end the process here.
fn guarded(work: impl FnOnce() -> Result<(), c_int>, failed: c_int) -> c_int {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => 0,
        Ok(Err(number)) => number,
        Err(_) => failed,
    }
}

type Init = unsafe extern "C" fn(
    session: *mut c_void,
    method: *const Method,
    start: *const u8,
    free_start: *mut c_int,
    secret: *const u8,
    free_secret: *mut c_int,
    encrypts: c_int,
    is_key_file: c_int,
    state: *mut *mut State,
) -> c_int;
type GetLength =
    unsafe extern "C" fn(*mut c_void, c_uint, *const u8, usize, length: *mut c_uint, state: *mut *mut State) -> c_int;
type Crypt = unsafe extern "C" fn(*mut c_void, c_uint, *mut u8, usize, state: *mut *mut State, c_int) -> c_int;
type Free = unsafe extern "C" fn(*mut c_void, state: *mut *mut State) -> c_int;

struct State {
    keys: Keys,
    encrypts: bool,
}

// SAFETY: the pointers are to texts that stay, or null; nothing is ever written.
unsafe impl Sync for Method {}

impl Method {
    /// `SSH2_CRYPT_FLAG_REQUIRES_FULL_PACKET`
    const WHOLE_PACKETS: c_long = 4;

    const fn guarded(name: &'static CStr, block: c_int, start: c_int, secret: c_int, kind: Kind) -> Self {
        let (get_length, flags) = (Some(get_length as GetLength), Self::WHOLE_PACKETS);
        Self { get_length, tag: TAG as c_int, flags, ..Self::blocks(name, c"", block, start, secret, kind) }
    }

    const fn blocks(
        name: &'static CStr,
        pem_annotation: &'static CStr,
        block: c_int,
        start: c_int,
        secret: c_int,
        kind: Kind,
    ) -> Self {
        let (name, pem_annotation, algorithm) = (name.as_ptr(), pem_annotation.as_ptr(), std::ptr::null());
        let (get_length, tag, flags) = (None, 0, 0);
        Self { name, pem_annotation, block, start, secret, tag, flags, init, get_length, crypt, free, algorithm, kind }
    }

    fn name(&self) -> &CStr {
        // SAFETY: the constructors took it from a text that stays.
        unsafe { CStr::from_ptr(self.name) }
    }
}

static CHACHA20_POLY1305: Method = Method::guarded(c"chacha20-poly1305@openssh.com", 8, 0, 64, Kind::ChaCha20Poly1305);
static AES_256_GCM: Method = Method::guarded(c"aes256-gcm@openssh.com", 16, 12, 32, Kind::AesGcm(Cipher::aes_256_gcm));
static AES_128_GCM: Method = Method::guarded(c"aes128-gcm@openssh.com", 16, 12, 16, Kind::AesGcm(Cipher::aes_128_gcm));
static AES_256_CTR: Method = Method::blocks(c"aes256-ctr", c"", 16, 16, 32, Kind::AesBlocks(Cipher::aes_256_ctr));
static AES_192_CTR: Method = Method::blocks(c"aes192-ctr", c"", 16, 16, 24, Kind::AesBlocks(Cipher::aes_192_ctr));
static AES_128_CTR: Method = Method::blocks(c"aes128-ctr", c"", 16, 16, 16, Kind::AesBlocks(Cipher::aes_128_ctr));
static AES_256_CBC: Method =
    Method::blocks(c"aes256-cbc", c"DEK-Info: AES-256-CBC", 16, 16, 32, Kind::AesBlocks(Cipher::aes_256_cbc));
static AES_192_CBC: Method =
    Method::blocks(c"aes192-cbc", c"DEK-Info: AES-192-CBC", 16, 16, 24, Kind::AesBlocks(Cipher::aes_192_cbc));
static AES_128_CBC: Method =
    Method::blocks(c"aes128-cbc", c"DEK-Info: AES-128-CBC", 16, 16, 16, Kind::AesBlocks(Cipher::aes_128_cbc));

/// libssh2's list, in its order.
static METHODS: [Option<&Method>; 10] = [
    Some(&CHACHA20_POLY1305),
    Some(&AES_256_GCM),
    Some(&AES_128_GCM),
    Some(&AES_256_CTR),
    Some(&AES_192_CTR),
    Some(&AES_128_CTR),
    Some(&AES_256_CBC),
    Some(&AES_192_CBC),
    Some(&AES_128_CBC),
    None,
];

// For the linker of this library only: nothing that a program gets to see.
std::arch::global_asm!(".hidden ssh2_crypt_methods");

/// All ciphers, with a null behind them.
#[unsafe(no_mangle)]
extern "C" fn ssh2_crypt_methods() -> *const Option<&'static Method> {
    IS_USED.store(true, Ordering::Relaxed);
    METHODS.as_ptr()
}

/// Makes the state of one direction.
///
/// # Safety
/// As libssh2 calls it: `method` is one of ours, `start` and `secret` have the lengths that it says, and the others can
/// be written.
unsafe extern "C" fn init(
    _: *mut c_void,
    method: *const Method,
    start: *const u8,
    free_start: *mut c_int,
    secret: *const u8,
    free_secret: *mut c_int,
    encrypts: c_int,
    is_key_file: c_int,
    state: *mut *mut State,
) -> c_int {
    // SAFETY: see above.
    let method = unsafe { &*method };
    // Private-key files under an AEAD cipher are not supported. libssh2 gives no start bytes for them either.
    if is_key_file != 0 && !matches!(method.kind, Kind::AesBlocks(_)) {
        return libssh2_sys::LIBSSH2_ERROR_METHOD_NOT_SUPPORTED;
    }
    let bytes = |bytes: *const u8, length: c_int| match length.unsigned_abs() as usize {
        // A slice never begins at NULL, not even an empty one.
        0 => &[][..],
        // SAFETY: see above.
        length => unsafe { std::slice::from_raw_parts(bytes, length) },
    };
    let (start, secret) = (bytes(start, method.start), bytes(secret, method.secret));
    let encrypts = encrypts != 0;
    let failed = libssh2_sys::LIBSSH2_ERROR_ALLOC;
    let make = || {
        let keys = Keys::new(&method.kind, secret, start, encrypts).map_err(|_| failed)?;
        // SAFETY: see above. `free` takes the state back.
        unsafe {
            *state = Box::into_raw(Box::new(State { keys, encrypts }));
            (*free_start, *free_secret) = (1, 1);
        }
        Ok(())
    };
    guarded(make, failed)
}

/// Tells the length of the packet that begins with `bytes`.
///
/// # Safety
/// As libssh2 calls it: `state` was made by `init`; `bytes` has `length` bytes; `packet_length` can be written.
unsafe extern "C" fn get_length(
    _: *mut c_void,
    sequence: c_uint,
    bytes: *const u8,
    length: usize,
    packet_length: *mut c_uint,
    state: *mut *mut State,
) -> c_int {
    let failed = libssh2_sys::LIBSSH2_ERROR_DECRYPT;
    if length < LENGTH {
        return failed;
    }
    // SAFETY: see above; nobody else has the state.
    let tell = || unsafe {
        let found = (**state).keys.length(sequence, bytes.cast::<[u8; LENGTH]>().read()).ok_or(failed)?;
        packet_length.write(found);
        Ok(())
    };
    guarded(tell, failed)
}

/// Encrypts `length` bytes, of which the first 4 are the packet's length, and puts a tag behind them; or checks and
/// decrypts a packet of `length` bytes with 4 before and a tag behind it, and moves it to where the 4 were. Of ciphers
/// without a tag, whole blocks.
///
/// # Safety
/// As libssh2 calls it: `state` was made by `init`, and so many bytes can be read and written.
unsafe extern "C" fn crypt(
    _: *mut c_void,
    sequence: c_uint,
    bytes: *mut u8,
    length: usize,
    state: *mut *mut State,
    _: c_int,
) -> c_int {
    let failed = libssh2_sys::LIBSSH2_ERROR_DECRYPT;
    // SAFETY: see above; nobody else has the state, or the bytes.
    let work = || unsafe {
        let State { keys, encrypts } = &mut **state;
        if let Keys::AesBlocks(_) = keys {
            return keys.crypt_blocks(std::slice::from_raw_parts_mut(bytes, length)).map_err(|_| failed);
        }
        if *encrypts {
            let tag = keys.seal(sequence, std::slice::from_raw_parts_mut(bytes, length));
            bytes.add(length).cast::<[u8; TAG]>().write(tag.map_err(|_| libssh2_sys::LIBSSH2_ERROR_ENCRYPT)?);
            return Ok(());
        }
        let size = LENGTH + length;
        let tag = bytes.add(size).cast::<[u8; TAG]>().read();
        let packet = std::slice::from_raw_parts_mut(bytes, size);
        if !matches!(keys.open(sequence, packet, &tag), Ok(true)) {
            return Err(failed);
        }
        packet.copy_within(LENGTH.., 0);
        Ok(())
    };
    guarded(work, failed)
}

/// # Safety
/// As libssh2 calls it: `state` was made by `init`, or is null, and is not used after.
unsafe extern "C" fn free(_: *mut c_void, state: *mut *mut State) -> c_int {
    // SAFETY: see above.
    unsafe {
        if !state.is_null() && !(*state).is_null() {
            drop(Box::from_raw(std::mem::replace(&mut *state, std::ptr::null_mut())));
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(method: &Method, encrypts: bool) -> Keys {
        let secret: Vec<u8> = (0..64).collect();
        Keys::new(&method.kind, &secret, &[9; 16], encrypts).unwrap()
    }

    #[test]
    fn libssh2_has_these_ciphers() {
        let session = ssh2::Session::new().unwrap();
        session.method_pref(ssh2::MethodType::CryptCs, names()).unwrap();
        assert!(is_used());
        let methods = METHODS.iter().flatten();
        let ours: Vec<_> = methods.map(|method| method.name().to_str().unwrap()).collect();
        assert_eq!(session.supported_algs(ssh2::MethodType::CryptCs).unwrap(), ours);
    }

    #[test]
    fn makes_the_key_stream_of_the_standard() {
        // RFC 8439, A.1, test vectors 1 and 2: blocks 0 and 1 of the key 0.
        let Keys::ChaCha20Poly1305 { mut stream, .. } = keys(&CHACHA20_POLY1305, true) else { unreachable!() };
        let mut text = [0; 8];
        apply_key_stream(&mut stream, &[0; 32], 0, 0, &mut text).unwrap();
        assert_eq!(text, [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
        let mut text = [0; 8];
        apply_key_stream(&mut stream, &[0; 32], 0, 1, &mut text).unwrap();
        assert_eq!(text, [0x9f, 0x07, 0xe7, 0xbe, 0x55, 0x51, 0x38, 0x7a]);
    }

    #[test]
    fn a_nonce_counts_in_its_last_eight_bytes() {
        let mut nonce = [0xff; 12];
        assert_eq!(next(&mut nonce), [0xff; 12]);
        assert_eq!(next(&mut nonce), [255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(nonce, [255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn what_was_sealed_is_opened() {
        for method in [&CHACHA20_POLY1305, &AES_128_GCM, &AES_256_GCM] {
            let (mut ours, mut theirs) = (keys(method, true), keys(method, false));
            for (sequence, size) in [4, 5, 36, 68, 1000, 32_768].into_iter().enumerate() {
                let sequence = sequence as c_uint;
                let plain: Vec<u8> = (0..size).map(|n| n as u8).collect();
                let mut packet = plain.clone();
                let tag = ours.seal(sequence, &mut packet).unwrap();
                assert!(size == 4 || packet[4..] != plain[4..]);
                let first = [packet[0], packet[1], packet[2], packet[3]];
                assert_eq!(theirs.length(sequence, first).unwrap().to_be_bytes(), plain[..4]);
                assert!(theirs.open(sequence, &mut packet, &tag).unwrap());
                assert_eq!(packet[4..], plain[4..]);
            }
        }
    }

    #[test]
    fn a_packet_that_was_touched_is_refused() {
        for method in [&CHACHA20_POLY1305, &AES_128_GCM, &AES_256_GCM] {
            let mut packet = vec![1; 100];
            let tag = keys(method, true).seal(0, &mut packet).unwrap();
            for at in 0..packet.len() {
                let mut touched = packet.clone();
                touched[at] ^= 1;
                assert!(!keys(method, false).open(0, &mut touched, &tag).unwrap());
            }
            let mut another = keys(method, false);
            assert!(another.open(0, &mut packet.clone(), &tag).unwrap());
            assert!(!another.open(1, &mut packet, &tag).unwrap(), "another number in the sequence");
        }
    }

    #[test]
    fn blocks_are_those_of_the_standard() {
        // NIST SP 800-38A, F.5.1 and F.2.1: the first block in counter mode and in CBC mode.
        let key = hex("2b7e151628aed2a6abf7158809cf4f3c");
        let text = hex("6bc1bee22e409f96e93d7e117393172a");
        for (method, start, expected) in [
            (&AES_128_CTR, "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff", "874d6191b620e3261bef6864990db6ce"),
            (&AES_128_CBC, "000102030405060708090a0b0c0d0e0f", "7649abac8119b246cee98e9b12e9197d"),
        ] {
            let mut block = text.clone();
            Keys::new(&method.kind, &key, &hex(start), true).unwrap().crypt_blocks(&mut block).unwrap();
            assert_eq!(block, hex(expected));
            Keys::new(&method.kind, &key, &hex(start), false).unwrap().crypt_blocks(&mut block).unwrap();
            assert_eq!(block, text);
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }
}
