//! The transport with clients of other make, over loopback.
#![allow(missing_docs, clippy::expect_used, clippy::unwrap_used, reason = "a test program")]

mod keys;
mod libssh2;
mod openssh;
mod others;
mod pattern;
mod python;
mod server;
