//! Small texts: bytes as hexadecimal digits, and random names.

/// Two digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 16 random hexadecimal digits, for names that nobody else has.
pub(crate) fn nonce() -> String {
    let mut bytes = [0; 8];
    if openssl::rand::rand_bytes(&mut bytes).is_err() {
        // The system has no randomness. Time and process id are unique on this machine, which is enough for a name.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = (now.as_nanos() as u64 ^ u64::from(std::process::id())).to_be_bytes();
    }
    hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_two_digits_and_no_nonce_comes_twice() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
        assert_eq!(nonce().len(), 16);
        assert_ne!(nonce(), nonce());
    }
}
