//! Small texts: bytes as hexadecimal digits, random names, and what others say in errors.

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

/// What somebody else has said, in a form and a length that can be shown on a terminal.
pub(crate) fn shown(said: &str) -> String {
    const LONGEST: usize = 500;
    let mut shown: String =
        said.chars().take(LONGEST).map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    if said.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// What a sandbox's error number means.
pub(crate) fn errno(number: i32) -> String {
    std::io::Error::from_raw_os_error(number).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_shown_without_control_characters_and_cut() {
        assert_eq!(shown("a \u{1b}[2Jb\r\n\u{9b}"), "a \u{fffd}[2Jb\u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(shown(&"ä".repeat(500)), "ä".repeat(500));
        assert_eq!(shown(&"ä".repeat(501)), "ä".repeat(500) + "…");
    }

    #[test]
    fn every_byte_has_two_digits_and_no_nonce_comes_twice() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
        assert_eq!(nonce().len(), 16);
        assert_ne!(nonce(), nonce());
    }
}
