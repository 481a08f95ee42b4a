//! The main process of a sandbox.

pub mod applet;
pub mod process;
pub mod sftp;
pub mod ssh;
pub mod sys;
pub mod tree;
