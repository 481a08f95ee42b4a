//! Whom commands run as and files are reached as, where the guest is root and they are not to be.

use rustix::process::Gid;

use crate::environment::Account;
use crate::process::User;
use crate::sys;

/// A user, with its line in `/etc/passwd` if there is one.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) user: User,
    pub(crate) account: Option<Account>,
}

impl Identity {
    /// A user that `/etc/passwd` knows, by name or number.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Account::by_name(name.as_bytes()).map(|account| {
            let groups = account.groups();
            Self { user: User { uid: account.uid, gid: account.gid, groups }, account: Some(account) }
        })
    }

    /// As an option says it: what `/etc/passwd` knows, or the numbers of a user and a group as `1000:1000`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let identity = match numbers {
            Some((uid, gid)) => Self { user: User { uid, gid, groups: vec![gid] }, account: Account::by_id(uid) },
            None => Self::by_name(text)
                .ok_or_else(|| format!("/etc/passwd has no user '{text}'; any other is told as UID:GID"))?,
        };
        if identity.user.uid == 0 {
            return Err(format!("commands can't run as '{text}', who is root as the guest is"));
        }
        if !rustix::process::geteuid().is_root() {
            return Err("commands run as another user only where the sandbox runs as root".to_owned());
        }
        Ok(identity)
    }

    /// Lets this thread, and those that it starts, reach files with this user's rights and no others. What else root
    /// may do stays.
    pub(crate) fn reach_files(&self) -> Result<(), String> {
        let cannot = |e: std::io::Error| format!("files can't be reached as another user: {e}");
        let groups: Vec<_> = self.user.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        rustix::thread::set_thread_groups(&groups).map_err(|e| cannot(e.into()))?;
        sys::reach_files_as(self.user.uid, self.user.gid)
            .map_err(|_| "files can't be reached as another user here, as under gVisor".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_those_that_are_none() {
        for wrong in ["", "no-such-user", "1:", ":1", "-1:1", "1:2:3", "root", "0", "0:0", "0:5"] {
            assert!(Identity::parse(wrong).is_err(), "{wrong}");
        }
        if rustix::process::geteuid().is_root() {
            let identity = Identity::parse("4000000:4000001").unwrap();
            assert_eq!(identity.user, User { uid: 4_000_000, gid: 4_000_001, groups: vec![4_000_001] });
            assert!(identity.account.is_none());
        }
    }
}
