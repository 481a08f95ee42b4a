//! Finding the descendants of a process.
//!
//! The numbers of direct children are safe to kill: until they are waited for, no other process can get them. Whatever
//! is further down becomes a direct child when its parent has died, because a keeper is a child subreaper. That alone
//! would end every command but one that starts processes faster than they die level by level; so those further down are
//! killed too, as long as what was read about them is so new that their numbers can't have been given to others.

use crate::sys;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

/// How old a number may be. For it to be another's, all other numbers must have been used in between, of which there
/// are 32,768 or more.
const FRESH: Duration = Duration::from_millis(50);

/// The direct children of this process, which has one thread.
#[derive(Debug)]
pub(super) struct Children {
    /// Kept open, so that it can be read also when the system has no more descriptors.
    file: Option<File>,
    /// Whether the kernel has no such file (it is optional): then all processes are looked through.
    is_missing: bool,
    buffer: Vec<u8>,
}

impl Children {
    pub(super) fn new() -> Self {
        Self { file: None, is_missing: false, buffer: Vec::new() }
    }

    /// Opens what [`Children::list`] needs.
    pub(super) fn prepare(&mut self) {
        if self.file.is_some() || self.is_missing {
            return;
        }
        match File::open("/proc/thread-self/children") {
            Ok(file) => self.file = Some(file),
            Err(error) => self.is_missing = error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// The children, those that have ended and were not waited for included.
    pub(super) fn list(&mut self) -> io::Result<Vec<i32>> {
        self.prepare();
        let Some(file) = &self.file else { return with_parent(std::process::id().cast_signed()) };
        self.buffer.clear();
        let mut chunk = [0; 4096];
        loop {
            let length = file.read_at(&mut chunk, self.buffer.len() as u64)?;
            if length == 0 {
                return Ok(numbers(&self.buffer));
            }
            self.buffer.extend_from_slice(&chunk[..length]);
        }
    }
}

fn numbers(text: &[u8]) -> Vec<i32> {
    text.split(|byte| *byte == b' ').filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).collect()
}

/// The direct children of a process, of all its threads.
pub(super) fn children_of(pid: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        match std::fs::read(thread?.path().join("children")) {
            Ok(text) => children.extend(numbers(&text)),
            // The thread has ended, or the kernel has no such file.
            Err(_) if std::path::Path::new("/proc/thread-self/children").exists() => {}
            Err(_) => return with_parent(pid),
        }
    }
    Ok(children)
}

/// Sends a signal to these children of this process and to all descendants of theirs that can be found.
pub(super) fn signal_tree(children: &[i32], signal: i32) {
    for child in children {
        let _ = sys::kill(*child, signal);
    }
    let mut known: HashSet<i32> = children.iter().copied().collect();
    let mut parents = children.to_vec();
    while let Some(parent) = parents.pop() {
        let read_at = Instant::now();
        for pid in children_of(parent).unwrap_or_default() {
            if read_at.elapsed() > FRESH {
                break;
            }
            if known.insert(pid) {
                let _ = sys::kill(pid, signal);
                parents.push(pid);
            }
        }
    }
}

/// All processes with this parent, by looking through all of them.
fn with_parent(parent: i32) -> io::Result<Vec<i32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if state_and_parent(pid).is_some_and(|(_, its)| its == parent) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// The state (as `R`, `S`, `T`, `Z`) of a process and its parent; None if there is no such process.
pub(super) fn state_and_parent(pid: i32) -> Option<(u8, i32)> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may have spaces and parentheses itself.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let mut fields = text.get(end + 2..)?.split(|byte| *byte == b' ');
    let state = *fields.next()?.first()?;
    let parent = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    Some((state, parent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn children_are_found_both_ways() {
        // The children of another process: those of this one are other tests' too.
        let mut shell = Command::new("sh")
            .args(["-c", "sleep 60 & one=$!; sleep 60 & echo ready; read line; kill $one $!"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        io::BufRead::read_line(&mut io::BufReader::new(shell.stdout.take().unwrap()), &mut line).unwrap();
        let pid = shell.id().cast_signed();
        let mut children = children_of(pid).unwrap();
        children.sort_unstable();
        assert_eq!(children.len(), 2);
        let mut scanned = with_parent(pid).unwrap();
        scanned.sort_unstable();
        assert_eq!(children, scanned);
        assert_eq!(state_and_parent(children[0]).unwrap().1, pid);
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert_eq!(state_and_parent(i32::MAX), None);
    }
}
