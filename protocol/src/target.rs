//! What a client connects to in a sandbox.

use serde::{Deserialize, Serialize};

use crate::Bytes;

/// The type of an SSH channel that is a connection to something in the sandbox. What follows in CHANNEL_OPEN is one
/// string, the JSON of a [`Target`]. The channel is confirmed at once. The first byte that the guest sends is 0 if it
/// has connected, else the error number of Linux, after which the channel ends; all other bytes are the connection's.
/// An `exit-status` before the end is the error number by which the connection broke.
pub const CONNECT_CHANNEL: &str = "connect@sandbox";

/// Something in the sandbox that takes connections; in JSON `{"port": 8080}` or `{"path": "/run/server.sock"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A TCP port of the sandbox's own loopback addresses, of which IPv4's is tried first.
    Port(u16),
    /// A Unix socket; a path is relative to the guest's working directory.
    Path(Bytes),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_have_the_documented_form() {
        for (target, text) in [
            (Target::Port(8080), "{\"port\":8080}"),
            (Target::Path("/run/server.sock".into()), "{\"path\":\"/run/server.sock\"}"),
        ] {
            assert_eq!(serde_json::to_string(&target).unwrap(), text);
            assert_eq!(serde_json::from_str::<Target>(text).unwrap(), target);
        }
        for wrong in ["{}", "{\"port\":65536}", "{\"port\":1,\"path\":\"/\"}", "\"port\"", "{\"host\":\"a\"}"] {
            assert!(serde_json::from_str::<Target>(wrong).is_err(), "{wrong}");
        }
    }
}
