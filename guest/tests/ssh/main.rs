//! The transport with clients of other make, over loopback.

mod keys;
mod openssh;
mod pattern;
mod server;
