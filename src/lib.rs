//! Disposable machines on your own Kubernetes.
mod cluster;
mod config;
mod deadline;
mod error;
mod runtime;
mod spec;
pub use config::{Config, Transport};
pub use error::{Cause, Error, ErrorKind, PartialOutput, Result, Verdict};
pub use spec::SandboxSpec;
