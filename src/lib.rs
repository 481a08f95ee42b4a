//! Disposable machines on your own Kubernetes.
mod client;
mod cluster;
mod command;
mod config;
mod core;
mod deadline;
mod endpoint;
mod error;
mod ffi;
mod files;
mod nonce;
mod runtime;
mod sandbox;
mod spec;
mod ssh;

pub use client::{Client, Stats};
pub use cluster::Phase;
pub use command::{Command, ExitStatus, Output, OutputStream};
pub use config::{Config, Transport};
pub use error::{Cause, Error, ErrorKind, PartialOutput, Result, Verdict};
pub use files::Files;
pub use sandbox::{CreateTimings, Sandbox, SandboxInfo};
pub use spec::SandboxSpec;
