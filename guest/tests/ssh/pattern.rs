//! Bytes that can be made and checked at any place of a stream.

use ring::digest::{Context, SHA256};

/// So long, and prime, that no packet or buffer has a part or multiple of it.
const PERIOD: usize = 65_521;

fn period() -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| {
        let mut state = 1u32;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 24) as u8
        };
        (0..PERIOD).map(|_| next()).collect()
    })
}

/// The bytes of the stream from `at` on.
pub(crate) fn fill(at: u64, room: &mut [u8]) {
    let mut at = (at % PERIOD as u64) as usize;
    let mut filled = 0;
    while filled < room.len() {
        let part = &period()[at..];
        let length = part.len().min(room.len() - filled);
        room[filled..filled + length].copy_from_slice(&part[..length]);
        filled += length;
        at = 0;
    }
}

/// The digest of the stream's first bytes.
pub(crate) fn digest(length: u64) -> String {
    let mut hash = Context::new(&SHA256);
    let mut block = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let part = block.len().min((length - at) as usize);
        fill(at, &mut block[..part]);
        hash.update(&block[..part]);
        at += part as u64;
    }
    hex(hash.finish().as_ref())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
