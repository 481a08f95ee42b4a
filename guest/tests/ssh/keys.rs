//! Keys of users, made by `ssh-keygen`, and the options of OpenSSH's client that use them and nothing else.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use sandbox_guest::ssh::PublicKey;

use crate::server::Server;

/// A directory with a user's key in it, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Keys {
    directory: PathBuf,
}

impl Keys {
    pub(crate) fn new(kind: &str, options: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("sandbox-guest-ssh-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let keys = Self { directory: std::env::temp_dir().join(name) };
        fs::create_dir(&keys.directory).expect("a directory");
        let status = Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-t", kind])
            .args(options)
            .arg("-f")
            .arg(keys.private())
            .status()
            .expect("ssh-keygen runs");
        assert!(status.success());
        keys
    }

    pub(crate) fn private(&self) -> PathBuf {
        self.directory.join("key")
    }

    pub(crate) fn public_line(&self) -> String {
        fs::read_to_string(self.directory.join("key.pub")).expect("a public key")
    }

    pub(crate) fn public(&self) -> PublicKey {
        PublicKey::from_line(&self.public_line()).expect("a key that is supported")
    }

    /// The options of `ssh` up to the host.
    pub(crate) fn options(&self, server: &Server) -> Vec<String> {
        let known = self.directory.join("known_hosts");
        fs::write(&known, format!("[127.0.0.1]:{} {}\n", server.port, server.host_key)).expect("a file");
        let options = [
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
            "BatchMode=yes",
            "GlobalKnownHostsFile=none",
            &format!("UserKnownHostsFile={}", known.display()),
            &format!("IdentityFile={}", self.private().display()),
        ]
        .map(str::to_owned);
        let start = ["-F", "none", "-p", &server.port.to_string()].map(str::to_owned);
        start.into_iter().chain(options.into_iter().flat_map(|option| ["-o".to_owned(), option])).collect()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
