//! The process that forks keepers.

/// The zygote's whole life: `sandbox-guest keeper`. Its standard input is the socket to the guest.
pub fn main() -> i32 {
    1
}
