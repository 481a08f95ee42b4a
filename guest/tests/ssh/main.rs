//! The transport with clients of other make, over loopback.

mod keys;
mod libssh2;
mod openssh;
mod pattern;
mod server;
