//! Disposable machines on your own Kubernetes: create a Pod with SSH, run commands in it, move files, delete it.
//!
//! Nothing else has to be installed in the cluster, and every call blocks: this is a library for programs with threads,
//! on Linux. Internally, a tokio runtime talks to Kubernetes, and libssh2 to the sandboxes.
//!
//! ```no_run
//! use sandbox::{Client, SandboxSpec};
//!
//! let client = Client::from_env()?;
//! let sandbox = client.create(&SandboxSpec::new())?;
//! println!("{}", sandbox.execute("uname -a")?.stdout_text());
//! # sandbox.delete()?;
//! # Ok::<(), sandbox::Error>(())
//! ```
//!
//! - [`Config`] says where Kubernetes is and how long to wait; its docs have the one table of settings.
//! - [`Client`] creates, attaches to, lists, deletes and reaps sandboxes, and offers the operations by name.
//! - [`SandboxSpec`] says what to create: image, environment, limits, lifetime, or any field of the Pod.
//! - [`Sandbox`] is the handle: [`Command`]s after `std::process`, [`Files`] after `std::fs`, information, renewal,
//!   deletion.
//! - [`Sandbox::connect`] and [`Sandbox::forward`] reach what listens in a sandbox: a [`Target`].
//! - [`interruptible`] ends calls from within, such as at Ctrl-C.
//! - [`Error`] has an [`ErrorKind`] to branch on, and a [`Verdict`] where Kubernetes knows the cause.
//!
//! # What can be relied on
//!
//! - **A command runs at most once.** Until the request is sent, a failed connection is replaced silently. Afterwards
//!   nothing is retried: a lost connection is [`ErrorKind::OutcomeUnknown`].
//! - **An exit code is what the sandbox reported.** A signal is a signal; a status that never came is an error, not 0.
//! - **A detached command starts once per key** and needs nobody to stay connected; any process finds it again.
//! - **A timeout kills**, in the sandbox, and says whether that is proved. The output so far is in the error.
//! - **A file arrives whole or not at all**, and a directory too, as long as it is a new one.
//! - **A download stays inside its target**, whatever the sandbox sends: no name or link leads out of it.
//! - **A failure names its cause**, in the words of Kubernetes, about a second after the cluster knows it.
//! - **An end is known at once**: one watch per client cuts the calls under way and gives the next ones the cause.
//! - **The other side is the right one.** The host key is learned over the authenticated API server and pinned.
//! - **A broken connection is never reported as the end of its data**, on either side; a [`Forward`] ends with its Pod.
//! - **Nothing is left behind**: a sandbox that is not renewed stops by itself, and [`Client::reap`] deletes it.
//!
//! # Threads, forks, async
//!
//! [`Client`] and [`Sandbox`] are cheap to clone and may be used from any number of threads. Calls in a forked child
//! fail with [`ErrorKind::Forked`], those in async code with [`ErrorKind::AsyncContext`].
//!
//! A program may exit while other threads are in calls or a [`Child`] runs.
//!
//! # Logging
//!
//! Through [`log`](https://docs.rs/log), under the target `sandbox`: `info` for sandboxes that come and go and
//! connections of a [`Forward`], `debug` for each request and connection. No line contains a key, a token, or a
//! command's arguments, environment or input. A program without a logger of its own calls [`Config::init_logging`] or
//! [`set_log_handler`].
//!
//! # Features
//!
//! | feature | default | |
//! |---|---|---|
//! | `kubernetes-1-34` | on | chooses the version of `k8s-openapi`, of which a program has exactly one. A program that has chosen another leaves this out: only fields that all versions have are used |
//! | `serde` | off | `Serialize` for [`SandboxInfo`], [`Verdict`], [`TreeReport`] and the enums with stable names |
//! | `fast-ciphers` | off | libssh2's ciphers by OpenSSL and a packet at a time, which takes a fraction of the processor's time in large transfers. It replaces them for all that uses libssh2 in the program, such as `git2`, and needs exactly one version of `libssh2-sys` |
//! | `vendored` | off | OpenSSL and zlib are built and linked in, which takes perl, make and minutes. That OpenSSL reads no `openssl.cnf`. Else the system's are used, and the program shares their state with this library, such as the queue of errors |
//! | `cli` | off | the command `sandbox` (`cargo install --path . --features cli`), with `fast-ciphers` |
//!
//! `libsandbox.so`, `libsandbox.a` and the packages have `fast-ciphers` and `vendored`. The oldest Rust that builds
//! this is the `rust-version` of Cargo.toml, which is at most the newest but two when a version is released.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "sandbox runs on Linux only: it relies on Linux's system calls and error numbers. On another system, use it in a \
     container or a virtual machine"
);

mod changes;
mod client;
mod cluster;
mod command;
mod config;
mod context;
mod creation;
mod deadline;
mod doctor;
mod dotenv;
mod endpoint;
mod error;
mod exit_status;
mod fd;
mod ffi;
mod files;
mod fork;
mod guest;
mod interrupt;
mod keys;
mod link;
mod logging;
mod openssl_end;
mod pool;
mod ports;
mod registry;
mod runtime;
mod sandbox;
mod spec;
mod ssh;
#[cfg(test)]
mod testing;
mod text;
mod usage;

pub use changes::{Change, Changes};
pub use client::{Client, Stats};
pub use cluster::{ChangeKind, Filter, Phase};
pub use command::{Child, ChildStderr, ChildStdin, ChildStdout, Detached, Position};
pub use command::{Command, Output, OutputStream, Stdin};
pub use config::{Config, Transport};
pub use doctor::{Check, CheckState, Report, diagnose};
pub use error::{Cause, Error, ErrorKind, PartialOutput, Result, Verdict};
pub use exit_status::ExitStatus;
pub use files::{DirEntry, File, Files, Metadata, Note, OpenOptions, Progress, Transfer, Transferred, TreeReport};
pub use guest::Guest;
pub use interrupt::interruptible;
pub use keys::AuthorizedKey;
pub use logging::{LogHandler, LogLevel, LogLine, set_log_handler};
pub use pool::{Claim, Filled, OnMiss, Pool, PoolCounters, PoolOptions, PoolStatus};
pub use ports::{Forward, Local, Target};
pub use sandbox::{CreateTimings, DeleteOnDrop, Origin, Sandbox, SandboxInfo, SessionCounts};
pub use spec::SandboxSpec;
pub use usage::Usage;

/// What may be used and handed over between threads is a part of the API.
const _: () = {
    const fn is_shared<T: Send + Sync + 'static>() {}
    const fn is_sent<T: Send + 'static>() {}
    is_shared::<Client>();
    is_shared::<Config>();
    is_shared::<SandboxSpec>();
    is_shared::<Filter>();
    is_shared::<Changes>();
    is_shared::<Sandbox>();
    is_shared::<DeleteOnDrop>();
    is_shared::<Forward>();
    is_shared::<Pool>();
    is_shared::<Claim>();
    is_shared::<Command>();
    is_shared::<Child>();
    is_shared::<ChildStdin>();
    is_shared::<ChildStdout>();
    is_shared::<ChildStderr>();
    is_shared::<Detached>();
    is_shared::<Files<'static>>();
    is_shared::<OpenOptions>();
    is_shared::<Output>();
    is_shared::<SandboxInfo>();
    is_shared::<TreeReport>();
    is_shared::<Report>();
    is_shared::<Error>();
    is_sent::<File>();
    is_sent::<Stdin>();
};
