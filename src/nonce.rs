//! Random names that nobody else has.

/// 16 random hexadecimal digits.
pub(crate) fn hex() -> String {
    let mut bytes = [0; 8];
    if openssl::rand::rand_bytes(&mut bytes).is_err() {
        // The system has no randomness to give; what is left is unique on this machine, which is all that a name must be.
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        bytes = (now.as_nanos() as u64 ^ u64::from(std::process::id())).to_be_bytes();
    }
    crate::hex::encode(&bytes)
}
