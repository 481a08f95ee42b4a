//! Whose the commands are that run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sandbox_protocol::{Bytes, CommandInfo};

use crate::expiry::{milliseconds, now};
use crate::process::{Spawner, State};

#[derive(Debug)]
struct Owner {
    client: Arc<str>,
    key: Option<String>,
    began: Duration,
    has_terminal: bool,
}

/// Who started which command. What has ended is forgotten from time to time.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    of: Mutex<(HashMap<u64, Owner>, usize)>,
}

/// Entries below which nothing is tidied.
const FEW: usize = 256;

impl Owners {
    pub(crate) fn add(&self, id: u64, client: &Arc<str>, key: Option<&str>) {
        self.insert(id, client, key, false);
    }

    pub(crate) fn add_with_terminal(&self, id: u64, client: &Arc<str>) {
        self.insert(id, client, None, true);
    }

    fn insert(&self, id: u64, client: &Arc<str>, key: Option<&str>, has_terminal: bool) {
        let owner = Owner { client: Arc::clone(client), key: key.map(str::to_owned), began: now(), has_terminal };
        self.of.lock().unwrap_or_else(PoisonError::into_inner).0.insert(id, owner);
    }

    /// Forgets the commands that have ended, if there are many entries.
    pub(crate) fn tidy(&self, spawner: &Spawner) {
        let known: Vec<u64> = {
            let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
            if of.0.len() <= FEW.max(2 * of.1) {
                return;
            }
            of.0.keys().copied().collect()
        };
        // Made after the other list: what is not in it has ended. What has started meanwhile is in neither, and stays.
        let alive: HashSet<u64> = spawner.commands().iter().map(|command| command.id).collect();
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        for id in known.iter().filter(|id| !alive.contains(id)) {
            of.0.remove(id);
        }
        of.1 = of.0.len();
    }

    /// The commands of which something is alive.
    pub(crate) fn list(&self, spawner: &Spawner) -> Vec<CommandInfo> {
        let commands = spawner.commands();
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let info = |command: crate::process::Command| {
            let owner = of.0.get(&command.id);
            CommandInfo {
                id: command.id,
                pid: command.pid,
                argv: command.argv.iter().cloned().map(Bytes).collect(),
                running_ms: owner.map_or(0, |owner| milliseconds(now().saturating_sub(owner.began))),
                client: owner.map(|owner| owner.client.to_string()).unwrap_or_default(),
                key: owner.and_then(|owner| owner.key.clone()),
                terminal: owner.is_some_and(|owner| owner.has_terminal),
                background: command.state == State::Background,
            }
        };
        commands.into_iter().map(info).collect()
    }
}
