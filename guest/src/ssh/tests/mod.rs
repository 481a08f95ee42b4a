//! Tests of the transport in memory, most of them with a client that does what no proper one would.
#![allow(clippy::expect_used, reason = "tests")]

mod channels;
mod client;
mod exchange;
mod fuzzing;
mod hostile;
mod login;
mod packets;
mod values;
