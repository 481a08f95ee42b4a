//! What a client asks of the guest on the command channel.

use serde::{Deserialize, Serialize};

use crate::{Bytes, Target};

/// A request; in JSON an object whose field `op` names it, such as `{"op": "run", "argv": ["true"]}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Who the guest is and what it can promise: [`Response::Hello`](crate::Response::Hello).
    Hello,
    /// Runs a command: `Ended`, `NeverRan` or `Failed`.
    Run(Run),
    /// Moves the expiry: `Expiry`.
    Renew(Renew),
    /// Gives a sandbox that was made in advance what its user wants of it: `Expiry`. Doing it twice does no harm.
    Claim(Claim),
    /// When the sandbox expires: `Expiry`.
    Expiry,
    /// The commands that run: `Commands`.
    List,
    /// Sends a signal to a command of any client: `Done`.
    Signal(SignalCommand),
    /// Starts a command that outlives the connection, once per key: `Detached`.
    DetachedStart(DetachedStart),
    /// How a detached command is: `Detached`.
    DetachedStatus(DetachedKey),
    /// Waits for the end of a detached command: `Detached`.
    DetachedWait(DetachedWait),
    /// What a detached command has written: frames of the stream, then `Followed`.
    DetachedRead(DetachedRead),
    /// What a detached command has written and writes until it has ended: frames of both streams, then `Followed`.
    DetachedFollow(DetachedFollow),
    /// Sends a signal to a detached command: `Done`. One that has ended needs none.
    DetachedSignal(DetachedSignal),
    /// Kills a detached command with its descendants and waits until they are gone: `Detached`.
    DetachedKill(DetachedKey),
    /// Forgets a detached command that has ended, its output too: `Done`.
    DetachedRemove(DetachedKey),
    /// All detached commands: `DetachedList`.
    DetachedList,
    /// The digests of the files that this connection opened by SFTP with [`SFTP_OPEN_DIGEST`](crate::SFTP_OPEN_DIGEST)
    /// and has closed since it last asked, and then of those that are open, of what has passed so far: `Digests`.
    Digests,
    /// What the sandbox uses: `Usage`.
    Usage,
    /// Lets somebody else's key log in, or changes until when it may: `Done`. Only clients with a key of their own may
    /// ask for it.
    AuthorizeKey(AuthorizeKey),
    /// The keys that were authorized so: `Keys`.
    AuthorizedKeys,
    /// Lets such a key log in no longer and closes its connections: `Done`, or `Failed` with `NotFound`.
    RevokeKey(RevokeKey),
    /// Waits until something takes connections: `Done`, or `Failed` once the time is over.
    WaitForPort(WaitForPort),
    /// A request of a later protocol: the answer is `Failed`.
    #[serde(other)]
    Unknown,
}

/// A key for somebody else than the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuthorizeKey {
    /// As in a line of OpenSSH's `authorized_keys`, without options.
    pub key: String,
    /// Milliseconds from now after which it may log in no longer. Absent: as long as the sandbox lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
}

/// A key that may log in no longer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RevokeKey {
    /// As in [`AuthorizeKey`]; the comment does not matter.
    pub key: String,
}

/// A command to run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// The program and its arguments, as data. A name without a slash is looked up in the `PATH` of the command's
    /// environment.
    pub argv: Vec<Bytes>,
    /// A line for the image's `/bin/sh`, of any length. `argv` are its `$0`, `$1` and so on then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Bytes>,
    /// Runs a tool of the guest itself, whose words `argv` are: nothing of the image is needed.
    #[serde(skip_serializing_if = "is_false")]
    pub guest_tool: bool,
    /// Variables that are set beside those of the guest's environment, or instead of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(Bytes, Bytes)>,
    /// Leaves out the guest's environment.
    #[serde(skip_serializing_if = "is_false")]
    pub clear_env: bool,
    /// The directory to run in, relative to the guest's working directory, which it is if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<Bytes>,
    /// The user to run as, which takes a guest that is root. Absent: the guest's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The file mode creation mask. Absent: the guest's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub umask: Option<u32>,
    /// Resource limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// Where the standard input comes from.
    #[serde(skip_serializing_if = "is_default")]
    pub stdin: Input,
    /// Where the standard output goes.
    #[serde(skip_serializing_if = "is_default")]
    pub stdout: Output,
    /// Where the standard error goes.
    #[serde(skip_serializing_if = "is_default")]
    pub stderr: Output,
    /// Runs the command on a terminal, whose output comes as standard output. `stdin`, `stdout` and `stderr` are not
    /// looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal: Option<Terminal>,
    /// Milliseconds after which the command is killed with its descendants, by a clock in the sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u64>,
    /// Nobody waits for [`Started`](crate::Started): if the command ends within milliseconds, it comes together with
    /// the result, which saves both sides wake-ups. A command that runs on is announced, and its output read, some
    /// milliseconds late.
    #[serde(skip_serializing_if = "is_false")]
    pub announce_late: bool,
}

/// A user of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum User {
    /// A name in `/etc/passwd`, with the groups of `/etc/group`.
    Name(String),
    /// Numbers, with no other groups than these.
    Ids {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// Further groups.
        #[serde(default)]
        groups: Vec<u32>,
    },
}

/// A limit as of setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The resource in small letters, as in `/etc/security/limits.conf` of Linux-PAM: `nofile`, `nproc`, `core`, `cpu`,
    /// `fsize`, `as`, ...
    pub resource: String,
    /// The limit that holds; absent: none.
    #[serde(default)]
    pub soft: Option<u64>,
    /// What the command may raise it to. Absent: the soft limit.
    #[serde(default)]
    pub hard: Option<u64>,
}

/// Where a standard input comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// It is empty.
    #[default]
    Empty,
    /// Frames of [`FrameKind::Stdin`](crate::FrameKind::Stdin), up to one of
    /// [`FrameKind::StdinEof`](crate::FrameKind::StdinEof).
    Frames,
}

/// Where an output stream goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// To the client, in frames.
    #[default]
    Frames,
    /// Nowhere.
    Discarded,
    /// To where the standard output goes. Only for the standard error.
    Merged,
}

/// A terminal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terminal {
    /// Its kind, for `TERM`.
    pub kind: String,
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

impl Default for Terminal {
    fn default() -> Self {
        Self { kind: "xterm-256color".to_owned(), columns: 80, rows: 24 }
    }
}

/// Moves the expiry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Renew {
    /// Milliseconds from now to live. Absent: as long as the hard limit allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
    /// Lets this bring the expiry nearer. Otherwise an expiry that is later already stays.
    #[serde(skip_serializing_if = "is_false")]
    pub shorten: bool,
}

/// Gives a sandbox that was made in advance what its user wants of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claim {
    /// Variables for all commands that start from now on, over those of the guest's own environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<(Bytes, Bytes)>,
    /// Milliseconds from now to live; earlier than before is possible too. Absent: as long as the hard limit allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
    /// Milliseconds from now that no renewal exceeds. A hard limit that there is already stays. Absent: no new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hard_limit_ms: Option<u64>,
    /// Milliseconds without a use after which the sandbox ends, counted from now. Absent: as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
}

/// A signal to a command by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SignalCommand {
    /// The command's number, from [`CommandInfo`](crate::CommandInfo).
    pub id: u64,
    /// The signal's name, without `SIG`.
    pub signal: String,
    /// To all descendants of the command instead of its process group.
    #[serde(skip_serializing_if = "is_false")]
    pub all: bool,
}

/// Starts a detached command. Its input, if it has one, follows in frames; it starts when the input is there as a
/// whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DetachedStart {
    /// By which it is found again: 1 to 64 ASCII letters, digits, `.`, `_` and `-`, the first a letter or digit.
    pub key: String,
    /// The command. It has no terminal.
    pub run: Run,
    /// Bytes of each output stream that are kept; what comes later is dropped and counted. Absent: the guest's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_limit: Option<u64>,
}

/// A detached command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DetachedKey {
    /// Its key.
    pub key: String,
}

/// Waits for a detached command's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DetachedWait {
    /// Its key.
    pub key: String,
    /// Milliseconds to wait at most; the answer then says that it runs. Absent: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// An output stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// The standard output.
    #[default]
    Stdout,
    /// The standard error.
    Stderr,
}

/// Reads what a detached command has written by now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DetachedRead {
    /// Its key.
    pub key: String,
    /// Which stream.
    pub stream: Stream,
    /// The first byte's place in the stream.
    pub offset: u64,
    /// Bytes at most. Absent: what there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// Hands over what a detached command has written and writes until it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DetachedFollow {
    /// Its key.
    pub key: String,
    /// Where to begin in the standard output.
    pub stdout: u64,
    /// Where to begin in the standard error.
    pub stderr: u64,
}

/// A signal to a detached command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DetachedSignal {
    /// Its key.
    pub key: String,
    /// The signal's name, without `SIG`.
    pub signal: String,
    /// To all descendants of the command instead of its process group.
    #[serde(skip_serializing_if = "is_false")]
    pub all: bool,
}

/// Waits until something listens. No connection is made for that, as far as the kernel tells who listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitForPort {
    /// On what.
    pub target: Target,
    /// Milliseconds to wait at most. Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

// Serde wants a reference.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_false(value: &bool) -> bool {
    !value
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Request {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_is_absent_has_a_default() {
        let Request::Run(run) = parse("{\"op\":\"run\",\"argv\":[\"true\"]}") else { panic!("no run") };
        assert_eq!(run, Run { argv: vec!["true".into()], ..Run::default() });
        assert_eq!(parse("{\"op\":\"renew\"}"), Request::Renew(Renew::default()));
        let Request::DetachedStart(start) = parse("{\"op\":\"detached_start\",\"key\":\"k\"}") else {
            panic!("no start")
        };
        assert_eq!((start.key.as_str(), start.output_limit), ("k", None));
    }

    #[test]
    fn what_is_unknown_is_ignored() {
        assert_eq!(parse("{\"op\":\"hello\",\"later\":{\"a\":[1,2]}}"), Request::Hello);
        assert_eq!(parse("{\"op\":\"levitate\",\"height\":3}"), Request::Unknown);
        let Request::Run(run) = parse("{\"later\":1,\"op\":\"run\",\"argv\":[],\"more\":null}") else {
            panic!("no run")
        };
        assert_eq!(run, Run::default());
    }

    #[test]
    fn a_run_round_trips() {
        let run = Run {
            argv: vec!["sh".into(), vec![0xff, 0xfe].into()],
            shell: Some("echo $1".into()),
            guest_tool: true,
            env: vec![("A".into(), vec![0x80].into())],
            clear_env: true,
            cwd: Some("/".into()),
            user: Some(User::Ids { uid: 1, gid: 2, groups: vec![3] }),
            umask: Some(0o22),
            limits: vec![Limit { resource: "nofile".to_owned(), soft: Some(1), hard: None }],
            stdin: Input::Frames,
            stdout: Output::Discarded,
            stderr: Output::Merged,
            terminal: Some(Terminal::default()),
            time_limit_ms: Some(5),
            announce_late: true,
        };
        let request = Request::Run(run);
        assert_eq!(parse(&serde_json::to_string(&request).unwrap()), request);
    }

    #[test]
    fn the_short_form_is_short() {
        let request = Request::Run(Run { argv: vec!["true".into()], ..Run::default() });
        assert_eq!(serde_json::to_string(&request).unwrap(), "{\"op\":\"run\",\"argv\":[\"true\"]}");
        let user = parse("{\"op\":\"run\",\"argv\":[\"id\"],\"user\":{\"name\":\"nobody\"}}");
        assert!(matches!(user, Request::Run(Run { user: Some(User::Name(name)), .. }) if name == "nobody"));
    }
}
