//! What the guest answers on the command channel.

use serde::{Deserialize, Serialize};

use crate::Bytes;
use crate::request::Limit;

/// A program has been executed: the first answer to `run`, before any output.
///
/// When its main process has ended, and much output has been sent that the client may not be reading, the guest says so
/// beside the frames: by an `exit-status` of the channel (RFC 4254, section 6.10) with the lower 32 bits of `id`. It
/// needs no room in the window. The rest of the output and the result still follow in the frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Started {
    /// The command's number in this sandbox, for [`Request::Signal`](crate::Request::Signal).
    pub id: u64,
    /// The process id of its main process, as it is in the sandbox.
    pub pid: i32,
}

/// The result of a request; in JSON an object whose field `result` names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Response {
    /// Who the guest is.
    Hello(Box<Hello>),
    /// A command ran and has ended.
    Ended(Ended),
    /// A command never ran.
    NeverRan(NeverRan),
    /// It was done.
    Done,
    /// When the sandbox expires.
    Expiry(Expiry),
    /// The commands that run.
    Commands {
        /// In the order in which they started.
        commands: Vec<CommandInfo>,
    },
    /// A detached command.
    Detached(Box<DetachedInfo>),
    /// All detached commands.
    DetachedList {
        /// In the order of their keys.
        commands: Vec<DetachedInfo>,
    },
    /// The output of a detached command was handed over.
    Followed(Followed),
    /// Digests of files.
    Digests {
        /// In the order in which the files were closed; then those that are open.
        digests: Vec<Digest>,
    },
    /// What the sandbox uses.
    Usage(Usage),
    /// The keys with which somebody else may log in.
    Keys {
        /// All that may log in now.
        keys: Vec<AuthorizedKey>,
    },
    /// The request could not be carried out.
    Failed(Failure),
    /// A result of a later protocol.
    #[serde(other)]
    Unknown,
}

/// Who the guest is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// Its protocol number.
    pub protocol: u32,
    /// Its version.
    pub version: String,
    /// Random, and another one after each start: with a new one, all commands of the old one are gone.
    pub instance: String,
    /// The user id of the guest, and of commands that ask for no other.
    pub uid: u32,
    /// The group id.
    pub gid: u32,
    /// The user's name, if the image has one.
    pub user: Option<Bytes>,
    /// The home directory that commands get.
    pub home: Bytes,
    /// The working directory of commands.
    pub cwd: Bytes,
    /// The shell for people, if the image has any.
    pub shell: Option<Bytes>,
    /// A directory for temporary files, if one can be written.
    pub tmp: Option<Bytes>,
    /// Which promises hold here.
    pub promises: Promises,
    /// Milliseconds since the guest started.
    pub uptime_ms: u64,
    /// The longest request in bytes.
    pub max_request: u64,
}

/// What the guest promises depends on the kernel and the runtime. `false` is a promise that does not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Promises {
    /// The guest is process 1 of its PID namespace, and the kernel lets nothing inside kill or stop that.
    pub first_process: bool,
    /// The guest's program can't be read, so a process of it that brings in a key can't be taken over before it
    /// protects itself.
    pub execute_only: bool,
    /// Nothing with the same user id can read or trace the guest.
    pub not_dumpable: bool,
    /// Commands have `no_new_privs` and can't change the limits, priority or processors of another process.
    pub fenced: bool,
    /// Descendants are found by the kernel's list of children.
    pub descent: bool,
    /// The guest's own resource limits are those that it started with.
    pub untampered: bool,
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal, named without `SIG`.
    Signal(String),
    /// It is not known: what kept the command was killed in the sandbox.
    #[default]
    Lost,
}

/// Why a command ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// By itself, or by a signal of somebody.
    #[default]
    Itself,
    /// Its time limit.
    TimeLimit,
    /// The client cancelled it, or it was killed by request.
    Cancelled,
}

/// How a command ended. Its output up to here is complete: what was in the pipes when its main process was reaped has
/// been sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ended {
    /// How its main process ended.
    pub status: Status,
    /// Why.
    pub cause: Cause,
    /// Whether it is proved that no descendant is left. Says nothing if the command ended by itself: then descendants
    /// may go on.
    pub proved: bool,
    /// Descendants that could not be ended.
    pub left: u32,
    /// Whether something in the sandbox killed what kept the command, or changed the guest's limits.
    pub tampered: bool,
    /// Bytes of standard output that were sent in frames, so that the client can check that it has them all.
    pub stdout: u64,
    /// Bytes of standard error that were sent in frames.
    pub stderr: u64,
    /// Milliseconds from the start to the end.
    pub run_time_ms: u64,
}

/// What failed before a program ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The program: not there, or not executable.
    #[default]
    Program,
    /// The program is there; the interpreter of its first line or its dynamic linker is not.
    Interpreter,
    /// The working directory.
    Directory,
    /// Arguments and environment are too long.
    Arguments,
    /// The user.
    User,
    /// A resource limit.
    Limits,
    /// What the system has no more of: processes, memory, descriptors.
    Resources,
    /// The terminal.
    Terminal,
    /// A later guest's stage.
    #[serde(other)]
    Other,
}

/// Why a command never ran. Nothing of it was executed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NeverRan {
    /// What failed.
    pub stage: Stage,
    /// The error number of Linux.
    pub errno: i32,
    /// What it was about, such as the program's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<Bytes>,
    /// One sentence for people.
    pub message: String,
}

/// When the sandbox expires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expiry {
    /// Milliseconds from now. Absent: never.
    pub remaining_ms: Option<u64>,
    /// Milliseconds from now that no renewal can exceed. Absent: no such limit.
    pub hard_remaining_ms: Option<u64>,
    /// Whether a renewal was cut down to the hard limit.
    pub limited: bool,
}

/// A command that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CommandInfo {
    /// Its number in this sandbox.
    pub id: u64,
    /// The process id of its main process.
    pub pid: i32,
    /// The program and its arguments, cut after some kilobytes.
    pub argv: Vec<Bytes>,
    /// Milliseconds since it started.
    pub running_ms: u64,
    /// The fingerprint of the client's key: `SHA256:...`.
    pub client: String,
    /// Its key if it is detached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether its main process has ended, and descendants of it still run.
    pub background: bool,
}

/// A stream of a detached command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamInfo {
    /// Bytes that are kept and can be read.
    pub kept: u64,
    /// Bytes that came later and were dropped.
    pub dropped: u64,
    /// The error number of Linux if bytes were dropped because they could not be stored, such as for a full disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
}

/// A detached command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DetachedInfo {
    /// Its key.
    pub key: String,
    /// Its number in this sandbox.
    pub id: u64,
    /// The process id of its main process.
    pub pid: i32,
    /// The program and its arguments, cut after some kilobytes.
    pub argv: Vec<Bytes>,
    /// Whether this request started it. Otherwise the key had it already.
    pub started: bool,
    /// How it ended. Absent: it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// Its standard output.
    pub stdout: StreamInfo,
    /// Its standard error.
    pub stderr: StreamInfo,
    /// Milliseconds since it started.
    pub age_ms: u64,
}

/// Output of a detached command was handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Followed {
    /// Where in the standard output to go on: the place after the last byte that was sent.
    pub stdout: u64,
    /// Where in the standard error to go on.
    pub stderr: u64,
    /// How the command is.
    pub command: DetachedInfo,
}

/// The digest of a file that was read or written in sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Digest {
    /// The path as it was given to SFTP's `open`.
    pub path: Bytes,
    /// Where in the file the first of them was.
    pub offset: u64,
    /// Bytes that passed.
    pub length: u64,
    /// Their SHA-256 in hexadecimal digits. Absent if they did not pass in sequence.
    pub sha256: Option<String>,
}

/// A key that somebody else than the clients may log in with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizedKey {
    /// As in a line of OpenSSH's `authorized_keys`, with its comment.
    pub key: String,
    /// Milliseconds until it may log in no longer. Absent: as long as the sandbox lives.
    pub remaining_ms: Option<u64>,
}

/// What the sandbox uses, as far as the kernel tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Bytes of memory of the container.
    pub memory: Option<u64>,
    /// Bytes of memory that it may use.
    pub memory_limit: Option<u64>,
    /// Bytes of memory at most so far.
    pub memory_peak: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Microseconds of processor time.
    pub cpu_us: Option<u64>,
    /// Microseconds for which it was kept from the processors because it had used up its share.
    pub throttled_us: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Processes and threads that it may have.
    pub processes_limit: Option<u64>,
    /// Bytes that are in use on the file system of the home directory, by whomever.
    pub disk: Option<u64>,
    /// Bytes of that file system.
    pub disk_limit: Option<u64>,
    /// Bytes that have come through its network interfaces but loopback.
    pub received: Option<u64>,
    /// Bytes that have left through them.
    pub sent: Option<u64>,
    /// Bytes of memory of the guest itself.
    pub guest_memory: Option<u64>,
    /// Commands that run.
    pub commands: u64,
    /// Connections of clients.
    pub connections: u64,
    /// The guest's own resource limits that are not what they were at its start.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changed_limits: Vec<Limit>,
}

/// Why a request could not be carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The guest does not know the request.
    Unsupported,
    /// The request makes no sense.
    Invalid,
    /// What it names is not there.
    NotFound,
    /// The key belongs to another command, or the command runs.
    Conflict,
    /// The guest has too much of it already.
    Limit,
    /// The client cancelled it.
    Cancelled,
    /// The time that the request gave was over.
    TimedOut,
    /// Something else in the sandbox.
    #[default]
    #[serde(other)]
    Other,
}

/// Why a request could not be carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// Of which kind.
    pub kind: FailureKind,
    /// One sentence for people.
    pub message: String,
    /// The error number of Linux, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(response: &Response) -> String {
        serde_json::to_string(response).unwrap()
    }

    #[test]
    fn results_have_the_documented_form() {
        assert_eq!(text(&Response::Done), "{\"result\":\"done\"}");
        let ended: Response = serde_json::from_str("{\"result\":\"ended\",\"status\":{\"code\":3},\"new\":1}").unwrap();
        assert_eq!(ended, Response::Ended(Ended { status: Status::Code(3), ..Ended::default() }));
        let ended: Response = serde_json::from_str("{\"result\":\"ended\",\"status\":{\"signal\":\"KILL\"}}").unwrap();
        assert!(matches!(ended, Response::Ended(Ended { status: Status::Signal(name), .. }) if name == "KILL"));
        let lost: Response = serde_json::from_str("{\"result\":\"ended\"}").unwrap();
        assert!(matches!(lost, Response::Ended(Ended { status: Status::Lost, .. })));
    }

    #[test]
    fn later_words_are_understood_as_other() {
        assert_eq!(serde_json::from_str::<Response>("{\"result\":\"new\",\"a\":1}").unwrap(), Response::Unknown);
        assert_eq!(serde_json::from_str::<Stage>("\"new\"").unwrap(), Stage::Other);
        assert_eq!(serde_json::from_str::<FailureKind>("\"new\"").unwrap(), FailureKind::Other);
    }

    #[test]
    fn results_round_trip() {
        let all = [
            Response::Hello(Box::default()),
            Response::NeverRan(NeverRan { path: Some(vec![0xff].into()), ..NeverRan::default() }),
            Response::Commands { commands: vec![CommandInfo::default()] },
            Response::Detached(Box::new(DetachedInfo { ended: Some(Ended::default()), ..DetachedInfo::default() })),
            Response::Followed(Followed::default()),
            Response::Digests { digests: vec![Digest::default()] },
            Response::Usage(Usage::default()),
            Response::Keys { keys: vec![AuthorizedKey::default()] },
            Response::Expiry(Expiry { remaining_ms: Some(1), hard_remaining_ms: None, limited: true }),
            Response::Failed(Failure { kind: FailureKind::Conflict, message: "x".to_owned(), errno: Some(2) }),
        ];
        for response in all {
            assert_eq!(serde_json::from_str::<Response>(&text(&response)).unwrap(), response);
        }
    }
}
