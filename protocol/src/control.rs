//! What `sandbox-guest control` says to the guest over its abstract socket. One line of JSON each way.

use serde::{Deserialize, Serialize};

/// The name of the guest's abstract socket, without the leading NUL. Abstract names belong to the network, which the
/// containers of a Pod share, so the PID namespace (its inode number) and the port tell guests apart.
pub fn control_socket(pid_namespace: u64, port: u16) -> String {
    format!("sandbox-guest/{pid_namespace}/{port}")
}

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum ControlRequest {
    /// Lets a public key log in.
    Authorize {
        /// As in a line of OpenSSH's `authorized_keys`, without options.
        key: String,
    },
    /// Lets a public key log in no longer. Connections that it has stay, until [`ControlRequest::Disconnect`].
    Revoke {
        /// As in [`ControlRequest::Authorize`].
        key: String,
    },
    /// Closes SSH connections, whose commands are killed as if their clients had gone. Those of detached commands are
    /// not.
    Disconnect {
        /// Whose: as in [`ControlRequest::Authorize`]. Absent: everybody's, those that have not logged in yet included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// Asks who the guest is.
    Identify,
    /// A later guest's request.
    #[serde(other)]
    Unknown,
}

/// The answer to a control request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlAnswer {
    /// It was done.
    Ok(Authorized),
    /// It was refused, and why.
    Error(String),
}

/// Who the guest is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Authorized {
    /// Its host key as a line of `known_hosts` has it: `ssh-ed25519 AAAA...`.
    pub host_key: String,
    /// Its protocol number.
    pub protocol: u32,
    /// Its version.
    pub version: String,
    /// Its user's name.
    pub user: String,
    /// Random, and another one after each start.
    pub instance: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_documented_form() {
        let request: ControlRequest =
            serde_json::from_str("{\"op\":\"authorize\",\"key\":\"ssh-ed25519 AAAA\"}").unwrap();
        assert!(matches!(request, ControlRequest::Authorize { key } if key == "ssh-ed25519 AAAA"));
        assert!(matches!(serde_json::from_str("{\"op\":\"new\",\"x\":1}").unwrap(), ControlRequest::Unknown));
        let all = ControlRequest::Disconnect { key: None };
        assert_eq!(serde_json::to_string(&all).unwrap(), "{\"op\":\"disconnect\"}");
        let answer = ControlAnswer::Error("no".to_owned());
        assert_eq!(serde_json::to_string(&answer).unwrap(), "{\"error\":\"no\"}");
        let answer: ControlAnswer = serde_json::from_str("{\"ok\":{\"host_key\":\"k\",\"more\":1}}").unwrap();
        assert!(matches!(answer, ControlAnswer::Ok(who) if who.host_key == "k" && who.protocol == 0));
    }
}
