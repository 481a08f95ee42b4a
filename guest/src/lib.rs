//! The main process of a sandbox.

pub mod applet;
mod command;
pub mod connect;
pub mod control;
mod detached;
mod environment;
mod expiry;
mod identity;
mod idle;
pub mod install;
mod keys;
mod limits;
mod log;
#[cfg(test)]
mod mutation;
mod outcome;
pub mod process;
pub mod server;
pub mod sftp;
pub mod ssh;
mod store;
pub mod sys;
pub mod tree;
