//! The keeper of commands.
