//! The guest as it runs in a sandbox: its real program, process 1 of a PID namespace, driven by OpenSSH's clients and
//! by a client of the command channel over libssh2. Making the namespace takes root.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod attacks;
mod client;
mod clients;
mod commands;
mod detached;
mod guest;
mod lifetime;
mod limits;
mod people;
#[path = "../ssh/python.rs"]
mod python;
mod users;
