//! Pseudo-terminals.

/// The pseudo-terminal of a command, as SSH asks for it (RFC 4254, sections 6.2 and 8).
#[derive(Debug, Clone, Default)]
pub struct Terminal {
    /// The kind of terminal: becomes `TERM`, unless the environment has one. Empty: none.
    pub term: Vec<u8>,
    /// Width in characters.
    pub columns: u16,
    /// Height in characters.
    pub rows: u16,
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// The encoded terminal modes; empty for the kernel's.
    pub modes: Vec<u8>,
}
