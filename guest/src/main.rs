//! The program `sandbox-guest`.

fn main() {}
